// The one table of what can be wrong between two peers: the code that is told and logged, and the close code of WebSocket that ends the
// connection. Append only: numbers go over the wire.

/** `close` null: only the message is refused, the connection goes on. */
export const FAULTS = {
  malformed: { close: 4000, meaning: 'No JSON, or it does not fit the schema of its type.' },
  'too-large': { close: 1009, meaning: 'A message, or what is nested in it, exceeds the limits.' },
  'binary-frame': { close: 1003, meaning: 'Messages are text.' },
  'frame-invalid': { close: 1002, meaning: 'The frame breaks the rules of WebSocket.' },
  unauthenticated: {
    close: 4001,
    meaning: 'No certificate or token says who this is. Over HTTP: status 401.',
  },
  'hello-expected': { close: 4002, meaning: 'Something came before the hello was answered.' },
  'hello-late': { close: 4003, meaning: 'No hello in time.' },
  'hello-repeated': { close: 4004, meaning: 'A second hello in one connection.' },
  'wrong-host': { close: 4005, meaning: 'The name is not the one in the certificate or token.' },
  'wrong-cell': { close: 4006, meaning: 'The cell is not the one in the certificate or token.' },
  'wrong-store': { close: 4007, meaning: 'An answer speaks for another store than the hello did.' },
  'identity-in-use': { close: 4008, meaning: 'A host of this name is connected. Tried again later.' },
  superseded: { close: 4009, meaning: 'The same host has come again, newer than this connection.' },
  'version-unsupported': {
    close: 4010,
    meaning: 'No version of the protocol in common; `versions` says what is spoken. Over HTTP: status 426.',
  },
  'not-leader': { close: 4011, meaning: 'Another coordinator leads; `leader` says which, if it is known.' },
  'not-admitted': { close: 4012, meaning: 'The coordinator does not take this host.' },
  busy: { close: 4013, meaning: 'Not now. Tried again later.' },
  'out-of-order': { close: 4014, meaning: 'A number was left out, or what was never sent is acknowledged.' },
  'wrong-direction': { close: 4015, meaning: 'A message that only the other side sends.' },
  'reply-mismatch': {
    close: 4016,
    meaning: 'The reply is of another kind, or of another volume, than its request.',
  },
  silent: { close: 4017, meaning: 'Nothing was heard for too long.' },
  'slow-reader': { close: 4018, meaning: 'The peer does not read what it is sent.' },
  stopping: { close: 1001, meaning: 'The program ends.' },
  duplicate: { close: null, meaning: 'A number came a second time; the message was ignored.' },
  'request-id-reused': { close: null, meaning: 'The id belongs to another request.' },
  'too-many-requests': { close: null, meaning: 'Too many are being worked on. Tried again later.' },
  internal: { close: 1011, meaning: 'A defect of this program.' },
} as const satisfies Record<string, { close: number | null; meaning: string }>;

export type FaultCode = keyof typeof FAULTS;

/** Wrong, and why, in one sentence. Says nothing that the peer has sent but names of keys. */
export interface Fault {
  code: FaultCode;
  message: string;
}

export function fault(code: FaultCode, message: string): Fault {
  return { code, message };
}

/** The code of a close frame; undefined: one that is not of this table. */
export function faultOfClose(close: number): FaultCode | undefined {
  return (Object.keys(FAULTS) as FaultCode[]).find((code) => FAULTS[code].close === close);
}
