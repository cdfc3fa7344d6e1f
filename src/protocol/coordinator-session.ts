// The coordinator's record of the session of one host. It outlives the connection for a while.

import type { Conversation } from './conversation.js';
import type { ConnectionId, CoordinatorEffect } from './coordinator-effects.js';
import type { ConversationEffect } from './effects.js';
import type { Hello } from './messages.js';

export interface Session {
  /** Known to its host only. */
  id: string;
  host: string;
  hello: Hello;
  /** Null: it has none now. */
  connection: ConnectionId | null;
  /** When it lost its connection. */
  lostMs: number;
  conversation: Conversation;
}

/** The same run of the same host, which lacks nothing that was let go. */
export function isTakenUpBy(session: Session, { storeId, boot, resume }: Hello): boolean {
  if (!resume || session.id !== resume.session) return false;
  if (session.hello.storeId !== storeId || session.hello.boot !== boot) return false;
  return session.conversation.canResumeFrom(resume.received);
}

/** What a session wants done, as what the coordinator has to do. */
export function carried(
  { host, hello, connection }: Session,
  effect: Exclude<ConversationEffect, { do: 'break' | 'goodbye' }>,
): CoordinatorEffect[] {
  switch (effect.do) {
    case 'send':
      return connection === null ? [] : [{ do: 'send', connection, text: effect.text }];
    case 'request':
      return [{ do: 'request', host, request: effect.request }];
    case 'settle':
      return [{ do: 'settle', host, id: effect.id, reply: effect.reply }];
    case 'told':
      return [{ do: 'told', host, told: effect.told }];
    case 'log':
      return [{ ...effect, facts: { host, cell: hello.cell, ...effect.facts } }];
  }
}
