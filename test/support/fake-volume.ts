// One open device of the fake data plane: resident windows, layers, dirt, as native/volume keeps them, block by block.

import type { Run } from '../../src/model/window-record.js';
import { decodeWindowRecord, encodeWindowRecord, joinRuns } from '../../src/model/window-record.js';
import type {
  DeviceOptions,
  FaultRecord,
  RebaseTarget,
  RoundCutOff,
  RoundRecord,
} from '../../src/plane/treaty.js';
import type { FakeDisk } from './fake-disk.js';

/** What a block of a resident window is, and the layer that says so (0: nobody). */
interface Said {
  layer: number;
  /** Null: zero. */
  slot: bigint | null;
}

interface Window {
  blocks: Said[];
  ownSlot: bigint | null;
  ownLayer: number;
  dirty: boolean;
  taken: boolean;
  compare: boolean;
}

interface PendingCutOff extends RoundCutOff {
  layer: number;
  taken: boolean;
}

/** From so many whole windows on TRIM is a cut-off. */
const CUT_OFF_WINDOWS = 2;

const NOBODY: Said = { layer: 0, slot: null };

export class FakeVolume {
  readonly files: number[];
  readOnly: boolean;
  readonly #disk: FakeDisk;
  readonly #blocks: number;
  #line: number;
  readonly #ask: (first: bigint, count: number) => Promise<FaultRecord[]>;
  #layers: number[];
  #rebasedLayer = 0;
  readonly #versions = new Map<number, number>();
  #version: number;
  #size: bigint;
  #windows = new Map<bigint, Window>();
  #changes = 0;
  #cutOffs: PendingCutOff[] = [];
  #frozen: (RoundRecord & { taken: boolean })[] = [];
  #lastPosition = 0n;
  #nextPlace: number | null = null;
  /** Nothing below and nothing stored when it was opened: but for regions touched since nobody is asked. */
  #empty: boolean;
  readonly #touched = new Set<bigint>();
  /** Requests under way, and those that wait for the end of a hold. */
  #active = 0;
  #held: (() => void)[] | null = null;
  #quiet: ((error: number) => void)[] = [];

  constructor(
    options: DeviceOptions,
    disk: FakeDisk,
    blocks: number,
    ask: (first: bigint, count: number) => Promise<FaultRecord[]>,
  ) {
    this.files = options.files.map(({ number }) => number);
    this.readOnly = options.readOnly;
    this.#disk = disk;
    this.#blocks = blocks;
    this.#line = options.line;
    this.#ask = ask;
    this.#layers = [...options.layers];
    this.#version = options.version;
    this.#versions.set(this.#current, options.version);
    this.#size = options.sizeBytes;
    this.#empty = options.empty;
    if (options.unclean) for (const file of this.files) this.#written.add(file);
  }

  /** Files a flush has to sync: what this process wrote, or all after an unclean start. */
  readonly #written = new Set<number>();

  get #current(): number {
    return this.#layers[this.#layers.length - 1]!;
  }

  get sizeBytes(): bigint {
    return this.#size;
  }

  get isDirty(): boolean {
    return (
      this.#frozen.length > 0 ||
      this.#cutOffs.length > 0 ||
      [...this.#windows.values()].some(({ dirty }) => dirty)
    );
  }

  // ---- requests ----

  write(block: number, values: number[]): Promise<void> {
    return this.#admitted(() => this.ownWrite(block, values));
  }

  zero(block: number, count: number): Promise<void> {
    return this.#admitted(() => this.ownZero(block, count));
  }

  read(block: number, count: number): Promise<number[]> {
    return this.#admitted(() => this.ownRead(block, count));
  }

  changed(since: number, block: number, count: number): Promise<boolean[]> {
    return this.#admitted(() => this.#changedSince(since, block, count));
  }

  async #admitted<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held) await new Promise<void>((resolve) => this.#held!.push(resolve));
    this.#active++;
    try {
      return await work();
    } finally {
      this.#active--;
      this.#tellQuiet();
    }
  }

  /** A request that takes until the answered function is called. */
  begin(): () => void {
    this.#active++;
    return () => {
      this.#active--;
      this.#tellQuiet();
    };
  }

  /** Calls back when no request is under way. */
  hold(quiet: (error: number) => void): void {
    this.#held ??= [];
    this.#quiet.push(quiet);
    this.#tellQuiet();
  }

  #tellQuiet(): void {
    if (!this.#held || this.#active > 0) return;
    for (const quiet of this.#quiet.splice(0)) quiet(0);
  }

  release(canceled: number): void {
    for (const quiet of this.#quiet.splice(0)) quiet(canceled);
    const waiting = this.#held ?? [];
    this.#held = null;
    for (const resume of waiting) resume();
  }

  /** Answers whether it could be done. */
  rebase(to: RebaseTarget): boolean {
    if (!this.#held || this.#active > 0 || (this.isDirty && !to.discard)) return false;
    this.#frozen = [];
    this.#cutOffs = [];
    this.#windows.clear();
    this.#changes++;
    this.#line = to.line;
    this.#version = to.version;
    this.#layers = [...to.layers];
    this.#rebasedLayer = to.layers[0]!;
    this.#versions.clear();
    this.#versions.set(this.#current, to.version);
    this.#size = to.sizeBytes;
    this.#empty = to.empty;
    this.#touched.clear();
    return true;
  }

  async ownWrite(block: number, values: number[]): Promise<void> {
    if (this.readOnly) throw new Error('EPERM');
    for (const [index, value] of values.entries()) {
      const at = block + index;
      const number = BigInt(Math.floor(at / this.#blocks));
      await this.#with(number, (window) => this.#writeBlock(number, window, at % this.#blocks, value));
    }
  }

  #writeBlock(number: bigint, window: Window, block: number, value: number): void {
    const said = window.blocks[block]!;
    const isMine = said.layer === this.#current && said.slot !== null && said.slot === window.ownSlot;
    if (!isMine) {
      this.#convert(number, window);
      window.ownSlot ??= this.#allocate();
      if (said.layer === this.#current && said.slot !== null) window.compare = true;
      window.blocks[block] = { layer: this.#current, slot: window.ownSlot };
    }
    this.#disk.write(window.ownSlot!, block, value);
    this.#written.add(Number(window.ownSlot! >> 24n));
    if (isMine) return;
    this.#note(
      number,
      window,
      this.#disk.append({
        kind: 'own',
        line: this.#line,
        version: this.#version,
        window: number,
        start: block,
        count: 1,
        slot: window.ownSlot!,
      }),
    );
  }

  async ownZero(block: number, count: number): Promise<void> {
    if (this.readOnly) throw new Error('EPERM');
    const end = block + count;
    for (let at = block; at < end; ) {
      const first = Math.floor(at / this.#blocks);
      const whole = Math.floor(end / this.#blocks) - first;
      if (at % this.#blocks === 0 && whole >= CUT_OFF_WINDOWS) {
        this.#cutOff(BigInt(first), BigInt(first + whole));
        at = (first + whole) * this.#blocks;
        continue;
      }
      const stop = Math.min(end, (first + 1) * this.#blocks);
      const start = at % this.#blocks;
      const length = stop - at;
      await this.#with(BigInt(first), (window) => this.#zeroBlocks(BigInt(first), window, start, length));
      at = stop;
    }
  }

  #zeroBlocks(number: bigint, window: Window, start: number, count: number): void {
    this.#convert(number, window);
    for (let block = start; block < start + count; block++) {
      const said = window.blocks[block]!;
      if (said.layer === this.#current && said.slot !== null) {
        if (said.slot === window.ownSlot) this.#disk.punch(said.slot, block);
        else window.compare = true;
      }
      window.blocks[block] = { layer: this.#current, slot: null };
    }
    this.#note(
      number,
      window,
      this.#disk.append({
        kind: 'zero',
        line: this.#line,
        version: this.#version,
        window: number,
        start,
        count,
      }),
    );
  }

  #cutOff(first: bigint, end: bigint | null): void {
    this.#changes++;
    this.#lastPosition = this.#disk.append({
      kind: 'cut-off',
      line: this.#line,
      version: this.#version,
      first,
      end,
    });
    this.#cutOffs.push({ first, end, version: this.#version, layer: this.#current, taken: false });
    for (const [number, window] of this.#windows) {
      if (number < first || (end !== null && number >= end)) continue;
      this.#convert(number, window);
      window.blocks = window.blocks.map(() => ({ layer: this.#current, slot: null }));
      window.ownSlot = null;
      window.dirty = window.taken = window.compare = false;
    }
  }

  async ownRead(block: number, count: number): Promise<number[]> {
    const values: number[] = [];
    for (let at = block; at < block + count; at++) {
      const number = BigInt(Math.floor(at / this.#blocks));
      const value = await this.#with(number, ({ blocks }) => {
        const { slot } = blocks[at % this.#blocks]!;
        return slot === null ? 0 : this.#disk.read(slot, at % this.#blocks);
      });
      values.push(value);
    }
    return values;
  }

  async #changedSince(since: number, block: number, count: number): Promise<boolean[]> {
    const changed: boolean[] = [];
    for (let at = block; at < block + count; at++) {
      const number = BigInt(Math.floor(at / this.#blocks));
      changed.push(
        await this.#with(
          number,
          ({ blocks }) => since < this.#rebasedLayer || blocks[at % this.#blocks]!.layer > since,
        ),
      );
    }
    return changed;
  }

  flush(): void {
    if (this.readOnly) return;
    this.#syncFiles();
    this.#disk.append({ kind: 'commit', line: this.#line, upTo: this.#lastPosition });
    this.#disk.syncJournal();
  }

  #syncFiles(): void {
    for (const file of this.#written) this.#disk.syncFile(file);
    this.#written.clear();
  }

  // ---- faults ----

  /** Does something with a window in the turn in which it is resident: it may be evicted in the next. */
  async #with<T>(number: bigint, work: (window: Window) => T): Promise<T> {
    for (;;) {
      await this.#faulted(number);
      const window = this.#windows.get(number);
      if (window) return work(window);
    }
  }

  async #faulted(number: bigint): Promise<Window> {
    for (;;) {
      const window = this.#windows.get(number);
      if (window) return window;
      if (this.#empty && !this.#touched.has(regionOf(number))) {
        this.#windows.set(number, this.#install(number, []));
        continue;
      }
      const changes = this.#changes;
      const records = await this.#ask(number, 1);
      if (this.#windows.has(number) || changes !== this.#changes) continue;
      this.#windows.set(number, this.#install(number, records));
    }
  }

  #install(number: bigint, records: FaultRecord[]): Window {
    const blocks: Said[] = Array.from({ length: this.#blocks }, () => NOBODY);
    const window: Window = {
      blocks,
      ownSlot: null,
      ownLayer: this.#current,
      dirty: false,
      taken: false,
      compare: false,
    };
    const said = this.#cutOffs.some((cutOff) => isInside(cutOff, number) && cutOff.layer === this.#current);
    for (const { layer, record } of records) {
      if (said && layer === this.#current) continue;
      if (record === null) {
        for (const [index, block] of blocks.entries())
          if (block.layer === 0) blocks[index] = { layer, slot: null };
        break;
      }
      this.#lay(window, layer, decodeWindowRecord(record, this.#blocks));
    }
    if (!this.#cutOffs.some((cutOff) => isInside(cutOff, number))) return window;
    const layer = Math.max(
      ...this.#cutOffs.filter((cutOff) => isInside(cutOff, number)).map((cutOff) => cutOff.layer),
    );
    window.blocks = blocks.map((block) => (block.layer > layer ? block : { layer, slot: null }));
    return window;
  }

  #lay(window: Window, layer: number, record: { ownSlot: bigint | null; runs: Run[] }): void {
    if (layer === this.#current) window.ownSlot = record.ownSlot;
    for (const { start, count, slot } of record.runs) {
      if (layer === this.#current && slot !== null && slot !== window.ownSlot) window.compare = true;
      for (let block = start; block < start + count; block++) {
        if (window.blocks[block]!.layer === 0) window.blocks[block] = { layer, slot };
      }
    }
  }

  /** Drops what is clean. */
  evict(): void {
    const frozen = new Set(this.#frozen.map(({ window }) => window));
    for (const [number, window] of this.#windows)
      if (!window.dirty && !frozen.has(number)) this.#windows.delete(number);
  }

  reopen(): void {
    this.#windows.clear();
    this.#frozen = [];
    this.#cutOffs = [];
    this.#empty = false;
    this.readOnly = true;
  }

  // ---- rounds ----

  takeRound(): { position: bigint; records: RoundRecord[]; cutOffs: RoundCutOff[] } {
    this.flush();
    for (const frozen of this.#frozen) frozen.taken = true;
    const records = this.#frozen.map(({ taken: _taken, ...record }) => record);
    for (const [number, window] of this.#windows) {
      if (!window.dirty) continue;
      window.taken = true;
      records.push(this.#encode(number, window));
    }
    for (const cutOff of this.#cutOffs) cutOff.taken = true;
    const cutOffs = this.#cutOffs.map(({ version, first, end }) => ({ version, first, end }));
    records.sort((a, b) => a.version - b.version);
    return { position: this.#lastPosition, records, cutOffs };
  }

  #encode(number: bigint, window: Window): RoundRecord {
    const runs = window.blocks.flatMap(({ layer, slot }, start): Run[] =>
      layer === window.ownLayer ? [{ start, count: 1, slot }] : [],
    );
    const record =
      runs.length > 0
        ? encodeWindowRecord({ ownSlot: window.ownSlot, runs: joinRuns(runs) })
        : new Uint8Array(0);
    return { version: this.#versions.get(window.ownLayer)!, window: number, record, compare: window.compare };
  }

  roundDone(): void {
    for (const window of this.#windows.values()) if (window.taken) window.dirty = window.taken = false;
    this.#frozen = this.#frozen.filter(({ taken }) => !taken);
    // A fault may have read LevelDB before the batch, and no pending cut-off tells it any more.
    if (this.#cutOffs.some(({ taken }) => taken)) this.#changes++;
    this.#cutOffs = this.#cutOffs.filter(({ taken }) => !taken);
  }

  roundFailed(): void {
    for (const window of this.#windows.values()) window.taken = false;
    for (const frozen of this.#frozen) frozen.taken = false;
    for (const cutOff of this.#cutOffs) cutOff.taken = false;
  }

  // ---- versions ----

  raise(): { line: number; version: number; upTo: bigint } {
    this.#syncFiles();
    const ended = { line: this.#line, version: this.#version, upTo: this.#lastPosition };
    this.#layers.push(this.#current + 1);
    this.#version += 1;
    this.#versions.set(this.#current, this.#version);
    return ended;
  }

  noteCut(position: bigint): void {
    this.#lastPosition = position;
  }

  removeLayer(layer: number): void {
    const index = this.#layers.indexOf(layer);
    if (index < 0 || layer === this.#current) throw new Error(`layer ${layer} cannot be removed`);
    this.#layers.splice(index, 1);
  }

  async adopt(below: boolean, records: { window: bigint; record: Uint8Array }[]): Promise<void> {
    for (const { window: number, record } of records) {
      await this.#with(number, (window) => this.#adoptRecord(number, window, record, below));
    }
  }

  #adoptRecord(number: bigint, window: Window, record: Uint8Array, below: boolean): void {
    this.#convert(number, window);
    let changed = false;
    for (const { start, count, slot } of decodeWindowRecord(record, this.#blocks).runs) {
      for (let block = start; block < start + count; block++) {
        if (window.blocks[block]!.layer === this.#current) continue;
        changed = true;
        window.blocks[block] = slot === null && !below ? NOBODY : { layer: this.#current, slot };
      }
    }
    if (!changed) return;
    window.compare = true;
    this.#note(number, window, this.#lastPosition);
  }

  async resize(sizeBytes: bigint): Promise<void> {
    const old = this.#size;
    this.#size = sizeBytes;
    if (sizeBytes >= old) return;
    const blocks = Number((sizeBytes + 4095n) / 4096n);
    const windows = Math.ceil(blocks / this.#blocks);
    const tail = windows * this.#blocks - blocks;
    if (tail > 0) {
      const number = BigInt(windows - 1);
      await this.#with(number, (window) => this.#zeroBlocks(number, window, this.#blocks - tail, tail));
    }
    this.#cutOff(BigInt(windows), null);
    this.flush();
  }

  // ---- changes ----

  /** The first change of a window under a new version: what the ended one said is kept for the next round. */
  #convert(number: bigint, window: Window): void {
    if (window.ownLayer === this.#current) return;
    if (window.dirty) this.#frozen.push({ ...this.#encode(number, window), taken: window.taken });
    window.ownLayer = this.#current;
    window.ownSlot = null;
    window.dirty = window.taken = window.compare = false;
  }

  #note(number: bigint, window: Window, position: bigint): void {
    this.#changes++;
    if (this.#empty) this.#touched.add(regionOf(number));
    window.dirty = true;
    window.taken = false;
    this.#lastPosition = position;
  }

  #allocate(): bigint {
    const file = this.files[this.files.length - 1]!;
    this.#nextPlace ??= this.#disk.files.get(file)?.places ?? 0;
    return (BigInt(file) << 24n) | BigInt(this.#nextPlace++);
  }
}

/** Faults read 64 windows at once. */
function regionOf(window: bigint): bigint {
  return window / 64n;
}

function isInside({ first, end }: RoundCutOff, window: bigint): boolean {
  return first <= window && (end === null || window < end);
}
