// A real agent with its store and the real addon, and a coordinator's end of the protocol over a real WebSocket: joined, asked, commanded,
// killed. kill -9 leaves the page cache, so this says nothing of power loss: test/unit/cells/crashes.test.ts does.

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { idOf, MOVE, VOLUME } from '../support/cell-host.js';
import { Certificates } from '../support/certificates.js';
import { Daemon } from '../support/daemon.js';
import { byEffort } from '../support/effort.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { HOST, PlainCoordinator } from '../support/plain-coordinator.js';
import { randomOf } from '../support/random.js';
import { RawNbd } from '../support/raw-nbd.js';
import { seed } from '../support/replay.js';
import { until } from '../support/waiting.js';

t.setTimeout(600_000);

const KILLS = byEffort({ quick: 4, normal: 20, long: 200 });
const SEAL = idOf(0x5ea1);
const ESHUTDOWN = 108;
const BLOCK = 4096;

interface Scene {
  coordinator: PlainCoordinator;
  daemon: Daemon;
}

async function scene(t: Test, more: Record<string, unknown> = {}): Promise<Scene> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-agent-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const coordinator = await PlainCoordinator.start(t, directory);
  const daemon = await Daemon.start(t, {
    directory,
    configuration: { coordinator: coordinator.configuration(more) },
  });
  await coordinator.joined(1);
  return { coordinator, daemon };
}

async function claimed({ coordinator, daemon }: Scene): Promise<void> {
  await daemon.api.createVolume('v', 4 * MIB);
  const said = await coordinator.server.claim(HOST, { volume: VOLUME, name: 'v' }, 30_000);
  if (said.kind !== 'done') throw new Error(JSON.stringify(said));
}

/** Writes 1, 2, 3, ... into its own block until it is refused; says what was answered last, and by what it ended. */
class Writer {
  answered = 0;
  end = '';
  readonly over: Promise<void>;

  constructor(client: RawNbd, block: number) {
    this.over = this.#run(client, block);
  }

  async #run(client: RawNbd, block: number): Promise<void> {
    const data = Buffer.alloc(BLOCK);
    try {
      for (let value = 1; ; value++) {
        data.writeUInt32LE(value);
        const request = { type: CMD.write, offset: block * BLOCK, length: BLOCK };
        const { error } = await client.command(request, data);
        if (error !== 0) {
          this.end = `errno ${error}`;
          return;
        }
        this.answered = value;
      }
    } catch {
      this.end = 'the connection';
    } finally {
      client.close();
    }
  }
}

async function valueAt(daemon: Daemon, name: string, block: number): Promise<number> {
  const { client } = await RawNbd.open(daemon.nbdPath, name);
  const { error, data } = await client.command({ type: CMD.read, offset: block * BLOCK, length: BLOCK });
  client.close();
  if (error !== 0) throw new Error(`${name} cannot be read: ${error}`);
  return data.readUInt32LE();
}

/** What the server says to a client that wants to open it. */
async function refusal(daemon: Daemon, name: string): Promise<string> {
  try {
    const { client } = await RawNbd.open(daemon.nbdPath, name);
    client.close();
    return '';
  } catch (error) {
    return String(error);
  }
}

t.test('an agent joins, and tells what it is and holds', async (t) => {
  const one = await scene(t);
  const { coordinator, daemon } = one;
  t.match(coordinator.hellos[0], {
    host: HOST,
    cell: 'east',
    boot: 1,
    volumes: [],
    nbd: [`unix:${daemon.nbdPath}`],
  });
  await claimed(one);
  t.match(await coordinator.probe(VOLUME), {
    host: HOST,
    cell: 'east',
    state: 'ACTIVE',
    epoch: 1,
    lineageHead: null,
  });
  t.strictSame(
    await coordinator.perform(
      VOLUME,
      { kind: 'snapshot', id: idOf(1), name: 'one' },
      { epoch: 1, parent: null },
    ),
    { kind: 'done', head: { id: idOf(1), seq: 1 } },
  );
  t.match(
    await coordinator.perform(
      VOLUME,
      { kind: 'snapshot', id: idOf(2), name: 'two' },
      { epoch: 2, parent: null },
    ),
    { kind: 'refused', refusal: 'STALE_EPOCH' },
  );
  await daemon.api.call('POST', '/v1/snapshots', { targets: ['v@two'], local: true });
  await until('the event', () => coordinator.events.find(({ name }) => name === 'snapshot-taken'));
  await t.rejects(
    daemon.api.call('POST', '/v1/snapshots', { targets: ['v@three'] }),
    /volume-routed|belongs to a cell/,
  );
  const status = await daemon.api.call<{ coordinator: unknown }>('GET', '/v1/status');
  t.strictSame(status.coordinator, {
    host: HOST,
    cell: 'east',
    connected: true,
    coordinator: 'c1',
    leader: null,
    serving: true,
  });
  t.match(await daemon.api.call('GET', '/v1/volumes/v'), {
    cell: { id: VOLUME, state: 'ACTIVE', role: 'primary', epoch: 1, seq: 2, served: true },
  });
  await daemon.restart('stop');
  t.match(await coordinator.joined(2), {
    boot: 2,
    volumes: [{ id: VOLUME, epoch: 1, head: { seq: 2 }, state: 'ACTIVE' }],
  });
  const check = await daemon.api.check();
  t.ok(check.clean, JSON.stringify(check.raw).slice(0, 500));
});

t.test('in mutual TLS, and with nothing else when its files are missing', async (t) => {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-agent-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const certificates = await Certificates.make(path.join(directory, 'tls'));
  await certificates.issueHost(HOST, 'east');
  const coordinator = await PlainCoordinator.start(t, directory, certificates);
  const configuration = { coordinator: coordinator.configuration({ announce: ['tcp:10.0.0.1:10809'] }) };
  const daemon = await Daemon.start(t, { directory, configuration });
  t.match(await coordinator.joined(1), { host: HOST, cell: 'east', nbd: ['tcp:10.0.0.1:10809'] });
  await daemon.stop();
  rmSync(certificates.file(`${HOST}-key.pem`));
  await t.rejects(daemon.run(), /h1-key\.pem for the connection to the coordinator cannot be read: ENOENT/);
});

t.test('sealed under load: every answered write is in the seal, none is answered after it', async (t) => {
  const one = await scene(t);
  const { coordinator, daemon } = one;
  await claimed(one);
  await coordinator.command(VOLUME, { do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  const writers: Writer[] = [];
  for (let block = 0; block < 6; block++)
    writers.push(new Writer((await RawNbd.open(daemon.nbdPath, 'v')).client, block));
  await until('all to write', () => writers.every(({ answered }) => answered > 20));
  const said = await coordinator.command(VOLUME, { do: 'seal', epoch: 1, id: SEAL });
  t.strictSame(said, { kind: 'done', head: null });
  await Promise.all(writers.map(({ over }) => over));
  const sealed = `v@.carry-${SEAL.slice(0, 16)}`;
  for (const [block, { answered, end }] of writers.entries()) {
    t.equal(await valueAt(daemon, sealed, block), answered, `writer ${block}`);
    t.equal(end, `errno ${ESHUTDOWN}`, 'they are told why');
  }
  t.match(await refusal(daemon, 'v'), /sealed here/);
  const again = await coordinator.command(VOLUME, { do: 'activate', epoch: 2, from: { id: SEAL, seq: 0 } });
  t.equal(again.kind, 'done');
  t.equal(await valueAt(daemon, 'v', 3), writers[3]!.answered, 'opened again it goes on from there');
});

t.test('a group is cut while its clients are held, and they go on by themselves', async (t) => {
  const one = await scene(t);
  const { coordinator, daemon } = one;
  await claimed(one);
  const writer = new Writer((await RawNbd.open(daemon.nbdPath, 'v')).client, 0);
  await until('it to write', () => writer.answered > 5);
  const group = idOf(0x9);
  const ask = (step: Parameters<typeof coordinator.server.group>[1]['step']) =>
    coordinator.server.group(HOST, { group, step }, 30_000);
  t.match(await ask({ do: 'quiesce', volumes: [VOLUME], limitMs: 3000 }), {
    reply: { outcome: { held: 'held' } },
  });
  const atHold = writer.answered;
  const member = { volume: VOLUME, epoch: 1, parent: null, id: idOf(1), name: 'all' };
  const parts = [{ volume: VOLUME, host: HOST, epoch: 1, snapshot: idOf(1), name: 'all' }];
  t.match(await ask({ do: 'cut', members: [member], parts }), {
    reply: { outcome: { kind: 'done', held: 'held' } },
  });
  t.equal(writer.answered, atHold, 'the real data plane keeps them held over the cut');
  t.match(await ask({ do: 'resume' }), { reply: { outcome: { held: 'held' } } });
  await until('it to go on', () => writer.answered > atHold + 5);
  t.match(await ask({ do: 'publish' }), { reply: { outcome: { heads: [{ head: { seq: 1 } }] } } });
  t.equal(await valueAt(daemon, 'v@all', 0), atHold);
  const next = idOf(0x10);
  await coordinator.server.group(
    HOST,
    { group: next, step: { do: 'quiesce', volumes: [VOLUME], limitMs: 100 } },
    30_000,
  );
  const before = writer.answered;
  await until('it to go on by itself', () => writer.answered > before);
  t.match(await coordinator.server.group(HOST, { group: next, step: { do: 'resume' } }, 30_000), {
    reply: { outcome: { held: 'expired' } },
  });
});

t.test('killed between the cut and the decision: its next hello tells of the group', async (t) => {
  const one = await scene(t);
  const { coordinator, daemon } = one;
  await claimed(one);
  const group = idOf(0x9);
  const ask = (step: Parameters<typeof coordinator.server.group>[1]['step']) =>
    coordinator.server.group(HOST, { group, step }, 30_000);
  await ask({ do: 'quiesce', volumes: [VOLUME], limitMs: 3000 });
  const members = [{ volume: VOLUME, epoch: 1, parent: null, id: idOf(1), name: 'all' }];
  const parts = [
    { volume: VOLUME, host: HOST, epoch: 1, snapshot: idOf(1), name: 'all' },
    { volume: idOf(0xfa), host: 'h2', epoch: 7, snapshot: idOf(2), name: 'all' },
  ];
  await ask({ do: 'cut', members, parts });
  const hellos = coordinator.hellos.length;
  t.strictSame(coordinator.hellos.at(-1)!.groups, []);
  await daemon.kill();
  await daemon.run();
  t.strictSame((await coordinator.joined(hellos + 1)).groups, [{ group, parts }]);
  t.match(await ask({ do: 'drop' }), { reply: { outcome: { kind: 'done' } } });
  await daemon.kill();
  await daemon.run();
  t.strictSame((await coordinator.joined(hellos + 2)).groups, []);
});

t.test('killed at random moments of snapshots and seals: record and data say the same', async (t) => {
  t.comment(`CELLBLOCK_SEED=${seed}`);
  const random = randomOf(seed);
  const one = await scene(t);
  const { coordinator, daemon } = one;
  await claimed(one);
  const found = { before: 0, after: 0 };
  for (let kill = 1; kill <= KILLS; kill++) {
    const { epoch, lineageHead, state } = await coordinator.probe(VOLUME);
    t.equal(state, 'ACTIVE', `kill ${kill}`);
    const writer = new Writer((await RawNbd.open(daemon.nbdPath, 'v')).client, 0);
    await until('it to write', () => writer.answered > 3);
    const isSeal = kill % 2 === 0;
    const id = idOf(1000 + kill);
    const ask = () =>
      isSeal
        ? coordinator.command(VOLUME, { do: 'seal', epoch, id })
        : coordinator.perform(
            VOLUME,
            { kind: 'snapshot', id, name: `s${kill}` },
            { epoch, parent: lineageHead },
          );
    if (isSeal) await coordinator.command(VOLUME, { do: 'outgoing', epoch, move: MOVE, peerCell: 'west' });
    const hello = coordinator.hellos.length;
    const asked = ask();
    await new Promise((resolve) => setTimeout(resolve, random() * 12));
    await daemon.kill();
    await writer.over;
    await daemon.run();
    await coordinator.joined(hello + 1);
    void asked.catch(() => undefined);
    const now = await coordinator.probe(VOLUME);
    const isDone = isSeal ? now.state === 'SEALED' : now.lineageHead?.id === id;
    found[isDone ? 'after' : 'before']++;
    if (isDone) t.ok(now.lineageHead === null || now.lineageHead.seq > 0, `kill ${kill}: it has a seq`);
    else t.strictSame(now.lineageHead, lineageHead, `kill ${kill}: as before`);
    const value = await valueAt(daemon, isDone && isSeal ? `v@.carry-${id.slice(0, 16)}` : 'v', 0);
    t.ok(value >= writer.answered, `kill ${kill}: what was answered is there (${value}, ${writer.answered})`);
    t.equal((await ask()).kind, 'done', `kill ${kill}: asked again it is done`);
    if (isSeal) {
      const from = (await coordinator.probe(VOLUME)).sealedHead;
      t.equal((await coordinator.command(VOLUME, { do: 'activate', epoch: epoch + 1, from })).kind, 'done');
    }
    const check = await daemon.api.check();
    t.ok(check.clean, `kill ${kill}: ${JSON.stringify(check.raw).slice(0, 300)}`);
  }
  t.comment(JSON.stringify(found));
});

t.test('a cold start waits for a coordinator, and what it has seen to be newer is faulted', async (t) => {
  const one = await scene(t);
  const { coordinator, daemon } = one;
  await claimed(one);
  coordinator.said = { regressed: false, highest: [{ id: VOLUME, epoch: 1, seq: 9 }] };
  await daemon.restart('kill');
  await coordinator.joined(2);
  await until('the volume to be faulted', async () => (await coordinator.probe(VOLUME)).state === 'FAULTED');
  t.match(await refusal(daemon, 'v'), /readmit/);
  t.ok(
    coordinator.events.some(({ name }) => name === 'faulted'),
    'and it is told',
  );
  coordinator.said = { regressed: false, highest: [] };
  t.equal((await coordinator.command(VOLUME, { do: 'readmit' })).kind, 'done');
  t.equal(await refusal(daemon, 'v'), '');
  coordinator.stop();
  t.equal(await refusal(daemon, 'v'), '', 'a coordinator lost later changes nothing');
  await daemon.restart('stop');
  t.match(await refusal(daemon, 'v'), /has not answered/, 'but at a start it is waited for');
});

t.test('without a coordinator: served after serve_alone_after', async (t) => {
  const one = await scene(t, { serve_alone_after: 1 });
  const { coordinator, daemon } = one;
  await claimed(one);
  coordinator.stop();
  await daemon.restart('kill');
  await until('it to be served', async () => (await refusal(daemon, 'v')) === '');
  t.match(await daemon.api.call('GET', '/v1/status'), { coordinator: { connected: false, serving: true } });
});
