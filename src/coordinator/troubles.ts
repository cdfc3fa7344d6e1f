// Why what nobody waits for does not go on, and what somebody can do about it: what looks after volumes and what ends operations says so here, and
// the verbs that show a volume show it.
//
// In memory only: whoever leads next tries everything at once, and finds by itself what still stands in the way.

import { asCellblockError } from '../base/errors.js';
import type { CommandOutcome } from '../model/cell/resolution.js';
import type { Clock } from '../protocol/timing.js';
import { timeOf } from './ports.js';

/** Two sentences. */
export interface Why {
  because: string;
  hint: string;
}

export interface Trouble extends Why {
  /** The operation that is to be ended; null: the volume is to be looked after. */
  operation: string | null;
  /** When it began, and the last try; ISO 8601. */
  since: string;
  at: string;
  /** Tries since it began. */
  tries: number;
}

export class Troubles {
  readonly #clock: Clock;
  /** By volume, then by operation. */
  readonly #troubles = new Map<string, Map<string | null, Trouble>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Null: nothing stands in the way any more. */
  note(volume: string, operation: string | null, why: Why | null): void {
    const all = this.#troubles.get(volume) ?? new Map<string | null, Trouble>();
    const before = all.get(operation);
    if (why === null) all.delete(operation);
    else {
      const at = timeOf(this.#clock);
      const tries = (before?.tries ?? 0) + 1;
      all.set(operation, { ...why, operation, since: before?.since ?? at, at, tries });
    }
    if (all.size > 0) this.#troubles.set(volume, all);
    else this.#troubles.delete(volume);
  }

  of(volume: string): Trouble[] {
    return [...(this.#troubles.get(volume)?.values() ?? [])];
  }
}

export function whyOf(error: unknown): Why {
  const { message, hint } = asCellblockError(error);
  return { because: message, hint };
}

export function whySilent(...hosts: readonly string[]): Why {
  const many = hosts.length > 1;
  return {
    because: `${many ? 'Hosts' : 'Host'} ${hosts.join(' and ')} ${many ? 'do' : 'does'} not answer.`,
    hint: `Look whether ${many ? 'their agents run and reach' : 'its agent runs and reaches'} the coordinator; it goes on by itself then. One that never comes back is given up with \`cellblock host forget\`.`,
  };
}

/** Of a host that was told something. */
export function whyNotDone(
  host: string,
  command: string,
  outcome: Exclude<CommandOutcome, { kind: 'done' }>,
): Why {
  if (outcome.kind === 'silent') return whySilent(host);
  const because = outcome.kind === 'refused' ? outcome.because : `${outcome.code}: ${outcome.message}`;
  return {
    because: `Host ${host} ${outcome.kind === 'refused' ? 'refuses' : 'could not do'} \`${command}\`: ${withoutDot(because)}.`,
    hint: `It is tried again by itself; the log of ${host} says more.`,
  };
}

function withoutDot(sentence: string): string {
  return sentence.replace(/\.$/, '');
}
