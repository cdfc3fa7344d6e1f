// What the machines of both sides want done. They have no socket, no clock and no program behind them; whoever drives them has.

import type { Fault } from './faults.js';
import type { MessageOf, Reply, Request } from './messages.js';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** An event for the log. Never holds what a peer sent, but names and numbers that were checked. */
export interface LogEvent {
  do: 'log';
  level: LogLevel;
  event: string;
  facts: Record<string, string | number | boolean | null>;
}

export type Told = MessageOf<'progress'> | MessageOf<'event'>;

/** Of an established session. */
export type ConversationEffect =
  | { do: 'send'; text: string }
  /** The peer broke the rules, or is gone: the connection ends. */
  | { do: 'break'; fault: Fault }
  /** The peer has said goodbye: the session ends. */
  | { do: 'goodbye'; reason: string }
  /** To be answered by `reply`. */
  | { do: 'request'; request: Request }
  /** Null: silence. It may have been done. */
  | { do: 'settle'; id: string; reply: Reply | null }
  | { do: 'told'; told: Told }
  | LogEvent;

export function log(level: LogLevel, event: string, facts: LogEvent['facts'] = {}): LogEvent {
  return { do: 'log', level, event, facts };
}
