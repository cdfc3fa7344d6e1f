// Does a target that is synced again and again hold no more than it must? Real data plane, real LevelDB, an identity of real bytes; in
// between the target is written to, so that every old map has something to give back.
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';

import { NbdClient } from '../../src/nbd-client/nbd-client.js';
import { Operations } from '../../src/operations/operations.js';
import { loadPlane } from '../../src/plane/addon.js';
import { byEffort } from '../support/effort.js';
import { PLAIN_SYNC } from '../support/plain-sync.js';
import { quiet } from '../support/store-harness.js';
import { testIdentity } from '../support/test-identity.js';
import { until } from '../support/waiting.js';

t.setTimeout(900_000);

const MIB = 1 << 20;
const SIZE = 64n << 20n;
const CONTENT_MIB = 8;
const BLOCK = 4096;

const FIRST = 5;
const SYNCS = byEffort({ quick: 40, normal: 200, long: 1000 });
const UNDO_POINTS = byEffort({ quick: 5, normal: 20, long: 100 });

/** What there is of everything when nothing is under way. */
interface Held {
  lines: number;
  versions: number;
  /** Keys in LevelDB but for the records of syncs, of which the last two hundred are kept. */
  keys: number;
  files: number;
  depth: number;
  punches: number;
  residentBytes: number;
  journalCells: number;
  allocatedBytes: number;
}

class Scene {
  readonly directory = mkdtempSync(join(tmpdir(), 'cellblock-syncs-'));
  readonly socket = join(this.directory, 'nbd.sock');
  operations!: Operations;
  #turn = 0;

  async begin(): Promise<void> {
    this.operations = await Operations.open({
      directory: join(this.directory, 'store'),
      plane: loadPlane(),
      log: quiet,
      journalBytes: 1n << 20n,
      reserveBytes: 0n,
      ballastBytes: 0,
      idleCloseMs: 1_000_000,
      identity: () => testIdentity(),
    });
    this.operations.listen(`unix:${this.socket}`);
    for (const [name, byte] of [
      ['source', 1],
      ['target', 2],
    ] as const) {
      await this.operations.createVolume(name, { sizeBytes: SIZE });
      await this.write(name, 0, Buffer.alloc(CONTENT_MIB * MIB, byte));
    }
    await this.operations.createSnapshots([{ volume: 'source', snapshot: 's' }]);
  }

  async end(): Promise<void> {
    await this.operations.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  connect(name: string): Promise<NbdClient> {
    return NbdClient.connect({ address: `unix:${this.socket}`, exportName: name });
  }

  async write(name: string, offset: number, data: Buffer): Promise<void> {
    const client = await this.connect(name);
    for (let done = 0; done < data.length; done += MIB)
      await client.write(BigInt(offset + done), data.subarray(done, done + MIB));
    await client.flush();
    await client.disconnect();
    const { devices } = this.operations.parts;
    await until('the end of the connection', () =>
      devices.all().every(({ connections }) => connections === 0),
    );
  }

  /** A megabyte over what came with the last sync, then the next one; in milliseconds of the sync. */
  async sync(options: { safety: boolean }): Promise<number> {
    await this.write('target', MIB, Buffer.alloc(MIB, 3 + (this.#turn++ % 200)));
    const began = performance.now();
    await this.operations.syncs.sync(
      'target',
      { volume: 'source', snapshot: 's' },
      { ...PLAIN_SYNC, ...options },
    );
    return performance.now() - began;
  }

  /** When all that was to be given back is. */
  async held(): Promise<Held> {
    const { reclaim, punches, devices, rounds, catalog, files } = this.operations.parts;
    for (let pass = 0; pass < 3; pass++) {
      for (const device of devices.all())
        if (!device.view) await devices.mutexOf(device.container).run(() => rounds.run(device));
      reclaim.noteAll();
      await reclaim.kick();
      await punches.settled();
      await files.releaseUnnamed();
    }
    const lines = [...catalog.lines.values()];
    const { devices: counted, journalUsedCells } = this.operations.plane.counters();
    return {
      lines: lines.length,
      versions: lines.reduce((sum, { versions }) => sum + versions.length, 0),
      keys: await this.#keys(),
      files: catalog.files.size,
      depth: this.operations.showVolume('target').depth,
      punches: catalog.punches.size,
      residentBytes: counted.reduce((sum, { residentBytes }) => sum + Number(residentBytes), 0),
      journalCells: Number(journalUsedCells),
      allocatedBytes: this.#allocated(),
    };
  }

  #keys(): Promise<number> {
    return this.operations.parts.queue.read(async (level) => {
      let count = 0;
      for await (const page of level.scan({ gte: Buffer.alloc(0), lt: Buffer.alloc(1, 0xff) }))
        count += page.filter(([key]) => !key.toString('latin1').startsWith('sync/')).length;
      return count;
    });
  }

  #allocated(): number {
    const extents = join(this.directory, 'store', 'extents');
    const sizes = readdirSync(extents).map((name) => statSync(join(extents, name)).blocks * 512);
    return sizes.reduce((sum, bytes) => sum + bytes, 0);
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** The file systems that stores lie on keep a few blocks of their own for a file. */
const OF_FILE_SYSTEM = 16 * BLOCK;

t.test(`${SYNCS} syncs in a row of one target`, async (t) => {
  const scene = new Scene();
  await scene.begin();
  t.teardown(() => scene.end());
  const times: number[] = [];
  for (let nth = 0; nth < FIRST; nth++) times.push(await scene.sync({ safety: false }));
  const first = await scene.held();
  while (times.length < SYNCS) times.push(await scene.sync({ safety: false }));
  const last = await scene.held();
  t.comment(`after ${FIRST}: ${JSON.stringify(first)}`);
  t.comment(`after ${SYNCS}: ${JSON.stringify(last)}`);
  const tail = Math.min(20, SYNCS / 2);
  const [early, late] = [median(times.slice(0, tail)), median(times.slice(-tail))];
  t.comment(
    `a sync took ${early.toFixed(1)} ms at first, ${late.toFixed(1)} ms at last (${(late / early).toFixed(2)} x)`,
  );
  for (const what of ['lines', 'versions', 'keys', 'files', 'depth', 'punches', 'residentBytes'] as const)
    t.equal(last[what], first[what], `${what} as after ${FIRST}`);
  t.ok(last.journalCells <= first.journalCells + 64, 'nothing stays in the journal');
  t.ok(last.allocatedBytes <= first.allocatedBytes + OF_FILE_SYSTEM, 'nothing stays in the files');

  await t.test(`${UNDO_POINTS} with an undo point each hold what these hold, and nothing else`, async (t) => {
    // The first undo point has what the last sync without one left: an identity and a megabyte too.
    for (let nth = 0; nth < UNDO_POINTS; nth++) await scene.sync({ safety: true });
    const held = await scene.held();
    t.comment(JSON.stringify(held));
    t.equal(held.lines, last.lines + UNDO_POINTS);
    t.equal(held.versions, last.versions + UNDO_POINTS);
    t.equal(held.depth, last.depth, 'and no depth');
    const wanted = UNDO_POINTS * (MIB + BLOCK);
    const more = held.allocatedBytes - last.allocatedBytes;
    t.ok(more <= wanted + OF_FILE_SYSTEM && more >= wanted - MIB, `${more} bytes, ${wanted} of undo points`);
    const points = scene.operations.listSnapshots('target');
    t.equal(points.length, UNDO_POINTS);
    await scene.operations.deleteSnapshots(points.map(({ name }) => ({ volume: 'target', snapshot: name })));
    const after = await scene.held();
    for (const what of ['lines', 'versions', 'keys', 'files', 'depth', 'punches'] as const)
      t.equal(after[what], last[what], `${what} as before when they are deleted`);
    t.ok(after.allocatedBytes <= last.allocatedBytes + OF_FILE_SYSTEM, 'and their space is given back');
  });
});
