// What the coordinator's machine wants done, and what it makes of a hello.

import { encode } from './codec.js';
import type { LogEvent, Told } from './effects.js';
import { FAULTS, type Fault, type FaultCode, fault } from './faults.js';
import type { Hello, Refused, Reply, Request, Welcome } from './messages.js';
import { SPOKEN_VERSIONS } from './version.js';

/** A connection, as whoever drives the machine numbers it. */
export type ConnectionId = number;

/** What the coordinator makes of a hello. */
export type Admission =
  | { admit: true; regressed: boolean; leader: Welcome['leader']; highest: Welcome['highest'] }
  | {
      admit: false;
      code: 'not-leader' | 'not-admitted' | 'busy';
      message: string;
      leader: Refused['leader'];
      retryAfterMs: number | null;
    };

export type CoordinatorEffect =
  | { do: 'send'; connection: ConnectionId; text: string }
  | { do: 'close'; connection: ConnectionId; code: number; reason: FaultCode }
  /** To be answered by `admitted`. */
  | { do: 'admit'; connection: ConnectionId; hello: Hello; resuming: boolean }
  | { do: 'joined'; host: string; hello: Hello; resumed: boolean }
  /** Its connection is gone; it may come back to its session. */
  | { do: 'lost'; host: string }
  /** Its session is over. */
  | { do: 'left'; host: string; because: string }
  | { do: 'request'; host: string; request: Request }
  | { do: 'settle'; host: string; id: string; reply: Reply | null }
  | { do: 'told'; host: string; told: Told }
  | LogEvent;

/** A host speaks for itself only. */
export function speaksForItself(reply: Reply, { host, cell, storeId }: Hello): Fault | undefined {
  if (reply.type !== 'answer') return undefined;
  const { answer } = reply;
  if (answer.host !== host) return fault('wrong-host', 'An answer speaks for another host.');
  if (answer.cell !== cell) return fault('wrong-cell', 'An answer speaks for another cell.');
  if (answer.storeId !== storeId) return fault('wrong-store', 'An answer speaks for another store.');
  return undefined;
}

/** The last words to a connection that was never admitted. */
export function refusal(
  connection: ConnectionId,
  code: FaultCode,
  message: string,
  more: Pick<Refused, 'leader' | 'retryAfterMs'> = { leader: null, retryAfterMs: null },
): CoordinatorEffect[] {
  const text = encode({ type: 'refused', code, message, versions: [...SPOKEN_VERSIONS], ...more });
  return [
    { do: 'send', connection, text },
    { do: 'close', connection, code: FAULTS[code].close ?? FAULTS.internal.close, reason: code },
  ];
}

/** The last words to one that was. */
export function closing(connection: ConnectionId, { code, message }: Fault): CoordinatorEffect[] {
  return [
    { do: 'send', connection, text: encode({ type: 'error', code, message, id: null }) },
    { do: 'close', connection, code: FAULTS[code].close ?? FAULTS.internal.close, reason: code },
  ];
}
