// Random histories of a volume at one host (writes, trims, snapshots, syncs, resizes, deletes of snapshots), and copies of it to another at any time, with
// connections that break and a receiver that is killed: in the end each snapshot there has the bytes of its original, and nothing was sent that
// had not changed.

import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { checkStore } from '../../src/operations/check.js';
import type { Pull } from '../../src/protocol/exchange.js';
import { BrittleRelay } from '../support/brittle-relay.js';
import { CopyEnd, freshVolume, pullOf } from '../support/copy-scene.js';
import { PLAIN_SYNC } from '../support/plain-sync.js';
import { replay } from '../support/replay.js';

t.setTimeout(900_000);

const BLOCK = 4096;
const MOST_BLOCKS = 96;
/** So small that a copy is in the middle of something whenever it is ended. */
const PIECE = 2 * BLOCK;
const CONNECTIONS = 2;
const IN_FLIGHT = CONNECTIONS * 4 * PIECE;
/** How a copy ends that does not end by itself. */
type End = { how: 'kill' | 'power' | 'stop'; afterTurns: number };

type Command =
  | { do: 'write'; volume: 'v' | 'w'; block: number; count: number; tail: number }
  | { do: 'zero'; volume: 'v' | 'w'; block: number; count: number }
  | { do: 'snapshot'; volume: 'v' | 'w' }
  | { do: 'sync'; from: 'v' | 'w'; which: number }
  | { do: 'resize'; bytes: number }
  | { do: 'delete'; which: number }
  | { do: 'copy'; volume: 'v' | 'w'; breaks: number[]; end: End | null; through: number | null };

const OPTIONS = { pieceBytes: PIECE, connections: CONNECTIONS };

const volume = fc.constantFrom('v' as const, 'v' as const, 'w' as const);
const block = fc.nat(MOST_BLOCKS - 1);
const count = fc.integer({ min: 1, max: 24 });
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      volume,
      block,
      count,
      tail: fc.constantFrom(0, 0, 1, 512),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('zero' as const), volume, block, count }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('snapshot' as const), volume }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('sync' as const),
      from: fc.constantFrom('v' as const, 'w' as const, 'w' as const),
      which: fc.nat(9),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      bytes: fc.oneof(
        fc.integer({ min: 8, max: MOST_BLOCKS }).map((blocks) => blocks * BLOCK),
        fc.integer({ min: 8 * BLOCK, max: MOST_BLOCKS * BLOCK }),
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), which: fc.nat(9) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('copy' as const),
      volume,
      breaks: fc.array(fc.integer({ min: 1, max: 200_000 }), { maxLength: 3 }),
      end: fc.option(
        fc.record({
          how: fc.constantFrom('kill' as const, 'power' as const, 'stop' as const),
          afterTurns: fc.integer({ min: 5, max: 200 }),
        }),
        { nil: null },
      ),
      through: fc.option(fc.nat(9), { nil: null }),
    }),
  },
);

class Hosts {
  readonly one = new CopyEnd();
  readonly two = new CopyEnd();
  readonly ids = new Map([
    ['v', freshVolume()],
    ['w', freshVolume()],
  ]);
  relay!: BrittleRelay;
  #fill = 0;
  #names = 0;
  /** What was received and what had changed, over all lives of the receiver. */
  #received = 0n;
  #changed = 0n;
  #breaks = 0;
  /** A copy was ended in the middle: what it had begun may have been dropped. */
  #wasEnded = false;

  async begin(): Promise<void> {
    await this.one.start(null);
    await this.two.start(this.one, OPTIONS);
    const served = this.one.listen();
    this.relay = await BrittleRelay.begin(join(this.one.directory, 'relay.sock'), () => served.slice(5));
    for (const name of ['v', 'w'])
      await this.one.operations.createVolume(name, { sizeBytes: BigInt((MOST_BLOCKS / 2) * BLOCK) });
  }

  async end(): Promise<void> {
    await this.two.end();
    await this.one.end();
    this.relay.end();
    this.one.remove();
    this.two.remove();
  }

  async run(command: Command): Promise<void> {
    const { operations } = this.one;
    switch (command.do) {
      case 'write': {
        const size = Number(this.one.container(command.volume).sizeBytes);
        const at = (command.block * BLOCK + command.tail) % size;
        const length = Math.min(command.count * BLOCK, size - at);
        return this.one.write(command.volume, at, Buffer.alloc(length, ++this.#fill % 256));
      }
      case 'zero': {
        const size = Number(this.one.container(command.volume).sizeBytes);
        const at = (command.block * BLOCK) % size;
        return this.one.zero(command.volume, at, Math.min(command.count * BLOCK, size - at));
      }
      case 'snapshot': {
        const snapshot = `s${++this.#names}`;
        await operations.createSnapshots([{ volume: command.volume, snapshot }]);
        return;
      }
      case 'sync': {
        const from = this.one.snapshotsOf(command.from).at(command.which % 10);
        if (!from) return;
        const names = { volume: command.from, snapshot: from.name };
        await operations.syncs.sync('v', names, { ...PLAIN_SYNC, grow: true, safety: false });
        return;
      }
      case 'resize':
        await operations.resizeVolume('v', { sizeBytes: BigInt(command.bytes), force: true });
        return;
      case 'delete': {
        const from = this.one.snapshotsOf('v').at(command.which);
        if (from) await operations.deleteSnapshots([{ volume: 'v', snapshot: from.name }]);
        return;
      }
      case 'copy':
        return this.#copy(command);
    }
  }

  async #copy({ volume, breaks, end, through }: Extract<Command, { do: 'copy' }>): Promise<void> {
    this.relay.breakAfter(breaks);
    if (end === null) return this.#pull(volume, through);
    const begun = this.#begin(volume, through);
    // Somewhere in the middle, or after it.
    for (let turns = 0; turns < end.afterTurns; turns++)
      await new Promise((resolve) => setImmediate(resolve));
    await begun;
    this.#wasEnded = true;
    if (end.how === 'stop') {
      await this.two.copies.stop(this.ids.get(volume)!);
      this.two.host.told.length = 0;
      return;
    }
    this.#count();
    // What it still awaits never comes.
    await this.two.kill();
    // Power is lost for the journal: what was not flushed is gone, wherever the page cache has it.
    await this.two.start(this.one, OPTIONS, { asPowerLoss: end.how === 'power' });
  }

  /** False: there is nothing to be copied yet. */
  async #begin(name: string, throughIndex: number | null): Promise<Pull['through'] | false> {
    const description = this.one.describe(name, this.ids);
    if (description.snapshots.length === 0) return false;
    const last = throughIndex === null ? undefined : description.snapshots.at(throughIndex);
    const through = last ? { id: last.id, seq: last.seq } : null;
    await this.two.copies.pull(
      this.ids.get(name)!,
      pullOf({ description, addresses: [this.relay.address], through }),
    );
    return through;
  }

  async #pull(name: string, throughIndex: number | null): Promise<void> {
    const through = await this.#begin(name, throughIndex);
    if (through === false) return;
    const told = await this.two.host.end();
    if (told.event === 'failed') throw new Error(`the copy failed: ${told.code}: ${told.message}`);
    if (through && told.through.id !== through.id) throw new Error('complete through another snapshot');
    this.#compareIds(name, through?.id);
  }

  #compareIds(name: string, through: string | undefined): void {
    const here = new Set(this.two.snapshotsOf(name).map(({ id }) => id));
    const known = this.one.snapshotsOf(name).map(({ id }) => id);
    const wanted = through === undefined ? known : known.slice(0, known.indexOf(through) + 1);
    const newest = wanted.at(-1);
    if (newest !== undefined && !here.has(newest)) throw new Error('told as complete, and is not here');
  }

  #count(): void {
    const { counts } = this.two.copies;
    this.#received += counts.receivedBytes;
    this.#changed += counts.changedBytes;
    this.#breaks += counts.breaks + 1;
    if (counts.mismatches > 0) throw new Error('a digest differed');
  }

  async verify(): Promise<void> {
    this.relay.breakAfter([]);
    for (const name of ['w', 'v']) await this.#pull(name, null);
    this.#count();
    for (const name of ['w', 'v']) {
      if (!this.two.host.containerOf(this.ids.get(name)!)) continue;
      const copies = new Map(this.two.snapshotsOf(name).map((snapshot) => [snapshot.id, snapshot]));
      for (const original of this.one.snapshotsOf(name)) {
        const copy = copies.get(original.id);
        if (!copy) throw new Error(`${name}@${original.name} is not here`);
        const { name: called, created, sizeBytes } = copy;
        if (called !== original.name || created !== original.created || sizeBytes !== original.sizeBytes)
          throw new Error(`${name}@${original.name} came as ${JSON.stringify(called)}`);
        if (!(await this.two.bytesOf(copy)).equals(await this.one.bytesOf(original)))
          throw new Error(`${name}@${original.name} has other bytes`);
      }
    }
    const bound = this.#changed + BigInt(this.#breaks * IN_FLIGHT);
    if (this.#received > bound && !this.#wasEnded)
      throw new Error(`${this.#received} bytes came, ${bound} would be enough`);
    await this.#check();
  }

  /** The stores are whole. */
  async #check(): Promise<void> {
    for (const { operations, directory } of [this.one, this.two]) {
      const { queue, catalog, reclaim } = operations.parts;
      await reclaim.kick();
      const isKnownFile = (number: number): boolean => catalog.files.has(number);
      const { findings } = await checkStore({ directory: join(directory, 'store'), queue, isKnownFile });
      const errors = findings.filter(({ severity }) => severity === 'error');
      if (errors.length > 0)
        throw new Error(errors.map(({ code, message }) => `${code}: ${message}`).join('\n'));
    }
  }
}

t.test('whatever happens, a copy has the snapshots of its original', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 8, maxLength: 40 }), async (commands) => {
      const hosts = new Hosts();
      await hosts.begin();
      try {
        for (const command of commands) await hosts.run(command);
        await hosts.verify();
      } finally {
        await hosts.end();
      }
    }),
    replay({ quick: 6, normal: 30, long: 600 }),
  );
  t.pass('they agree');
});
