// Events of the machines as lines of the log: one sentence each, facts beside it.

import type { LogEvent } from './effects.js';
import { FAULTS, type FaultCode } from './faults.js';

export interface Log {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Events that are no faults of the table. */
const SENTENCES: Readonly<Record<string, string>> = {
  'host-joined': 'a host has joined',
  'host-left': 'the session of a host has ended',
  'host-not-admitted': 'a host was not admitted',
  'connection-lost': 'a connection was lost',
  'connection-superseded': 'a host has come again: its old connection was closed',
  'admission-late': 'a hello could not be looked at in time',
  'request-replayed': 'a request came again and was not carried out again',
  'reply-late': 'a reply came that nobody waits for',
  'clock-jumped': 'the time of day of a peer was set',
  'own-clock-jumped': 'the time of day of this machine was set',
  'peer-complained': 'the peer did not take a message',
  'coordinator-stops': 'the coordinator stops',
  'tls-refused': 'a connection failed in its TLS handshake',
  'dial-failed': 'no coordinator answered at this address',
  'upgrade-refused': 'a coordinator did not take the connection',
  joined: 'a coordinator has taken this host',
  refused: 'a coordinator did not take this host',
};

export function writeTo(log: Log, { level, event, facts }: LogEvent): void {
  const sentence = SENTENCES[event] ?? FAULTS[event as FaultCode]?.meaning ?? event;
  log[level]({ event, ...facts }, sentence);
}
