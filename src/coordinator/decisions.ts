// The last decisions of each volume, kept for `route show --explain`.

import type { Decision } from '../model/cell/decide.js';
import type { Step } from '../model/cell/steps.js';
import type { Change, CoordinatorStore, DecisionRecord } from './store.js';

export const DECISIONS_KEPT = 16;

const NUMBER_DIGITS = 12;

export class DecisionBook {
  readonly #store: CoordinatorStore;
  /** The number of the next one, of volumes that were looked at. */
  readonly #next = new Map<string, number>();

  constructor(store: CoordinatorStore) {
    this.#store = store;
  }

  /** What has to be stored: this one, and that the one that is too many is gone. */
  async note(record: Omit<DecisionRecord, 'number'>): Promise<Change[]> {
    const { volume } = record;
    const number = this.#next.get(volume) ?? (await this.#lastNumber(volume)) + 1;
    this.#next.set(volume, number + 1);
    const changes: Change[] = [
      { kind: 'decision', key: keyOf(volume, number), value: { ...record, number } },
    ];
    if (number > DECISIONS_KEPT)
      changes.push({ kind: 'decision', key: keyOf(volume, number - DECISIONS_KEPT), value: null });
    return changes;
  }

  /** The oldest first. */
  of(volume: string): Promise<DecisionRecord[]> {
    return this.#store.list('decision', `${volume}/`);
  }

  /** The volume is no more. */
  async forget(volume: string): Promise<Change[]> {
    const last = (this.#next.get(volume) ?? (await this.#lastNumber(volume)) + 1) - 1;
    this.#next.delete(volume);
    return Array.from({ length: Math.min(last, DECISIONS_KEPT) }, (_, at) => ({
      kind: 'decision',
      key: keyOf(volume, last - at),
      value: null,
    }));
  }

  /** 0: there is none. */
  async #lastNumber(volume: string): Promise<number> {
    return (await this.of(volume)).at(-1)?.number ?? 0;
  }
}

const keyOf = (volume: string, number: number) => `${volume}/${String(number).padStart(NUMBER_DIGITS, '0')}`;

export function recordOf(
  { volume, at, operation, result }: Pick<DecisionRecord, 'volume' | 'at' | 'operation' | 'result'>,
  { rule, trials, x, y, steps }: Decision,
): Omit<DecisionRecord, 'number'> {
  return { volume, at, operation, rule, trials, x, y, steps: steps.map(stepText), result };
}

/** As an operator reads it; x and y are the sides of the route. */
export function stepText(step: Step): string {
  switch (step.do) {
    case 'perform':
      return `do what is asked at ${step.at}`;
    case 'seal':
      return `seal ${step.at}, released to epoch ${step.releasedTo}`;
    case 'release':
      return `release ${step.at} to epoch ${step.epoch}`;
    case 'activate':
      return `activate ${step.at} at epoch ${step.epoch}`;
    case 'journal':
      return `note that the move is ${step.phase}`;
    case 'route':
      return `route the volume to ${step.active} at epoch ${step.epoch}`;
    case 'prune-alternate':
      return 'take y out of the route';
    case 'demote':
      return `note that the copy of ${step.at} is not complete any more`;
    case 'extend':
      return `have ${step.at} copy on to the new last snapshot`;
    case 'repair-ticket':
      return `note that somebody has to look after ${step.at}`;
    case 'must-seal':
      return `note that ${step.at} has to be sealed, released to epoch ${step.releasedTo}, before it serves`;
    case 'probe-again':
      return 'ask both again';
  }
}
