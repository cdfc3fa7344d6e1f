// `store status`: who uses how much, in one pass over the window records.
//
// Bytes are whole blocks of maps, told from what is in LevelDB: what an open volume wrote since its last round is not in them yet.
//   logical      the size a client sees
//   allocated    what reads as data (not as zero), whoever wrote it
//   own          what its own map has written since the snapshot (or base) below it
//   exclusive    what nobody else reads. Of a snapshot: what deleting it alone leaves without a reader. Of a volume: what deleting it
//                with all its snapshots does
//   reclaimable  what deleting it gives back once the background is through; of a volume: with all its snapshots. Less than what is
//                exclusive where two or more versions continue a snapshot: it stays then, and holds what it has, until one is left
//   unread       held, but read by nobody: blocks of deleted versions until they are freed or merged, and pending punches. Of a
//                snapshot it is always 0; of a volume it is what lies in its maps and files
//
// Invariants: one LevelDB snapshot, with the lines as of the same instant; memory is a page per line of one family of clones. The
// event loop goes round at every page.

import { statfs } from 'node:fs/promises';

import type { Catalog } from '../catalog/catalog.js';
import type { Level, LevelSnapshot } from '../catalog/level.js';
import type { VersionRuns } from '../model/diff.js';
import type { Line } from '../model/entities.js';
import { currentVersion } from '../model/entities.js';
import { isHiddenName } from '../model/names.js';
import { fileOfSlot } from '../model/slot.js';
import { BLOCK_BYTES, blocksPerWindow } from '../model/units.js';
import type { ContainerUsage, VersionUsage } from '../model/usage.js';
import { FamilyUsage, familiesOf } from '../model/usage.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { Watched } from './cancellation.js';
import { throwIfCancelled } from './cancellation.js';
import type { StoredVersion } from './line-cursor.js';
import { mergeWindows } from './window-merge.js';

export interface UsageRow {
  /** `VOLUME` or `VOLUME@SNAPSHOT`. */
  name: string;
  logicalBytes: bigint;
  allocatedBytes: bigint;
  ownBytes: bigint;
  exclusiveBytes: bigint;
  reclaimableBytes: bigint;
  unreadBytes: bigint;
}

export interface StoreUsage {
  /** By name. */
  volumes: UsageRow[];
  /** By volume, oldest first. */
  snapshots: UsageRow[];
  totals: {
    /** Of all volumes. */
    logicalBytes: bigint;
    /** Blocks that hold data, each once, unread ones included. */
    storedBytes: bigint;
    /** With what deleted volumes still hold. */
    unreadBytes: bigint;
  };
  /** Of the file system the store lies on. */
  fileSystem: { sizeBytes: bigint; freeBytes: bigint; reserveBytes: bigint };
  /** Window records seen. */
  records: bigint;
  /** Of these: damaged ones, which are left out. `store check` says which. */
  damagedRecords: bigint;
}

export interface UsageOptions extends Watched {
  directory: string;
  windowBytes: number;
  reserveBytes: bigint;
}

interface Counted {
  versions: Map<string, VersionUsage>;
  containers: Map<number, ContainerUsage>;
  punched: Map<number, number>;
  ownBlocks: number;
  punchedBlocks: number;
  records: bigint;
  damaged: bigint;
}

const WINDOWS_BETWEEN_LOOKS = 256;

export async function storeUsage(catalog: Catalog, options: UsageOptions): Promise<StoreUsage> {
  const counted = await catalog.queue.readSnapshot((level, snapshot) =>
    count(catalog, { level, snapshot }, options),
  );
  const { blocks, bsize, bavail } = await statfs(options.directory, { bigint: true });
  const fileSystem = {
    sizeBytes: blocks * bsize,
    freeBytes: bavail * bsize,
    reserveBytes: options.reserveBytes,
  };
  return report(catalog, counted, fileSystem);
}

/** Everything of the catalog is taken in before the first wait: it belongs to the instant of the LevelDB snapshot. */
async function count(
  catalog: Catalog,
  source: { level: Level; snapshot: LevelSnapshot },
  options: UsageOptions,
): Promise<Counted> {
  const counted: Counted = {
    versions: new Map(),
    containers: new Map(),
    punched: new Map(),
    ownBlocks: 0,
    punchedBlocks: 0,
    records: 0n,
    damaged: 0n,
  };
  countPunches(catalog, counted);
  const lines = new Map([...catalog.lines.values()].map((line) => [line.id, { ...line }]));
  for (const family of familiesOf(lines)) await countFamily(family, source, options, counted);
  return counted;
}

function countPunches(catalog: Catalog, counted: Counted): void {
  for (const { ranges } of catalog.punches.values()) {
    for (const { slot, count: blocks } of ranges) {
      counted.punchedBlocks += blocks;
      const container = catalog.files.get(fileOfSlot(slot))?.container;
      if (container !== undefined)
        counted.punched.set(container, (counted.punched.get(container) ?? 0) + blocks);
    }
  }
}

async function countFamily(
  family: readonly Line[],
  source: { level: Level; snapshot: LevelSnapshot },
  options: UsageOptions,
  counted: Counted,
): Promise<void> {
  const blocks = blocksPerWindow(options.windowBytes);
  const usage = new FamilyUsage(family, blocks);
  const written = family.filter(({ regions }) => regions.size > 0).map(({ id }) => id);
  let seen = 0;
  for await (const { window, lines } of mergeWindows(source, written)) {
    usage.window(
      window,
      lines.map(({ line, versions }) => ({ line, records: decode(versions, blocks, counted) })),
    );
    if (seen++ % WINDOWS_BETWEEN_LOOKS !== 0) continue;
    throwIfCancelled(options.signal);
    options.onProgress?.(counted.records);
  }
  const { versions, containers } = usage.result();
  for (const version of versions) counted.versions.set(placeOf(version), version);
  for (const [id, { exclusiveBlocks, reclaimableBlocks, unreadBlocks }] of containers) {
    const before = counted.containers.get(id);
    counted.containers.set(id, {
      exclusiveBlocks: exclusiveBlocks + (before?.exclusiveBlocks ?? 0),
      reclaimableBlocks: reclaimableBlocks + (before?.reclaimableBlocks ?? 0),
      unreadBlocks: unreadBlocks + (before?.unreadBlocks ?? 0),
    });
  }
  counted.ownBlocks += usage.storedBlocks;
}

function decode(versions: readonly StoredVersion[], blocks: number, counted: Counted): VersionRuns[] {
  return versions.flatMap(({ version, stored }) => {
    counted.records++;
    try {
      return [{ version, runs: decodeWindowRecord(stored, blocks).runs }];
    } catch {
      counted.damaged++;
      return [];
    }
  });
}

function report(catalog: Catalog, counted: Counted, fileSystem: StoreUsage['fileSystem']): StoreUsage {
  const usage: StoreUsage = {
    volumes: [],
    snapshots: [],
    totals: { logicalBytes: 0n, storedBytes: 0n, unreadBytes: 0n },
    fileSystem,
    records: counted.records,
    damagedRecords: counted.damaged,
  };
  const volumes = [...catalog.containers.values()].filter(({ state }) => state === 'live');
  for (const container of volumes.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const line = catalog.lines.get(container.line);
    const version = line ? currentVersion(line) : null;
    const own = counted.versions.get(placeOf({ line: container.line, version: version ?? -1 }));
    const all = counted.containers.get(container.id);
    usage.volumes.push({
      ...row(container.name, container.sizeBytes, own),
      exclusiveBytes: bytes(all?.exclusiveBlocks),
      reclaimableBytes: bytes(all?.reclaimableBlocks),
      unreadBytes: bytes((all?.unreadBlocks ?? 0) + (counted.punched.get(container.id) ?? 0)),
    });
    usage.totals.logicalBytes += container.sizeBytes;
    for (const snapshot of catalog.snapshotsOf(container)) {
      if (isHiddenName(snapshot.name)) continue;
      usage.snapshots.push(
        row(
          `${container.name}@${snapshot.name}`,
          snapshot.sizeBytes,
          counted.versions.get(placeOf(snapshot)),
        ),
      );
    }
  }
  const unread = [...counted.containers.values()].reduce((sum, { unreadBlocks }) => sum + unreadBlocks, 0);
  usage.totals.storedBytes = bytes(counted.ownBlocks + counted.punchedBlocks);
  usage.totals.unreadBytes = bytes(unread + counted.punchedBlocks);
  return usage;
}

function row(name: string, logicalBytes: bigint, usage: VersionUsage | undefined): UsageRow {
  return {
    name,
    logicalBytes,
    allocatedBytes: bytes(usage?.allocatedBlocks),
    ownBytes: bytes(usage?.ownBlocks),
    exclusiveBytes: bytes(usage?.exclusiveBlocks),
    reclaimableBytes: bytes(usage?.reclaimableBlocks),
    unreadBytes: 0n,
  };
}

function bytes(blocks: number | undefined): bigint {
  return BigInt(blocks ?? 0) * BigInt(BLOCK_BYTES);
}

function placeOf({ line, version }: { line: number; version: number }): string {
  return `${line}/${version}`;
}
