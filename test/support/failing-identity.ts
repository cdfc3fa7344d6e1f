// A test identity that fails where a test says, and the limit of holds, which passes when a test says so and by no clock.
import { writeAt } from '../../src/identity/steps.js';
import type { DiskIo, SyncIdentity } from '../../src/operations/sync-types.js';
import { testIdentity } from './test-identity.js';

/** `half-written`: something else stands there when it fails. `expire`: the hold does, in the middle of restoring. */
export const FAILING_STEPS = ['capture', 'restore', 'half-written', 'verify', 'expire'] as const;
export type FailingStep = (typeof FAILING_STEPS)[number];

/** Thrown by identities that fail on purpose. */
export class OnPurpose extends Error {}

const FOREIGN = Buffer.from('7777770000000000', 'hex');

/** `expire` is called in the middle of restoring, when that is where it is to fail; `atStep` at the beginning of every step. */
export function failingIdentity(
  at: FailingStep | null,
  {
    expire,
    atStep,
  }: { expire?: () => void; atStep?: (step: 'capture' | 'restore' | 'verify') => void | Promise<void> } = {},
): SyncIdentity {
  const identity = testIdentity();
  identity.onStep = (step) => {
    const waiting = atStep?.(step);
    if (step === at) throw new OnPurpose(step);
    return waiting;
  };
  const { restore } = identity;
  identity.restore = async (disks, captured) => {
    if (at === 'half-written') await writeForeign(disks);
    if (at === 'expire') expire?.();
    return restore.call(identity, disks, captured);
  };
  return identity;
}

async function writeForeign(disks: readonly DiskIo[]): Promise<never> {
  for (const disk of disks) await disk.run(writeAt(0n, FOREIGN));
  throw new OnPurpose('half-written');
}

export class HoldLimit {
  /** For the options of a store; no other timer of this process is set to it. */
  readonly ms = 1_234_567;
  readonly #setTimeout = globalThis.setTimeout;
  #pass: () => void = () => undefined;

  install(): void {
    globalThis.setTimeout = ((callback: () => void, ms?: number, ...more: unknown[]) => {
      if (ms !== this.ms) return this.#setTimeout(callback, ms, ...(more as []));
      this.#pass = callback;
      return undefined;
    }) as never;
  }

  uninstall(): void {
    globalThis.setTimeout = this.#setTimeout;
  }

  /** That of the newest hold. */
  pass(): void {
    this.#pass();
  }
}
