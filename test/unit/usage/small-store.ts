// A store of a few small volumes with a random history, in memory: maps only, through the real catalog; and a naive model of what
// its versions read as.

import fc from 'fast-check';
import { MemoryLevel } from 'memory-level';
import { Catalog } from '../../../src/catalog/catalog.js';
import { CommitQueue } from '../../../src/catalog/commit-queue.js';
import type { Level } from '../../../src/catalog/level.js';
import { levelOf } from '../../../src/catalog/level.js';
import { addCutOff } from '../../../src/model/cut-offs.js';
import type { Base, Line } from '../../../src/model/entities.js';
import { ALL_WRITTEN } from '../../../src/model/keys.js';
import { RegionSet } from '../../../src/model/region-set.js';
import { overlay } from '../../../src/model/runs.js';
import { slotOf } from '../../../src/model/slot.js';
import type { WindowRecord } from '../../../src/model/window-record.js';
import { encodeWindowRecord } from '../../../src/model/window-record.js';

export const WINDOW_BYTES = 64 << 10;
export const BLOCKS = 16;
export const WINDOWS = 6;

export type Step =
  | { kind: 'write' | 'zero'; line: number; window: number; start: number; count: number }
  | { kind: 'cut-off'; line: number; first: number; count: number | null }
  | { kind: 'snapshot' | 'delete'; line: number; version: number }
  | { kind: 'clone'; line: number; version: number };

const nat = fc.nat({ max: 1000 });
const range = {
  line: nat,
  window: fc.nat({ max: WINDOWS - 1 }),
  start: fc.nat({ max: BLOCKS - 1 }),
  count: fc.integer({ min: 1, max: BLOCKS }),
};
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant<'write'>('write'), ...range }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant<'zero'>('zero'), ...range }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant<'cut-off'>('cut-off'),
      line: nat,
      first: fc.nat({ max: WINDOWS }),
      count: fc.option(fc.integer({ min: 1, max: WINDOWS }), { nil: null }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant<'snapshot'>('snapshot'), line: nat, version: nat }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant<'delete'>('delete'), line: nat, version: nat }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant<'clone'>('clone'), line: nat, version: nat }) },
);

export const history: fc.Arbitrary<Step[]> = fc.array(step, { minLength: 1, maxLength: 40 });

export class SmallStore {
  readonly level: Level;
  readonly catalog: Catalog;
  readonly records = new Map<string, WindowRecord>();
  readonly #nextPlace = new Map<number, number>();

  constructor() {
    const encodings = { keyEncoding: 'buffer', valueEncoding: 'buffer' } as const;
    this.level = levelOf(new MemoryLevel<Buffer, Buffer>(encodings) as never);
    this.catalog = new Catalog(
      new CommitQueue(this.level, {
        makeRoom: async () => undefined,
        onTrouble: (error) => {
          throw error;
        },
        onHealed: () => undefined,
        pause: async () => undefined,
        giveUpAfter: 1,
      }),
    );
  }

  static async of(steps: readonly Step[]): Promise<SmallStore> {
    const store = new SmallStore();
    await store.level.open();
    await store.#newVolume(null);
    for (const one of steps) await store.#do(one);
    return store;
  }

  get lines(): Line[] {
    return [...this.catalog.lines.values()];
  }

  async #newVolume(base: Base | null): Promise<void> {
    const change = this.catalog.change();
    const id = change.take('container');
    const line: Line = {
      id: change.take('line'),
      container: id,
      base,
      cutOffs: [],
      regions: new RegionSet(),
      versions: [{ version: 1, state: 'current', snapshot: null }],
    };
    change.line(line).container({
      id,
      name: `volume-${id}`,
      kind: 'volume',
      state: 'live',
      sizeBytes: BigInt(WINDOWS * WINDOW_BYTES),
      created: '2024-01-01T00:00:00.000Z',
      line: line.id,
      clonedFrom: null,
      expires: null,
      shrinkingTo: null,
      limits: null,
      transactionLog: null,
      failure: null,
      attributes: null,
      allow: [],
      description: '',
    });
    change.file({ number: change.take('file'), container: id, state: 'live', movedOut: false });
    await change.commit();
  }

  async #do(one: Step): Promise<void> {
    const line = this.lines[one.line % this.lines.length]!;
    const current = line.versions[line.versions.length - 1]!.version;
    switch (one.kind) {
      case 'write':
      case 'zero':
        return this.#write(line, current, one);
      case 'cut-off':
        return this.#cutOff(line, current, one);
      case 'snapshot':
        return this.#snapshot(line, current);
      case 'delete':
      case 'clone': {
        const listed = line.versions.filter(({ state }) => state === 'listed');
        const chosen = listed[one.version % Math.max(1, listed.length)];
        if (!chosen) return undefined;
        if (one.kind === 'clone') return this.#newVolume({ line: line.id, version: chosen.version });
        line.versions = line.versions.map((live) =>
          live === chosen ? { version: live.version, state: 'deleted', snapshot: null } : live,
        );
        return this.catalog
          .change()
          .line(line)
          .removeSnapshot(this.catalog.snapshots.get(chosen.snapshot!)!)
          .commit();
      }
    }
  }

  async #write(line: Line, version: number, one: Extract<Step, { kind: 'write' | 'zero' }>): Promise<void> {
    const key = placeOf(line.id, version, one.window);
    const before = this.records.get(key) ?? { ownSlot: null, runs: [] };
    const ownSlot = before.ownSlot ?? this.#newSlot(line.id);
    const count = Math.min(one.count, BLOCKS - one.start);
    const run = { start: one.start, count, slot: one.kind === 'write' ? ownSlot : null };
    await this.put(line, version, one.window, { ownSlot, runs: overlay(before.runs, [run]) });
  }

  async put(line: Line, version: number, window: number, record: WindowRecord): Promise<void> {
    this.records.set(placeOf(line.id, version, window), record);
    await this.catalog.change().window(line, BigInt(window), version, encodeWindowRecord(record)).commit();
  }

  #newSlot(line: number): bigint {
    const place = this.#nextPlace.get(line) ?? 0;
    this.#nextPlace.set(line, place + 1);
    return slotOf(line, place);
  }

  async #cutOff(line: Line, version: number, one: Extract<Step, { kind: 'cut-off' }>): Promise<void> {
    const end = one.count === null ? null : one.first + one.count;
    line.cutOffs = addCutOff(line.cutOffs, {
      first: BigInt(one.first),
      end: end === null ? null : BigInt(end),
      version,
    });
    const change = this.catalog.change().line(line);
    for (let window = one.first; window < Math.min(end ?? WINDOWS, WINDOWS); window++) {
      if (this.records.delete(placeOf(line.id, version, window)))
        change.removeWindow(line.id, BigInt(window), version);
    }
    await change.commit();
  }

  async #snapshot(line: Line, version: number): Promise<void> {
    const id = `${line.id}`.padStart(16, '0') + `${version}`.padStart(16, '0');
    line.versions = [
      ...line.versions.slice(0, -1),
      { version, state: 'listed', snapshot: id },
      { version: version + 1, state: 'current', snapshot: null },
    ];
    await this.catalog
      .change()
      .line(line)
      .snapshot({
        id,
        name: `s${version}`,
        container: line.container,
        line: line.id,
        version,
        sizeBytes: BigInt(WINDOWS * WINDOW_BYTES),
        created: '2024-01-01T00:00:00.000Z',
        expires: null,
      })
      .commit();
  }

  /** `slot/block` of what a reader finds, or null for zero. One block at a time, one version at a time. */
  read(at: Base, window: number, block: number): string | null {
    for (let next: Base | null = at; next; ) {
      const line: Line = this.catalog.lines.get(next.line)!;
      for (let version = next.version; version > 0; version--) {
        const run = this.records
          .get(placeOf(line.id, version, window))
          ?.runs.find(({ start, count }) => block >= start && block < start + count);
        if (run) return run.slot === null ? null : `${run.slot}/${block}`;
        const cut = line.cutOffs.some((cutOff) => {
          return (
            cutOff.version === version &&
            window >= cutOff.first &&
            (cutOff.end === null || window < cutOff.end)
          );
        });
        if (cut) return null;
      }
      next = line.base;
    }
    return null;
  }

  /** Every part of the index of written windows is unreadable from now on. */
  async damageIndex(): Promise<void> {
    for await (const page of this.level.scan(ALL_WRITTEN))
      await this.level.batch(page.map(([key]) => ({ type: 'put', key, value: Buffer.from('damage') })));
  }

  /** All that can be read from: snapshots and current states. */
  readers(): (Base & { container: number })[] {
    return this.lines.flatMap((line) =>
      line.versions
        .filter(({ state }) => state !== 'deleted')
        .map(({ version }) => ({ line: line.id, version, container: line.container })),
    );
  }
}

export function placeOf(line: number, version: number, window: number): string {
  return `${line}/${version}/${window}`;
}
