// Answers faults: what every line of a device's chain says about a few windows, newest first, from one LevelDB snapshot.
// Invariant: chain and cut-offs are read in the same instant as the snapshot is taken; memory is never behind LevelDB there, as it
// is changed first.

import type { Catalog } from '../catalog/catalog.js';
import type { Level, LevelSnapshot } from '../catalog/level.js';
import type { Link } from '../model/chain.js';
import { chainOf } from '../model/chain.js';
import { newestCutOff } from '../model/cut-offs.js';
import { parseWindowKey, windowBound } from '../model/keys.js';
import { mayHaveRecords } from '../model/region-set.js';
import type { FaultRecord } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { EIO } from './plane-client.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';

const QUIET_MS = 10_000;

interface CachedChain {
  structure: number;
  links: Link[];
}

export class Faults {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #chains = new WeakMap<Device, CachedChain>();
  #failures = 0;
  #quietUntilMs = 0;

  constructor(catalog: Catalog, devices: Devices, client: PlaneClient, log: Logger) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
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
    if (cached && cached.structure === this.#catalog.structure) return cached.links;
    const version = device.view ? device.version : Number.MAX_SAFE_INTEGER;
    const links = chainOf(this.#catalog.lines, { line: device.line, version }).filter(
      ({ line }) => line.regions.size > 0 || line.cutOffs.length > 0,
    );
    this.#chains.set(device, { structure: this.#catalog.structure, links });
    return links;
  }

  async #collect(
    device: Device,
    fault: { first: bigint; count: number },
    level: Level,
    snapshot: LevelSnapshot,
  ): Promise<FaultRecord[]> {
    const windows = Array.from({ length: fault.count }, (): { closed: boolean; records: FaultRecord[] } => {
      return { closed: false, records: [] };
    });
    // Cut-offs as of now: `line.cutOffs` is replaced at a change, never written to.
    const links = this.#chainOf(device).map((link) => ({ ...link, cutOffs: link.line.cutOffs }));
    for (const link of links) {
      const limits = windows.map((_, index) =>
        newestCutOff(link.cutOffs, fault.first + BigInt(index), link.upTo),
      );
      if (mayHaveRecords(link.line.regions, fault.first, fault.count)) {
        await this.#scanLine(device, link, { ...fault, windows, limits }, level, snapshot);
      }
      windows.forEach((window, index) => {
        const limit = limits[index]!;
        if (limit === 0 || window.closed) return;
        window.closed = true;
        window.records.push({
          window: fault.first + BigInt(index),
          layer: this.#layerOf(device, link.line.id, limit),
          record: null,
        });
      });
      if (windows.every(({ closed }) => closed)) break;
    }
    return windows.flatMap(({ records }) => records);
  }

  async #scanLine(
    device: Device,
    { line, upTo }: Link,
    part: {
      first: bigint;
      count: number;
      windows: { closed: boolean; records: FaultRecord[] }[];
      limits: number[];
    },
    level: Level,
    snapshot: LevelSnapshot,
  ): Promise<void> {
    const range = {
      gte: windowBound(line.id, part.first),
      lt: windowBound(line.id, part.first + BigInt(part.count)),
    };
    for await (const page of level.scan(range, { snapshot })) {
      for (const [bytes, record] of page) {
        const key = parseWindowKey(bytes);
        if (!key || key.version > upTo) continue;
        const index = Number(key.window - part.first);
        const window = part.windows[index]!;
        if (window.closed || key.version < part.limits[index]!) continue;
        window.records.push({
          window: key.window,
          layer: this.#layerOf(device, line.id, key.version),
          record,
        });
      }
    }
  }

  #layerOf(device: Device, line: number, version: number): number {
    const layer = device.layers.layerOf(line, version);
    if (layer === undefined)
      throw new Error(`version ${version} of line ${line} is no layer of handle ${device.handle}`);
    return layer;
  }
}
