// Volumes that move between cells while they are written: every snapshot has the same bytes at both ends, only what has changed is sent, the
// lineage goes on where it was, and the host of before serves nobody.

import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { isHiddenName } from '../../src/model/names.js';
import type { NbdClient } from '../../src/nbd-client/nbd-client.js';
import { Site, type SiteAgent } from '../support/cell-site.js';
import { PLAIN_SYNC } from '../support/plain-sync.js';
import { StampWriter } from '../support/stamp-writer.js';
import { until } from '../support/waiting.js';

t.setTimeout(600_000);

const MIB = 1 << 20;
const PLACES = { 'web-1': 'east', 'db-1': 'west' };
/** Of the blocks that are written all the time: two a window, far from one another. */
const BLOCKS = Array.from({ length: 64 }, (_, index) => index * 24 + 3);

async function made(agent: SiteAgent, name: string, filledBytes: number): Promise<void> {
  await agent.operations.createVolume(name, { sizeBytes: BigInt(32 * MIB) });
  await filled(agent, name, { offset: 16 * MIB, bytes: filledBytes });
}

/** With what compresses into nothing. */
async function filled(
  agent: SiteAgent,
  name: string,
  { offset, bytes }: { offset: number; bytes: number },
): Promise<void> {
  const client = await agent.connect(name);
  for (let at = 0; at < bytes; at += MIB) await client.write(BigInt(offset + at), randomBytes(MIB));
  await client.disconnect();
}

/** At whichever of them serves it. */
function writerOf(site: Site, name: string): StampWriter {
  const connect = async (): Promise<NbdClient | null> => {
    for (const agent of site.agents.values()) {
      const client = await agent.connect(name).catch(() => null);
      if (client && !client.readOnly) return client;
      client?.destroy();
    }
    return null;
  };
  return new StampWriter(connect, BLOCKS);
}

const visible = (agent: SiteAgent, name: string) =>
  agent.snapshotsOf(name).filter((one) => !isHiddenName(one.name));

async function sameBytes(t: Test, site: Site, name: string): Promise<void> {
  const [one, two] = [...site.agents.values()];
  const names = visible(one!, name).map((snapshot) => snapshot.name);
  t.strictSame(
    visible(two!, name).map(({ id, name }) => ({ id, name })),
    visible(one!, name).map(({ id, name }) => ({ id, name })),
    'the same snapshots in the same order',
  );
  for (const snapshot of names) {
    const [here, there] = await Promise.all([one!.bytesOf(name, snapshot), two!.bytesOf(name, snapshot)]);
    t.ok(here.equals(there), `${name}@${snapshot} has the same bytes at both ends`);
  }
}

async function servedBy(t: Test, serving: SiteAgent, other: SiteAgent, name: string): Promise<void> {
  const client = await serving.connect(name);
  t.notOk(client.readOnly, `${serving.host} serves ${name}`);
  await client.disconnect();
  await t.rejects(other.connect(name), /was handed over|is here as a copy/, `${other.host} does not`);
}

for (const tls of [false, true])
  t.test(
    `there and back while it is written, ${tls ? 'in TLS, by certificates of hosts' : 'in clear, by tokens'}`,
    async (t) => {
      const site = await Site.begin(t, PLACES, { tls });
      const [east, west] = [site.agent('web-1'), site.agent('db-1')];
      await made(east, 'db', 8 * MIB);
      t.match(await site.claim('db', 'web-1'), { snapshots: 0 });
      const writer = writerOf(site, 'db');
      writer.start();
      const checks = new Map<string, (bytes: Buffer) => string[]>();
      const taken = async (name: string, wanted: { seq: number; host: string }) => {
        const { made, check } = await writer.around(() => site.snapshot('db', name));
        t.match(made, wanted);
        checks.set(name, check);
      };
      for (let seq = 1; seq <= 5; seq++) await taken(`s${seq}`, { seq, host: 'web-1' });

      const [load] = await east.operations.parts.cells.load();
      t.ok(BigInt(load!.writtenBytes) >= BigInt(8 * MIB), 'it is told how busy it is');

      t.equal(await site.move('db', 'west'), 'moved');
      await sameBytes(t, site, 'db');
      await servedBy(t, west, east, 'db');
      const there = west.counts;
      t.ok(there.receivedBytes > BigInt(8 * MIB), 'the first snapshot is whole');
      t.ok(there.receivedBytes <= there.changedBytes, 'nothing is sent that has not changed');
      t.equal(there.mismatches, 0);

      await taken('s6', { seq: 6, host: 'db-1' });
      t.equal(await site.move('db', 'east'), 'moved');
      await sameBytes(t, site, 'db');
      await servedBy(t, east, west, 'db');
      const back = east.counts;
      t.ok(
        back.receivedBytes > 0n && back.receivedBytes < BigInt(4 * MIB),
        'only what has changed comes back',
      );
      t.ok(back.receivedBytes <= back.changedBytes, `${back.receivedBytes} of ${back.changedBytes}`);
      await taken('s7', { seq: 7, host: 'web-1' });
      await writer.stop();
      t.ok(writer.breaks >= 2, 'its connection was ended by each move');
      for (const [name, check] of checks)
        t.strictSame(check(await east.bytesOf('db', name)), [], `${name} holds what was written before it`);
      t.comment(
        `${writer.writes} writes; there: ${there.receivedBytes} bytes, ${there.snapshots} snapshots; back: ${back.receivedBytes}, ${back.snapshots}`,
      );
      for (const agent of [east, west])
        t.ok(
          agent.snapshotsOf('db').filter(({ name }) => isHiddenName(name)).length <= 3,
          `hidden snapshots do not stay at ${agent.host}`,
        );
    },
  );

t.test('a clone and a volume that was synced: what they share is not sent again', async (t) => {
  const site = await Site.begin(t, PLACES);
  const [east, west] = [site.agent('web-1'), site.agent('db-1')];
  await made(east, 'golden', 8 * MIB);
  await site.claim('golden', 'web-1');
  await site.snapshot('golden', 'g1');
  await east.operations.clone({ volume: 'golden', snapshot: 'g1' }, 'clone');
  await filled(east, 'clone', { offset: 0, bytes: MIB });
  await site.claim('clone', 'web-1');
  await site.snapshot('clone', 'c1');
  await made(east, 'synced', 2 * MIB);
  await site.claim('synced', 'web-1');
  await site.snapshot('synced', 'y1');
  await east.operations.syncs.sync(
    'synced',
    { volume: 'golden', snapshot: 'g1' },
    { ...PLAIN_SYNC, safety: false },
  );
  await filled(east, 'synced', { offset: 0, bytes: MIB });
  await site.snapshot('synced', 'y2');
  let before = 0n;
  for (const { name, least, most } of [
    { name: 'golden', least: 8, most: 8 },
    { name: 'clone', least: 1, most: 1 },
    { name: 'synced', least: 3, most: 3 },
  ]) {
    t.equal(await site.move(name, 'west'), 'moved');
    const sent = west.counts.receivedBytes - before;
    before = west.counts.receivedBytes;
    t.ok(sent >= BigInt(least * MIB) && sent <= BigInt(most * MIB) + 65536n, `${name}: ${sent} bytes`);
    await sameBytes(t, site, name);
    await servedBy(t, west, east, name);
  }
  t.match(await site.snapshot('clone', 'c2'), { seq: 2, host: 'db-1' });
  t.match(await site.snapshot('synced', 'y3'), { seq: 3, host: 'db-1' });
});

t.test('clones that bring along what they continue: it is sent once, then only what differs', async (t) => {
  for (const graceMs of [3_600_000, 0]) {
    const site = await Site.begin(t, PLACES, { settings: { graceMs } });
    const [east, west] = [site.agent('web-1'), site.agent('db-1')];
    await made(east, 'golden', 8 * MIB);
    await site.claim('golden', 'web-1');
    await site.snapshot('golden', 'g1');
    await filled(east, 'golden', { offset: 24 * MIB, bytes: 2 * MIB });
    await site.snapshot('golden', 'g2');
    const clones = graceMs === 0 ? ['one'] : ['one', 'two'];
    for (const name of clones) {
      await east.operations.clone({ volume: 'golden', snapshot: 'g1' }, name);
      await filled(east, name, { offset: 0, bytes: MIB });
      await site.claim(name, 'web-1');
    }
    // The first has no snapshot of its own.
    if (graceMs > 0) await site.snapshot('two', 't1');
    let before = 0n;
    for (const [index, name] of clones.entries()) {
      t.equal(await site.move(name, 'west', { withBases: true }), 'moved');
      const sent = west.counts.receivedBytes - before;
      before = west.counts.receivedBytes;
      const least = BigInt((index === 0 ? 9 : 1) * MIB);
      t.ok(sent >= least && sent <= least + 65536n, `${name}: ${sent} bytes`);
      // Without a time of grace there is nothing left to compare with.
      if (graceMs > 0) {
        await sameBytes(t, site, name);
        await servedBy(t, west, east, name);
      }
      t.match(await site.snapshot(name, 'last'), { host: 'db-1' });
    }
    if (graceMs > 0)
      t.strictSame(
        west.snapshotsOf('golden').map(({ name }) => name),
        ['g1'],
        'as far as it is needed',
      );
    else await until('the base is given back', () => !west.operations.parts.catalog.containerNamed('golden'));
    await t.rejects(west.connect('golden'), 'nobody is served from what was brought along');
    t.match(await site.snapshot('golden', 'g3'), { seq: 3, host: 'web-1' });
    const read = await west.bytesOf('one', 'last');
    t.ok(
      read
        .subarray(16 * MIB, 24 * MIB)
        .equals((await east.bytesOf('golden', 'g1')).subarray(16 * MIB, 24 * MIB)),
    );
  }
});

t.test('who is no host reads no snapshot of a volume that is not for everybody', async (t) => {
  const site = await Site.begin(t, PLACES, { tls: true });
  const [east, west] = [site.agent('web-1'), site.agent('db-1')];
  const allow = ['tls:x509:somebody else'];
  await east.operations.createVolume('db', { sizeBytes: BigInt(4 * MIB), allow });
  await site.claim('db', 'web-1');
  await site.snapshot('db', 's1');
  t.equal(await site.move('db', 'west'), 'moved');
  t.strictSame(west.container('db').allow, allow, 'the list goes along');
  for (const agent of [east, west])
    for (const name of ['db', 'db@s1'])
      await t.rejects(agent.connect(name), /is not for/, `${name} at ${agent.host}`);
});
