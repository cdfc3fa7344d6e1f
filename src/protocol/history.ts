// What is written down of each version of the protocol in history/N.json, so that a change of a schema cannot go unseen.

import { createHash } from 'node:crypto';
import { MESSAGES } from './messages.js';
import { PROTOCOL_VERSION, subprotocolOf, VERSION_CHANGES } from './version.js';

export interface HistoryEntry {
  version: number;
  subprotocol: string;
  changes: string;
  /** SHA-256 of `messages`: an entry that is edited later shows. */
  digest: string;
  messages: Record<string, unknown>;
}

/** Of the version that the schemas of today are. */
export function currentEntry(): HistoryEntry {
  const messages = Object.fromEntries(
    Object.entries(MESSAGES).map(([type, { schema, from, numbered }]) => [
      type,
      { from, numbered, schema: plain(schema) },
    ]),
  );
  return {
    version: PROTOCOL_VERSION,
    subprotocol: subprotocolOf(PROTOCOL_VERSION),
    changes: VERSION_CHANGES.at(-1)!,
    digest: digestOf(messages),
    messages,
  };
}

export function digestOf(messages: HistoryEntry['messages']): string {
  return createHash('sha256').update(JSON.stringify(messages)).digest('hex');
}

/** As JSON has it, without what TypeBox keeps for itself. */
function plain(schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema));
}
