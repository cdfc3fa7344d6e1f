// The data that rows work on, made when a row first asks for it. All servers get the same writes in the same order, on
// one file system; the raw servers and the limit share one file, as the page cache they read from is shared too.
import { open } from 'node:fs/promises';
import type { Bench, Subject } from './bench.js';
import type { ClientWork } from './client.js';
import type { Export } from './fio.js';
import { HugeVolumes } from './huge.js';
import { Qcow2Chain } from './qcow2.js';

export const SNAPSHOTS = 10;
const MIB = 1 << 20;
/** The share of all blocks that is rewritten after each snapshot. */
const REWRITTEN = 0.05;

export function fillWork(bytes: number, request_bytes = MIB): ClientWork {
  return {
    op: 'write',
    pattern: 'sequential',
    bytes: request_bytes,
    requests: Math.floor(bytes / request_bytes),
    depth: 8,
    flush_end: 1,
  };
}

export interface History {
  readonly size_bytes: number;
  readonly snapshots: number;
  /** Blocks rewritten after each snapshot. */
  readonly rewritten: number;
  /** Of the writes that fill it; default 1 MiB. */
  readonly fill_bytes?: number;
}

/** Fills a volume and takes snapshots of it, with random writes after each. */
export async function makeHistory(
  history: History,
  write: (work: ClientWork) => Promise<unknown>,
  snapshot: (number: number) => Promise<void>,
): Promise<void> {
  await write(fillWork(history.size_bytes, history.fill_bytes));
  for (let number = 1; number <= history.snapshots; number += 1) {
    await snapshot(number);
    await write({ op: 'write', pattern: 'random', requests: history.rewritten, depth: 32, seed: number });
  }
}

async function sparseFile(path: string, bytes: number): Promise<string> {
  const file = await open(path, 'w');
  await file.truncate(bytes);
  await file.close();
  return path;
}

/** The limit and every raw peer that is installed, all on one file. */
export async function rawSubjects(bench: Bench, file: string): Promise<Subject[]> {
  const { peers } = bench;
  if (bench.options.against !== null) return [];
  const subjects: Subject[] = [{ name: 'limit', target: (await peers.limit(file)).target }];
  if (peers.has('qemu-nbd'))
    subjects.push({ name: 'qemu-raw', target: (await peers.qemu(file, 'raw')).target });
  if (peers.has('nbdkit')) subjects.push({ name: 'nbdkit', target: (await peers.nbdkit(file)).target });
  if (peers.has('nbd-server'))
    subjects.push({ name: 'nbd-server', target: (await peers.nbdServer(file)).target });
  return subjects;
}

export async function makeSparse(bench: Bench, name: string, bytes: number): Promise<string> {
  return sparseFile(bench.path(name), bytes);
}

export class DataSets {
  readonly #bench: Bench;
  #cached: Promise<Subject[]> | null = null;
  #owned: Promise<Subject[]> | null = null;
  #sparse: Promise<Subject[]> | null = null;
  #chain: Qcow2Chain | null = null;

  /** Volumes of terabytes, for the rows that are about maps. */
  readonly huge: HugeVolumes;

  constructor(bench: Bench) {
    this.#bench = bench;
    this.huge = new HugeVolumes(bench);
  }

  /** The name of our volume behind `cached` and `owned`. */
  readonly cachedVolume = 'cached';

  /** A full volume with ten snapshots, in every server. */
  cached(): Promise<Subject[]> {
    this.#cached ??= this.#makeCached();
    return this.#cached;
  }

  /** The same after a pass over it: the current map owns every block, so writing is overwriting. */
  owned(): Promise<Subject[]> {
    this.#owned ??= this.#makeOwned();
    return this.#owned;
  }

  /** An empty volume so large that every round can have new space of its own. */
  sparse(): Promise<Subject[]> {
    this.#sparse ??= this.#makeSparse();
    return this.#sparse;
  }

  /** The qcow2 chain of `cached`, or null where qemu is not installed. */
  get chain(): Qcow2Chain | null {
    return this.#chain;
  }

  /** Where the server of the chain is now: it moves with every new overlay. */
  current(subject: Subject): Export {
    return subject.name === 'qcow2' && this.#chain !== null ? this.#chain.served.target : subject.target;
  }

  /**
   * Large writes get large folios in the page cache, of a size that is up to the memory at that moment, and ext4 walks through
   * all of a folio to overwrite one block of it: the same build costs 20 us a write on one store and 30 us on the next.
   * Between servers that is a small part, between two builds it would be all that is seen.
   */
  get #fillBytes(): number {
    return this.#bench.options.against === null ? MIB : 16 << 10;
  }

  /** Of the volume behind `cached`. */
  get history(): History {
    const size_bytes = this.#bench.sizes.cached_bytes;
    const rewritten = Math.floor((size_bytes / 4096) * REWRITTEN);
    return { size_bytes, snapshots: SNAPSHOTS, rewritten, fill_bytes: this.#fillBytes };
  }

  async #makeCached(): Promise<Subject[]> {
    const bench = this.#bench;
    const { history } = this;
    const { size_bytes } = history;
    bench.log(`making a volume of ${size_bytes / MIB} MiB with ${SNAPSHOTS} snapshots in every server`);

    const raw = await rawSubjects(bench, await sparseFile(bench.path('cached.raw'), size_bytes));
    const [first] = raw;
    if (first !== undefined) {
      await makeHistory(
        history,
        (work) => bench.client(first.target, work),
        () => Promise.resolve(),
      );
    }

    const subjects = [...(await this.#cellblockWith(history)), ...raw];
    if (bench.peers.has('qemu-nbd')) {
      const chain = await Qcow2Chain.create({
        peers: bench.peers,
        directory: bench.options.directory,
        name: 'cached',
        size_bytes,
      });
      this.#chain = chain;
      await makeHistory(
        history,
        (work) => bench.client(chain.served.target, work),
        () => chain.snapshot(),
      );
      subjects.push({ name: 'qcow2', target: chain.served.target });
    }
    await this.warm(subjects, size_bytes);
    return subjects;
  }

  async #cellblockWith(history: History): Promise<Subject[]> {
    const volume = this.cachedVolume;
    const subjects: Subject[] = [];
    for (const { name, daemon } of await this.#bench.builds()) {
      await daemon.createVolume(volume, history.size_bytes);
      const target = daemon.target(volume);
      await makeHistory(
        history,
        (work) => this.#bench.client(target, work),
        (number) => daemon.snapshot(`${volume}@s${number}`),
      );
      subjects.push({ name, target, daemon });
    }
    return subjects;
  }

  async #makeOwned(): Promise<Subject[]> {
    const subjects = await this.cached();
    for (const subject of subjects) {
      if (subject.daemon !== undefined || subject.name === 'qcow2') {
        await this.#bench.client(
          this.current(subject),
          fillWork(this.#bench.sizes.cached_bytes, this.#fillBytes),
        );
      }
    }
    await this.warm(subjects, this.#bench.sizes.cached_bytes);
    return subjects;
  }

  async #makeSparse(): Promise<Subject[]> {
    const bench = this.#bench;
    const bytes = 1024 ** 4;
    const subjects = await rawSubjects(bench, await sparseFile(bench.path('sparse.raw'), bytes));
    if (bench.peers.has('qemu-nbd')) {
      const { peers } = bench;
      const chain = await Qcow2Chain.create({
        peers,
        directory: bench.options.directory,
        name: 'sparse',
        size_bytes: bytes,
      });
      subjects.push({ name: 'qcow2', target: chain.served.target });
    }
    const ours: Subject[] = [];
    for (const { name, daemon } of await bench.builds()) {
      await daemon.createVolume('sparse', bytes);
      ours.push({ name, target: daemon.target('sparse'), daemon });
    }
    return [...ours, ...subjects];
  }

  /** Reads everything once, so that what follows finds the page cache and the maps warm. */
  async warm(subjects: readonly Subject[], bytes: number): Promise<void> {
    for (const subject of subjects) {
      await this.#bench.client(this.current(subject), {
        op: 'read',
        pattern: 'sequential',
        bytes: MIB,
        requests: Math.floor(bytes / MIB),
        depth: 8,
      });
    }
    await this.#bench.settle();
  }
}
