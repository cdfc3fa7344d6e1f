// Long chains of clones of clones, each of which wrote here and there, read while their middle is deleted and merged away: everything
// reads as the model says, and every fault has the same answer by scans and by exact keys. LevelDB answers late, so faults, rounds and
// merges come in between one another.

import fc from 'fast-check';
import t from 'tap';

import { answerBothWays } from '../support/both-ways.js';
import { answerLate } from '../support/late-level.js';
import { randomOf } from '../support/random.js';
import { replay } from '../support/replay.js';
import { BLOCKS, blocksBytes, Store } from '../support/store-harness.js';
import { StoreModel } from '../support/store-model.js';
import { unnoted } from '../support/written.js';

t.setTimeout(600_000);

const WINDOWS = 10;
const VOLUME_BLOCKS = WINDOWS * BLOCKS;
const LONGEST = 14;

type Command =
  | { do: 'write'; volume: number; window: number; block: number; count: number }
  | { do: 'trim'; volume: number; window: number; count: number }
  | { do: 'descend' | 'snapshot' | 'evict' | 'round'; volume: number }
  | { do: 'delete-volume'; volume: number }
  | { do: 'delete-snapshot'; volume: number; which: number }
  | { do: 'read'; volumes: number[] }
  | { do: 'restart'; how: 'clean' | 'process-death' };

const volume = fc.nat(30);
const window = fc.nat(WINDOWS - 1);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      volume,
      window,
      block: fc.nat(BLOCKS - 1),
      count: fc.integer({ min: 1, max: BLOCKS }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('trim' as const),
      volume,
      window,
      count: fc.integer({ min: 1, max: 48 }),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'descend' as const,
        'descend' as const,
        'snapshot' as const,
        'evict' as const,
        'round' as const,
      ),
      volume,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('delete-volume' as const), volume }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('delete-snapshot' as const), volume, which: fc.nat(9) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('read' as const),
      volumes: fc.array(volume, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('restart' as const),
      how: fc.constantFrom('clean' as const, 'process-death' as const),
    }),
  },
);

class Chain {
  readonly store: Store;
  readonly model = new StoreModel();
  #names = 0;
  #value = 0;

  constructor(store: Store) {
    this.store = store;
  }

  async begin(): Promise<void> {
    await this.store.operations.createVolume('v', { sizeBytes: blocksBytes(VOLUME_BLOCKS) });
    this.model.create('v', VOLUME_BLOCKS);
    await this.#write('v', 0, VOLUME_BLOCKS);
    await this.#descend('v');
  }

  /** Mostly the newest. */
  #pick(number: number): string {
    const names = [...this.model.volumes.keys()];
    return names[Math.max(0, names.length - 1 - (number >> 1))] ?? names[0]!;
  }

  async #write(name: string, first: number, count: number): Promise<void> {
    const values = Array.from({ length: count }, () => ++this.#value);
    const session = await this.store.plane.connect(name);
    await session.write(first, values);
    session.close();
    this.model.write(name, first, values);
  }

  async #trim(name: string, first: number, count: number): Promise<void> {
    const session = await this.store.plane.connect(name);
    await session.trim(first, count);
    session.close();
    this.model.write(name, first, new Array<number>(count).fill(0));
  }

  async #snapshot(name: string): Promise<string> {
    const snapshot = `s${++this.#names}`;
    await this.store.operations.createSnapshots([{ volume: name, snapshot }]);
    this.model.snapshot(name, snapshot);
    return snapshot;
  }

  /** A clone of it as it is now, in which something is written. */
  async #descend(name: string): Promise<void> {
    if (this.model.volumes.size >= LONGEST) return;
    const snapshot = await this.#snapshot(name);
    const clone = `c${++this.#names}`;
    await this.store.operations.clone({ volume: name, snapshot }, clone);
    this.model.clone(name, snapshot, clone);
    await this.#write(clone, (this.#names * 7 * BLOCKS) % VOLUME_BLOCKS, 3);
  }

  async run(command: Command): Promise<void> {
    if (command.do === 'restart') return this.#restart(command.how);
    if (command.do === 'read') return this.#read(command.volumes.map((number) => this.#pick(number)));
    const name = this.#pick(command.volume);
    const { operations, plane } = this.store;
    const device = operations.parts.devices.current(operations.showVolume(name).id);
    switch (command.do) {
      case 'write': {
        const first = command.window * BLOCKS + command.block;
        return this.#write(name, first, Math.min(command.count, VOLUME_BLOCKS - first));
      }
      case 'trim': {
        const first = command.window * BLOCKS;
        return this.#trim(name, first, Math.min(command.count, VOLUME_BLOCKS - first));
      }
      case 'descend':
        return this.#descend(name);
      case 'snapshot':
        return void (await this.#snapshot(name));
      case 'evict':
        return device && plane.evict(device.handle);
      case 'round': {
        const { devices, rounds } = operations.parts;
        return device && devices.mutexOf(device.container).run(() => rounds.run(device));
      }
      case 'delete-volume':
        return this.#deleteVolume(name);
      case 'delete-snapshot':
        return this.#deleteSnapshot(name, command.which);
    }
  }

  /** Its clones stay. What it held is merged while others go on. */
  async #deleteVolume(name: string): Promise<void> {
    if (this.model.volumes.size < 3) return;
    await this.store.operations.deleteVolume(name, { withSnapshots: true, disconnect: true });
    this.model.volumes.delete(name);
  }

  async #deleteSnapshot(name: string, which: number): Promise<void> {
    const { snapshots } = this.model.volumes.get(name)!;
    const snapshot = [...snapshots.keys()][which % Math.max(1, snapshots.size)];
    if (snapshot === undefined) return;
    await this.store.operations.deleteSnapshots([{ volume: name, snapshot }]);
    snapshots.delete(snapshot);
  }

  async #restart(how: 'clean' | 'process-death'): Promise<void> {
    await this.store.restart(how);
  }

  async #read(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const { id } = this.store.operations.showVolume(name);
      const device = this.store.operations.parts.devices.current(id);
      if (device) this.store.plane.evict(device.handle);
    }
    await Promise.all(names.map((name) => this.#readVolume(name)));
    this.#throwTroubles();
  }

  async #readVolume(name: string): Promise<void> {
    const { blocks, snapshots } = this.model.volumes.get(name)!;
    const wanted = [
      [name, blocks],
      ...[...snapshots].map(([snapshot, frozen]) => [`${name}@${snapshot}`, frozen]),
    ];
    for (const [what, values] of wanted as [string, number[]][]) {
      const read = await this.store.readAll(what);
      const wrong = values.findIndex((value, block) => read[block] !== value);
      if (wrong >= 0)
        throw new Error(`${what}: block ${wrong} reads ${read[wrong]} instead of ${values[wrong]}`);
    }
  }

  #throwTroubles(): void {
    for (const { message, facts } of this.store.troubles) {
      if (message !== 'changes that were never flushed did not survive')
        throw Object.assign(new Error(message), { cause: facts });
    }
  }

  async end(): Promise<void> {
    await this.#read([...this.model.volumes.keys()]);
    await this.store.settle();
    await this.#read([...this.model.volumes.keys()]);
    const missing = await unnoted(this.store.database);
    if (missing.length > 0) throw new Error(`not in the index of written windows: ${missing.join(' ')}`);
  }
}

/** Records that were read by exact keys from a snapshot, which only faults do here. */
let readByKeys = 0;

function countKeys({ level }: Store): void {
  const { getMany } = level;
  level.getMany = async (keys, options) => {
    const found = await getMany.call(level, keys, options);
    if (options?.snapshot) readByKeys += found.filter((one) => one !== undefined).length;
    return found;
  };
}

async function play(commands: readonly Command[], seed: number): Promise<void> {
  const store = await Store.make();
  const random = randomOf(seed);
  store.started = () => {
    answerBothWays(store);
    countKeys(store);
    answerLate(store.level, (n) => Math.floor(random() * n));
  };
  store.started(store);
  try {
    const chain = new Chain(store);
    await chain.begin();
    for (const command of commands) await chain.run(command);
    await chain.end();
  } finally {
    await store.end();
  }
}

t.test('chains read as the model says, both ways', async (t) => {
  const histories = fc.array(command, { minLength: 40, maxLength: 120, size: 'max' });
  await fc.assert(
    fc.asyncProperty(histories, fc.nat(), play),
    replay({ quick: 6, normal: 25, long: 1000 }, { interruptAfterTimeLimit: 200_000, endOnFailure: true }),
  );
  t.ok(readByKeys > 1000, `${readByKeys} records read by exact keys`);
});
