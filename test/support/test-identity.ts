// An identity for tests: the first 8 bytes of a disk. What is there in the middle of a sync can be watched.
import { type Reading, readAt, type Writing, writeAt } from '../../src/identity/steps.js';
import type { DiskIo, SyncIdentity } from '../../src/operations/sync-types.js';

function* identityOf(): Reading<string> {
  return (yield* readAt(0n, 8)).toString('hex');
}

function* put(identity: string): Writing<void> {
  yield* writeAt(0n, Buffer.from(identity, 'hex'));
}

async function all(disks: readonly DiskIo[]): Promise<string[]> {
  const found: string[] = [];
  for (const disk of disks) found.push(await disk.run(identityOf()));
  return found;
}

export interface TestIdentity extends SyncIdentity {
  /** Called at the beginning of each step. */
  restore(disks: readonly DiskIo[], captured: readonly string[]): Promise<unknown>;
  onStep: (step: 'capture' | 'restore' | 'verify') => void | Promise<void>;
}

export function testIdentity(): TestIdentity {
  return {
    onStep: () => undefined,
    async capture(disks) {
      await this.onStep('capture');
      const captured = await all(disks);
      return { captured, restore: (disks) => this.restore(disks, captured) };
    },
    async restore(disks, captured) {
      await this.onStep('restore');
      const found = await all(disks);
      for (const [index, disk] of disks.entries())
        if (found[index] !== captured[index]) await disk.run(put(captured[index]!));
      return captured;
    },
    async verify(disks, restored) {
      await this.onStep('verify');
      const found = await all(disks);
      if (JSON.stringify(found) !== JSON.stringify(restored))
        throw new Error(`identity ${JSON.stringify(found)} instead of ${JSON.stringify(restored)}`);
    },
  };
}
