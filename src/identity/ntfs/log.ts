// Whether the log of NTFS has something to replay. If so, file records must not be changed by others: replay knows their bytes as they were.
// Invariant: in doubt there is something to replay.

import { type Reading, readAt } from '../steps.js';
import type { Volume } from './boot.js';
import { attributeOf, type FileRecord, readRecord } from './record.js';

const LOG_FILE = 2;
const DATA = 0x80;
const PAGE = 4096;
const NOBODY = 0xffff;
const CLEAN = 2;

export function* isLogClean(volume: Volume): Reading<boolean> {
  const record = yield* readRecord(volume.tableAt, volume.recordBytes, LOG_FILE);
  const first = record && firstRun(record);
  if (first === null || first.cluster + first.clusters > volume.clusters) return false;
  if (first.clusters * volume.clusterBytes < BigInt(2 * PAGE)) return false;
  const pages = yield* readAt(first.cluster * volume.clusterBytes, 2 * PAGE);
  if (pages.readUInt32LE(0) === 0xffffffff) return true; // never used, or emptied by a repair
  const states = [pages.subarray(0, PAGE), pages.subarray(PAGE)].map(restartOf).filter((one) => one !== null);
  states.sort((a, b) => (a.sequence < b.sequence ? 1 : -1));
  return states[0]?.clean ?? false;
}

/** Clusters and where they begin. */
function firstRun({ data, attributes }: FileRecord): { clusters: bigint; cluster: bigint } | null {
  const attribute = attributeOf({ data, attributes, end: 0 }, DATA);
  if (attribute === null || attribute.resident) return null;
  const list = data.subarray(
    attribute.at + data.readUInt16LE(attribute.at + 32),
    attribute.at + attribute.bytes,
  );
  const [counted, placed] = [(list[0] ?? 0) & 15, (list[0] ?? 0) >> 4];
  if (counted === 0 || counted > 6 || placed === 0 || placed > 6 || list.length < 1 + counted + placed)
    return null;
  return {
    clusters: BigInt(list.readUIntLE(1, counted)),
    cluster: BigInt(list.readUIntLE(1 + counted, placed)),
  };
}

function restartOf(page: Buffer): { sequence: bigint; clean: boolean } | null {
  const at = page.readUInt16LE(24);
  if (page.toString('latin1', 0, 4) !== 'RSTR' || at < 30 || at + 16 > 510) return null;
  const clean = page.readUInt16LE(at + 12) === NOBODY || (page.readUInt16LE(at + 14) & CLEAN) !== 0;
  return { sequence: page.readBigUInt64LE(at), clean };
}
