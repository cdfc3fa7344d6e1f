// A copy of a volume brings its snapshots with their ids, sends only what has changed, goes on where it was, and lists nothing that differs.

import { randomBytes } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { hiddenName } from '../../../src/model/names.js';
import { diff } from '../../../src/operations/diff.js';
import type { Pull } from '../../../src/protocol/exchange.js';
import { BrittleRelay } from '../../support/brittle-relay.js';
import { CopyEnd, freshVolume, pullOf } from '../../support/copy-scene.js';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { until } from '../../support/waiting.js';

const MIB = 1 << 20;
const BLOCK = 4096;

interface Scene {
  one: CopyEnd;
  two: CopyEnd;
  address: string;
  volume: string;
  /** Copies `v`; how it ended, and how many bytes came. */
  copy(wishes?: Partial<Pull>, name?: string): Promise<{ told: unknown; received: number }>;
  ids: Map<string, string>;
}

async function begin(t: Test, options: Parameters<CopyEnd['start']>[1] = {}): Promise<Scene> {
  const [one, two] = [new CopyEnd(), new CopyEnd()];
  await one.start(null);
  await two.start(one, options);
  t.teardown(async () => {
    await two.end();
    await one.end();
    one.remove();
    two.remove();
  });
  const address = one.listen();
  const ids = new Map([['v', freshVolume()]]);
  const copy: Scene['copy'] = async (wishes = {}, name = 'v') => {
    const before = two.copies.counts.receivedBytes;
    const pull = pullOf({ description: one.describe(name, ids), addresses: [address] });
    await two.copies.pull(ids.get(name)!, { ...pull, ...wishes });
    const told = await two.host.end();
    return { told, received: Number(two.copies.counts.receivedBytes - before) };
  };
  return { one, two, address, volume: ids.get('v')!, copy, ids };
}

async function snapshot(end: CopyEnd, name: string, called: string): Promise<void> {
  await end.operations.createSnapshots([{ volume: name, snapshot: called }]);
}

async function sameEverywhere(t: Test, { one, two }: Scene, name = 'v'): Promise<void> {
  const originals = one.snapshotsOf(name);
  const copies = two.snapshotsOf(name);
  const facts = (list: typeof copies) =>
    list.map(({ id, name, created, sizeBytes }) => ({ id, name, created, sizeBytes }));
  t.strictSame(facts(copies), facts(originals), 'ids, names, times and sizes');
  for (const [index, original] of originals.entries()) {
    const same = (await two.bytesOf(copies[index]!)).equals(await one.bytesOf(original));
    t.ok(same, `${name}@${original.name} has the same bytes`);
  }
}

t.test('all of a first snapshot, then only what has changed', async (t) => {
  const scene = await begin(t);
  const { one, two } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(8 * MIB), description: 'the first' });
  await one.write('v', MIB, randomBytes(2 * MIB));
  await snapshot(one, 'v', 'a');
  const first = await scene.copy();
  t.match(first.told, { event: 'complete', through: { seq: 1 }, lineageHead: { seq: 1 } });
  t.equal(first.received, 2 * MIB, 'what was never written is not sent');
  t.equal(two.container('v').description, 'the first');
  await one.write('v', MIB, randomBytes(3 * BLOCK));
  await one.zero('v', 2 * MIB, MIB);
  await snapshot(one, 'v', 'b');
  await one.write('v', 6 * MIB, Buffer.alloc(BLOCK));
  await snapshot(one, 'v', 'c');
  const second = await scene.copy();
  t.match(second.told, { event: 'complete', through: { seq: 3 } });
  t.equal(second.received, 4 * BLOCK, 'zeros of the map are not sent; written zeros are data');
  await sameEverywhere(t, scene);
  t.strictSame(
    two.host.arrivals,
    one.snapshotsOf('v').map(({ id }) => id),
    'in the order of the lineage',
  );
  t.strictSame(two.operations.parts.catalog.copies.size, 0, 'nothing is left of it');
  t.equal((await scene.copy()).received, 0, 'asked for once more, it is complete at once');
});

t.test('it stops at the snapshot it is told to be complete through', async (t) => {
  const scene = await begin(t);
  const { one, two } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(MIB) });
  for (const name of ['a', 'b', 'c']) await snapshot(one, 'v', name);
  const [, b] = one.snapshotsOf('v');
  const { told } = await scene.copy({ through: { id: b!.id, seq: 2 } });
  t.match(told, { event: 'complete', through: { id: b!.id, seq: 2 } });
  t.strictSame(
    two.snapshotsOf('v').map(({ name }) => name),
    ['a', 'b'],
  );
});

t.test('a hidden snapshot at the end: the visible one before it is the head of the lineage', async (t) => {
  const scene = await begin(t);
  const { one } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(MIB) });
  await snapshot(one, 'v', 'a');
  const id = '0011223344556677'.repeat(2);
  await one.operations.parts.snapshots.create([{ volume: 'v', snapshot: hiddenName(id), id }]);
  const description = one.describe('v');
  Object.assign(description.snapshots[1]!, { hidden: true, seq: 1 });
  const [a, hidden] = one.snapshotsOf('v');
  const { told } = await scene.copy({ description });
  t.match(told, { through: { id: hidden!.id, seq: 1 }, lineageHead: { id: a!.id, seq: 1 } });
});

t.test('behind a sync the data base is what is continued, where it is here', async (t) => {
  const scene = await begin(t);
  const { one, two, ids } = scene;
  ids.set('w', freshVolume());
  for (const name of ['v', 'w']) {
    await one.operations.createVolume(name, { sizeBytes: BigInt(8 * MIB) });
    await one.write(name, 0, randomBytes(4 * MIB));
    await snapshot(one, name, 'a');
  }
  await scene.copy({}, 'w');
  await scene.copy({}, 'v');
  await one.operations.syncs.sync('v', { volume: 'w', snapshot: 'a' }, { ...PLAIN_SYNC, safety: false });
  await one.write('v', 5 * MIB, randomBytes(2 * BLOCK));
  await snapshot(one, 'v', 'b');
  const { received } = await scene.copy({}, 'v');
  t.equal(received, 3 * BLOCK, 'what was written since, and the block of the identity');
  await sameEverywhere(t, scene);
  const { catalog } = two.operations.parts;
  const line = catalog.lines.get(two.container('v').line)!;
  t.equal(catalog.lines.get(line.base!.line)!.container, two.container('w').id, 'the line continues w@a');
  t.equal(catalog.linesOf(two.container('v').id).length, 2, 'the line of before keeps its snapshot');

  await t.test('restored to a snapshot of its own', async (t) => {
    await one.operations.syncs.sync('v', { volume: 'v', snapshot: 'a' }, { ...PLAIN_SYNC, safety: false });
    await snapshot(one, 'v', 'c');
    t.equal((await scene.copy({}, 'v')).received, 0, 'nothing differs from v@a');
    await sameEverywhere(t, scene);
  });
});

t.test('behind a sync, without the data base: what differs from the parent', async (t) => {
  const scene = await begin(t);
  const { one } = scene;
  await one.operations.createVolume('w', { sizeBytes: BigInt(8 * MIB) });
  await one.write('w', 0, randomBytes(4 * MIB));
  await snapshot(one, 'w', 'a');
  await one.operations.clone({ volume: 'w', snapshot: 'a' }, 'v');
  await one.write('v', MIB, randomBytes(BLOCK));
  await snapshot(one, 'v', 'a');
  t.equal((await scene.copy()).received, 4 * MIB, 'all of it: nothing of w is here');
  await one.write('w', 2 * MIB, randomBytes(BLOCK));
  await snapshot(one, 'w', 'b');
  await one.operations.syncs.sync('v', { volume: 'w', snapshot: 'b' }, { ...PLAIN_SYNC, safety: false });
  await snapshot(one, 'v', 'b');
  const { received } = await scene.copy();
  t.equal(received, 2 * BLOCK, 'the block that v had written, and the one that w has written');
  await sameEverywhere(t, scene);
});

t.test('a clone continues the snapshot it was cloned from, where that is here', async (t) => {
  const scene = await begin(t);
  const { one, two, ids } = scene;
  ids.set('w', freshVolume());
  await one.operations.createVolume('w', { sizeBytes: BigInt(4 * MIB) });
  await one.write('w', 0, randomBytes(2 * MIB));
  await snapshot(one, 'w', 'a');
  await scene.copy({}, 'w');
  await one.operations.clone({ volume: 'w', snapshot: 'a' }, 'v');
  await one.operations.resizeVolume('v', { sizeBytes: BigInt(MIB), force: true });
  await one.operations.resizeVolume('v', { sizeBytes: BigInt(5 * MIB) });
  await one.write('v', 4 * MIB, randomBytes(BLOCK));
  await snapshot(one, 'v', 'a');
  t.equal((await scene.copy()).received, BLOCK);
  await sameEverywhere(t, scene);
  t.equal(two.operations.showVolume('v').depth, 2, 'w@a and its own');
});

t.test('a file comes with its attributes and to the byte', async (t) => {
  const scene = await begin(t);
  const { one, two } = scene;
  await one.operations.createFile('v', { sizeBytes: 10_001n, attributes: { owner: 7, mode: 0o640 } });
  await one.write('v', 0, randomBytes(10_001));
  await snapshot(one, 'v', 'a');
  await scene.copy();
  await one.operations.resizeVolume('v', { sizeBytes: 5_003n, force: true }, 'file');
  await one.write('v', 5_000, Buffer.from('end'));
  await snapshot(one, 'v', 'b');
  await one.operations.setFileAttributes('v', { group: 9 });
  await one.operations.resizeVolume('v', { sizeBytes: 20_000n }, 'file');
  await snapshot(one, 'v', 'c');
  await scene.copy();
  await sameEverywhere(t, scene);
  t.strictSame(two.container('v').attributes, one.container('v').attributes);
  t.equal(two.container('v').kind, 'file');
});

t.test('what was copied before a break, a stop or a death of the receiver is not copied again', async (t) => {
  for (const how of ['break', 'stop', 'death'] as const) {
    await t.test(how, async (t) => {
      const scene = await begin(t, { connections: 1 });
      const { one, two, volume, address } = scene;
      const relay = await BrittleRelay.begin(join(one.directory, 'relay.sock'), () => address.slice(5));
      t.teardown(() => relay.end());
      await one.operations.createVolume('v', { sizeBytes: BigInt(40 * MIB) });
      for (let at = 0; at < 32; at++) await one.write('v', at * MIB, randomBytes(MIB));
      await snapshot(one, 'v', 'a');
      const pull = pullOf({ description: one.describe('v'), addresses: [relay.address] });
      if (how === 'break') relay.breakAfter([20 * MIB]);
      await two.copies.pull(volume, pull);
      let before = 0n;
      if (how !== 'break') {
        const enough = BigInt(12 * MIB);
        await until('a part of it', () => two.copies.counts.receivedBytes > enough);
        const stopped = two.copies;
        if (how === 'death') await two.kill();
        else await stopped.stopAll();
        before = stopped.counts.receivedBytes;
        if (how === 'stop') await two.operations.close();
        await two.start(one, { connections: 1 });
        await two.copies.pull(volume, pull);
      }
      t.match(await two.host.end(), { event: 'complete' });
      const received = Number(two.copies.counts.receivedBytes + before);
      t.ok(received >= 32 * MIB, `${received} bytes came`);
      t.ok(received <= 36 * MIB, `what was in flight came twice, no more: ${received}`);
      await sameEverywhere(t, scene);
    });
  }
});

t.test('the block that the end cuts is copied again: the shrink here has written it', async (t) => {
  const scene = await begin(t, { connections: 1, pieceBytes: 4 * BLOCK });
  const { one, two, volume, address } = scene;
  await one.operations.createFile('v', { sizeBytes: BigInt(MIB) });
  await one.write('v', 0, randomBytes(MIB));
  await snapshot(one, 'v', 'a');
  await scene.copy();
  await one.operations.resizeVolume('v', { sizeBytes: 700_003n, force: true }, 'file');
  await one.write('v', 0, randomBytes(700_003));
  await snapshot(one, 'v', 'b');
  const pull = pullOf({ description: one.describe('v'), addresses: [address], bytesPerSecond: 100_000 });
  await two.copies.pull(volume, pull);
  const before = two.copies.counts.receivedBytes;
  await until('a part of it', () => two.copies.counts.receivedBytes > before);
  await two.copies.stop(volume);
  t.equal(two.container('v').sizeBytes, 700_003n, 'it was shrunk, and has no more than the first pieces');
  t.match((await scene.copy()).told, { event: 'complete' });
  t.equal(two.copies.counts.mismatches, 0);
  await sameEverywhere(t, scene);
});

t.test('what was begun of a snapshot that is gone is dropped', async (t) => {
  const scene = await begin(t, { connections: 1 });
  const { one, two, volume, address } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(40 * MIB) });
  await snapshot(one, 'v', 'a');
  await scene.copy();
  for (let at = 0; at < 32; at++) await one.write('v', at * MIB, randomBytes(MIB));
  await snapshot(one, 'v', 'b');
  await two.copies.pull(volume, pullOf({ description: one.describe('v'), addresses: [address] }));
  await until('a part of it', () => two.copies.counts.receivedBytes > BigInt(4 * MIB));
  await two.copies.stop(volume);
  t.strictSame(two.host.told, [], 'a stopped copy tells nothing');
  await one.operations.syncs.sync('v', { volume: 'v', snapshot: 'a' }, { ...PLAIN_SYNC, safety: false });
  await one.operations.deleteSnapshots([{ volume: 'v', snapshot: 'b' }]);
  await one.write('v', 39 * MIB, randomBytes(BLOCK));
  await snapshot(one, 'v', 'c');
  t.match((await scene.copy()).told, { event: 'complete' });
  await sameEverywhere(t, scene);
  const { parts } = two.operations;
  await parts.reclaim.kick();
  t.equal(parts.catalog.linesOf(two.container('v').id).length, 2, 'its line is given back');
  const [side] = two.snapshotsOf('v').slice(-1);
  let bytes = 0n;
  for await (const ranges of diff(parts.catalog, null, side!, parts.meta))
    for (const { length } of ranges) bytes += length;
  t.equal(bytes, BigInt(2 * BLOCK), 'the block that was written, and the one with the identity');
});

t.test('a digest that differs: it is copied once more, then given up, and nothing is listed', async (t) => {
  const scene = await begin(t);
  const { one, two } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(4 * MIB) });
  await one.write('v', 0, randomBytes(MIB));
  await snapshot(one, 'v', 'a');
  const right = two.host.askDigest;
  const wrong: typeof right = async (what) => ({ ...(await right(what)), sha256: '0'.repeat(64) });
  two.host.askDigest = wrong;
  const failed = await scene.copy();
  t.match(failed.told, { event: 'failed', code: 'copy-mismatch' });
  t.equal(failed.received, 2 * MIB, 'from the beginning, once');
  t.strictSame(two.snapshotsOf('v'), []);
  t.strictSame(two.host.arrivals, []);
  two.host.askDigest = async (what) => {
    two.host.askDigest = right;
    return wrong(what);
  };
  t.match((await scene.copy()).told, { event: 'complete' });
  await sameEverywhere(t, scene);
  t.equal(two.copies.counts.mismatches, 3);
});

t.test(
  'a digest that is asked for again and again leaves nothing behind on what would stop the copy',
  async (t) => {
    const scene = await begin(t);
    const { one, two } = scene;
    await one.operations.createVolume('v', { sizeBytes: BigInt(MIB) });
    await snapshot(one, 'v', 'a');
    const signals = new Set<AbortSignal>();
    const { addEventListener } = EventTarget.prototype;
    t.teardown(() => {
      EventTarget.prototype.addEventListener = addEventListener;
    });
    EventTarget.prototype.addEventListener = function (...given: Parameters<typeof addEventListener>) {
      if (this instanceof AbortSignal) signals.add(this);
      addEventListener.apply(this, given);
    };
    const listening: number[] = [];
    const right = two.host.askDigest;
    two.host.askDigest = async (what) => {
      listening.push(Math.max(...[...signals].map((signal) => getEventListeners(signal, 'abort').length)));
      if (listening.length < 8) throw new Error('the source is not reached');
      return right(what);
    };
    t.match((await scene.copy()).told, { event: 'complete' });
    t.equal(listening.length, 8);
    t.ok(Math.max(...listening) <= listening[0]!, `${listening} listeners`);
  },
);

t.test('a block that was stored wrong is found, whoever wrote it', async (t) => {
  const scene = await begin(t);
  const { one, two } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(4 * MIB) });
  await one.write('v', 0, randomBytes(MIB));
  await snapshot(one, 'v', 'a');
  const { client } = two.operations.parts;
  const write = client.write.bind(client);
  let spoilt = 0;
  client.write = (handle, offset, data) => {
    if (spoilt++ > 0) return write(handle, offset, data);
    const other = Buffer.from(data);
    other[12_345]! ^= 1;
    return write(handle, offset, other);
  };
  t.match((await scene.copy()).told, { event: 'complete' });
  t.equal(two.copies.counts.mismatches, 1);
  await sameEverywhere(t, scene);
});

t.test('a snapshot whose cut was durable and whose record was not joins the lineage later', async (t) => {
  const scene = await begin(t);
  const { one, two, volume } = scene;
  await one.operations.createVolume('v', { sizeBytes: BigInt(MIB) });
  await snapshot(one, 'v', 'a');
  await scene.copy();
  const [a] = two.snapshotsOf('v');
  // As recovery leaves it: the snapshot is listed as of now, and its group never came.
  const { catalog } = two.operations.parts;
  const { created } = a!;
  a!.created = new Date().toISOString();
  const { container, line, version, id } = a!;
  await catalog
    .change()
    .snapshot(a!)
    .copy({ volume, container, line, version, snapshot: id, since: null })
    .commit();
  two.host.arrivals.length = 0;
  t.match((await scene.copy()).told, { event: 'complete' });
  t.strictSame(two.host.arrivals, [id]);
  t.equal(two.snapshotsOf('v')[0]!.created, created);
  t.equal(catalog.copies.size, 0);
});

t.test('pulls of more at once than may run wait for their turn, and can be stopped meanwhile', async (t) => {
  const scene = await begin(t, { atOnce: 1 });
  const { one, two, ids, address } = scene;
  for (const name of ['v', 'w', 'x']) {
    ids.set(name, ids.get(name) ?? freshVolume());
    await one.operations.createVolume(name, { sizeBytes: BigInt(2 * MIB) });
    await one.write(name, 0, randomBytes(MIB));
    await snapshot(one, name, 'a');
  }
  const pull = (name: string) =>
    two.copies.pull(ids.get(name)!, pullOf({ description: one.describe(name, ids), addresses: [address] }));
  await Promise.all([pull('v'), pull('w'), pull('x')]);
  await two.copies.stop(ids.get('w')!);
  t.match([await two.host.end(), await two.host.end()], [{ event: 'complete' }, { event: 'complete' }]);
  t.equal(two.operations.parts.catalog.containerNamed('w'), undefined);
  await pull('w');
  t.match(await two.host.end(), { event: 'complete' });
  await sameEverywhere(t, scene, 'w');
});
