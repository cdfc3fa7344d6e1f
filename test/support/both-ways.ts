// Every fault answered both ways, by scans of every line alone and by exact keys and tables of regions wherever there can be any, from
// one LevelDB snapshot: there must be no difference. An answer that differs is refused, and told like any fault that cannot be answered.

import { deepStrictEqual } from 'node:assert';
import type { Device } from '../../src/operations/devices.js';
import { Faults } from '../../src/operations/faults.js';
import type { CursorSource } from '../../src/operations/line-cursor.js';
import { BLOCKS, quiet, type Store } from './store-harness.js';

/** Windows asked besides, as the data plane asks more than one. */
const WIDE = 8;

/** Of the process that runs now. */
export function answerBothWays(store: Store): void {
  const { catalog, devices, client, faults } = store.operations.parts;
  const made = (options: { scannedLines: number; longChain: number }) =>
    new Faults(catalog, devices, client, quiet, { blocksPerWindow: BLOCKS, ...options });
  const never = Number.POSITIVE_INFINITY;
  const keys = made({ scannedLines: 0, longChain: 0 });
  const scans = made({ scannedLines: never, longChain: never });
  const both = async (device: Device, first: bigint, count: number, source: CursorSource) => {
    const range = { first, count };
    const asked = [keys.collect(device, range, source), scans.collect(device, range, source)] as const;
    const [byKeys, byScans] = await Promise.all(asked);
    deepStrictEqual(byKeys, byScans, `windows ${first} and ${count} from there of handle ${device.handle}`);
    return byKeys;
  };
  faults.collect = async (device, { first, count }, source) => {
    // Both begin in this turn.
    const wide = both(device, first - (first % BigInt(WIDE)), WIDE, source);
    const [wanted] = await Promise.all([both(device, first, count, source), wide]);
    return wanted;
  };
}
