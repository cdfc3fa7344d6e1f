// Answers faults: what every line of a device's chain says about a few windows, newest first, from one LevelDB snapshot. A window ends
// with the record that leaves no block of it open, so what is read and handed down does not grow with the versions below.
// Invariant: chain and cut-offs are read in the same instant as the snapshot is taken; memory is never behind LevelDB there, as it
// is changed first.

import type { Catalog } from '../catalog/catalog.js';
import type { Level, LevelSnapshot } from '../catalog/level.js';
import type { Link } from '../model/chain.js';
import { chainOf } from '../model/chain.js';
import { newestCutOff } from '../model/cut-offs.js';
import { parseWindowKey, windowBound, windowKey } from '../model/keys.js';
import { mayHaveRecords } from '../model/region-set.js';
import { splitRuns } from '../model/runs.js';
import type { Run } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { FaultRecord } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import type { CursorSource } from './line-cursor.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { EIO } from './plane-client.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';

const QUIET_MS = 10_000;

interface CachedChain {
  /** Of the device: a sync gives it another. */
  line: number;
  structure: number;
  links: Link[];
}

/** One window of a fault: blocks nobody has said anything about yet, and what was said, newest first. */
interface Asked {
  left: readonly Run[];
  records: FaultRecord[];
}

interface Part {
  first: bigint;
  count: number;
  windows: Asked[];
  /** Versions below are not asked; 0: no cut-off. */
  limits: number[];
}

/** Large enough for 64 windows of a few versions. */
const FIRST_PAGE = 256;
const PAGE_AFTER_HOP = 32;
/** Records read in vain before it is worth looking for the next that is wanted. */
const PASSED_AT_MOST = 24;

export class Faults {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;
  readonly #chains = new WeakMap<Device, CachedChain>();
  #failures = 0;
  #quietUntilMs = 0;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    log: Logger,
    options: { blocksPerWindow: number },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
    this.#blocksPerWindow = options.blocksPerWindow;
  }

  async answer(fault: RecordOf<'fault'>): Promise<void> {
    try {
      const device = this.#devices.byHandle(fault.handle);
      if (!device) throw new Error(`a fault of handle ${fault.handle}, which is not open`);
      const records = await this.#catalog.queue.readSnapshot((level, snapshot) => {
        return this.#collect(device, fault, level, snapshot);
      });
      this.#failures = 0;
      this.#client.faultReply(fault.ticket, records, 0);
    } catch (error) {
      this.#failures++;
      this.#tell(fault, error);
      this.#client.faultReply(fault.ticket, [], EIO);
    }
  }

  /** A client that reads on while the metadata cannot be read must not fill the log. */
  #tell(fault: RecordOf<'fault'>, error: unknown): void {
    const now = performance.now();
    if (this.#failures > 1 && now < this.#quietUntilMs) return;
    this.#quietUntilMs = now + QUIET_MS;
    const { handle, first } = fault;
    this.#log.error(
      { ...trouble(error, this.#failures), handle, window: first.toString(), failures: this.#failures },
      'a fault could not be answered',
    );
  }

  /** Lines of the chain that can say anything, newest first. */
  #chainOf(device: Device): Link[] {
    const cached = this.#chains.get(device);
    const { line } = device;
    if (cached && cached.line === line && cached.structure === this.#catalog.structure) return cached.links;
    const version = device.view ? device.version : Number.MAX_SAFE_INTEGER;
    const links = chainOf(this.#catalog.lines, { line: device.line, version }).filter(
      ({ line }) => line.regions.size > 0 || line.cutOffs.length > 0,
    );
    this.#chains.set(device, { line, structure: this.#catalog.structure, links });
    return links;
  }

  async #collect(
    device: Device,
    fault: { first: bigint; count: number },
    level: Level,
    snapshot: LevelSnapshot,
  ): Promise<FaultRecord[]> {
    const whole: Run[] = [{ start: 0, count: this.#blocksPerWindow, slot: null }];
    const windows = Array.from({ length: fault.count }, (): Asked => ({ left: whole, records: [] }));
    // Cut-offs as of now: `line.cutOffs` is replaced at a change, never written to.
    const links = this.#chainOf(device).map((link) => ({ ...link, cutOffs: link.line.cutOffs }));
    for (const link of links) {
      const limits = windows.map((_, index) =>
        newestCutOff(link.cutOffs, fault.first + BigInt(index), link.upTo),
      );
      if (mayHaveRecords(link.line.regions, fault.first, fault.count)) {
        await this.#scanLine(device, link, { ...fault, windows, limits }, { level, snapshot });
      }
      windows.forEach((window, index) => {
        const limit = limits[index]!;
        if (limit === 0 || window.left.length === 0) return;
        window.left = [];
        window.records.push({
          window: fault.first + BigInt(index),
          layer: this.#layerOf(device, link.line.id, limit),
          record: null,
        });
      });
      if (windows.every(({ left }) => left.length === 0)) break;
    }
    return windows.flatMap(({ records }) => records);
  }

  async #scanLine(device: Device, link: Link, part: Part, source: CursorSource): Promise<void> {
    let from: Buffer | null = windowBound(link.line.id, part.first);
    for (let page = FIRST_PAGE; from; page = PAGE_AFTER_HOP)
      from = await this.#scanFrom(device, link, part, { ...source, from, page });
  }

  /** Null: to the end; else where to go on, over records nobody wants. */
  async #scanFrom(
    device: Device,
    { line, upTo }: Link,
    part: Part,
    { level, snapshot, from, page }: CursorSource & { from: Buffer; page: number },
  ): Promise<Buffer | null> {
    const range = { gte: from, lt: windowBound(line.id, part.first + BigInt(part.count)) };
    let passed = 0;
    for await (const entries of level.scan(range, { snapshot, page })) {
      for (const [bytes, record] of entries) {
        const key = parseWindowKey(bytes);
        if (!key) continue;
        const index = Number(key.window - part.first);
        const window = part.windows[index]!;
        const tooNew = key.version > upTo;
        if (tooNew || window.left.length === 0 || key.version < part.limits[index]!) {
          if (++passed < PASSED_AT_MOST) continue;
          return tooNew ? windowKey(line.id, key.window, upTo) : windowBound(line.id, key.window + 1n);
        }
        passed = 0;
        const layer = this.#layerOf(device, line.id, key.version);
        window.records.push({ window: key.window, layer, record });
        window.left = this.#silentIn(window.left, record);
      }
    }
    return null;
  }

  /** What is damaged covers nothing here: the data plane is the one who judges it. */
  #silentIn(left: readonly Run[], record: Buffer): readonly Run[] {
    try {
      return splitRuns(left, decodeWindowRecord(record, this.#blocksPerWindow).runs).silent;
    } catch {
      return left;
    }
  }

  #layerOf(device: Device, line: number, version: number): number {
    const layer = device.layers.layerOf(line, version);
    if (layer === undefined)
      throw new Error(`version ${version} of line ${line} is no layer of handle ${device.handle}`);
    return layer;
  }
}
