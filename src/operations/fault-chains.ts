// The chains of open devices as faults need them: kept until a line changes, the long ones with a table of their regions.

import type { Catalog } from '../catalog/catalog.js';
import type { Link } from '../model/chain.js';
import { chainOf } from '../model/chain.js';
import { ChainRegions } from '../model/chain-regions.js';
import { bucketsOf } from '../model/region-set.js';
import type { Device } from './devices.js';
import type { WindowRange } from './fault-plan.js';

interface CachedChain {
  /** Of the device: a sync gives it another. */
  line: number;
  structure: number;
  /** Lines that can say anything, newest first. */
  links: readonly Link[];
  faults: number;
  regions: ChainRegions | null;
}

/** A shorter chain is gone through. */
const LONG_CHAIN = 64;
/** A table is made when as many links have been gone through as making it costs: so many times its links. */
const FAULTS_A_LINK = 1 / 4;
/** Half a MiB each for a chain of a thousand lines. */
const KEPT_TABLES = 16;

export class FaultChains {
  readonly #catalog: Catalog;
  readonly #longChain: number;
  readonly #chains = new WeakMap<Device, CachedChain>();
  /** Oldest first; one of a device that was closed stays until there are too many. */
  readonly #withTable: CachedChain[] = [];

  constructor(catalog: Catalog, { longChain = LONG_CHAIN }: { longChain?: number } = {}) {
    this.#catalog = catalog;
    this.#longChain = longChain;
  }

  /** Links whose lines may say anything about the windows, and maybe others, newest first. */
  linksOf(device: Device, { first, count }: WindowRange): readonly Link[] {
    const chain = this.#chainOf(device);
    if (chain.links.length < this.#longChain) return chain.links;
    chain.faults++;
    if (!chain.regions && chain.faults > chain.links.length * FAULTS_A_LINK) this.#makeTable(chain);
    const buckets = chain.regions && bucketsOf(first, count);
    return chain.regions && buckets ? chain.regions.linksOf(buckets) : chain.links;
  }

  #chainOf(device: Device): CachedChain {
    const cached = this.#chains.get(device);
    const { structure, lines } = this.#catalog;
    if (cached?.structure === structure && cached.line === device.line) return cached;
    const version = device.view ? device.version : Number.MAX_SAFE_INTEGER;
    const links = chainOf(lines, { line: device.line, version }).filter(
      ({ line }) => line.regions.size > 0 || line.cutOffs.length > 0,
    );
    if (cached) this.#dropTable(cached);
    const chain: CachedChain = { line: device.line, structure, links, faults: 0, regions: null };
    this.#chains.set(device, chain);
    return chain;
  }

  #makeTable(chain: CachedChain): void {
    if (this.#withTable.length === KEPT_TABLES) this.#dropTable(this.#withTable[0]!);
    chain.regions = new ChainRegions(chain.links);
    this.#withTable.push(chain);
  }

  #dropTable(chain: CachedChain): void {
    const at = this.#withTable.indexOf(chain);
    if (at >= 0) this.#withTable.splice(at, 1);
    chain.regions = null;
    chain.faults = 0;
  }
}
