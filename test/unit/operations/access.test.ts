// Who may use which export: asked for by every way a client can ask, kept across restarts, inherited by clones, and never let go by
// while a client is on its way in.
import { constants } from 'node:os';
import t from 'tap';
import type { Peer } from '../../../src/plane/treaty.js';
import { BLOCKS, blocksBytes, Store } from '../../support/store-harness.js';

const { EACCES, ENOENT } = constants.errno;
const SIZE = blocksBytes(2 * BLOCKS);

const user = (uid: number): Peer => ({ name: `unix:uid=${uid}`, uid, identity: '', tls: false, host: '' });
const proven = (identity: string): Peer => ({
  name: 'tcp:192.0.2.1:5',
  uid: -1,
  identity,
  tls: true,
  host: '',
});

/** `mine` is open to uid 7 and one TLS identity, `open` to everybody; each has a snapshot. */
async function scene(options: Parameters<typeof Store.make>[0] = {}): Promise<Store> {
  const store = await Store.make(options);
  const { operations } = store;
  const allow = ['uid:7', 'tls:x509:host-*'];
  await operations.createVolume('mine', { sizeBytes: SIZE, allow, description: 'the shop' });
  await operations.createVolume('open', { sizeBytes: SIZE });
  await operations.createSnapshots([
    { volume: 'mine', snapshot: 's' },
    { volume: 'open', snapshot: 's' },
  ]);
  return store;
}

/** What a peer sees by each way of asking. */
async function sight(store: Store, peer: Peer, name: string) {
  store.plane.peer = peer;
  const listed = (await store.plane.list()).some((one) => one.name === name);
  const { description, error } = await store.plane.describe(name);
  const opened = await store.plane.connect(name).then(
    (session) => {
      session.close();
      return 0;
    },
    ({ errno }) => errno as number,
  );
  return { listed, described: description === null ? error : 0, opened };
}

const IN = { listed: true, described: 0, opened: 0 };
const OUT = { listed: false, described: EACCES, opened: EACCES };

t.test('who is on the list sees and opens the volume and its snapshots, others neither', async (t) => {
  const store = await scene();
  for (const name of ['mine', 'mine@s']) {
    t.same(await sight(store, user(7), name), IN, `${name}: the user`);
    t.same(await sight(store, proven('x509:host-3'), name), IN, `${name}: the TLS identity`);
    t.same(await sight(store, user(0), name), OUT, `${name}: root is no exception`);
    t.same(await sight(store, proven('x509:other'), name), OUT, `${name}: another identity`);
    t.same(await sight(store, { ...user(7), uid: -1 }, name), OUT, `${name}: nobody known`);
  }
  t.same(await sight(store, user(0), 'open@s'), IN, 'without a list everybody');
  await store.end();
});

t.test('a refusal is a sentence, stands in the log and is counted', async (t) => {
  const store = await scene();
  store.plane.peer = user(8);
  const { refusal } = await store.plane.describe('mine@s');
  t.equal(refusal, 'The export "mine@s" is not for uid 8.');
  store.plane.peer = proven('psk:eve');
  t.equal((await store.plane.describe('mine')).refusal, 'The export "mine" is not for "psk:eve".');
  store.plane.peer = proven('');
  t.match((await store.plane.describe('mine')).refusal, 'a TLS client without an identity');
  await store.plane.list();
  const said = store.troubles.filter(({ message }) => message === 'a client may not use this export');
  t.match(said, [
    { facts: { export: 'mine@s', peer: 'unix:uid=8', who: 'uid 8' } },
    { facts: { export: 'mine', who: '"psk:eve"' } },
    { facts: { export: 'mine' } },
  ]);
  t.equal(said.length, 3, 'a list refuses nobody');
  t.equal(store.operations.status().accessRefused, 3);
  await store.end();
});

t.test('lists and descriptions stay over a restart and a crash', async (t) => {
  const store = await scene();
  for (const how of ['clean', 'process-death', 'power-loss'] as const) {
    await store.restart(how);
    t.same(await sight(store, user(7), 'mine'), IN, how);
    t.same(await sight(store, user(8), 'mine'), OUT, how);
    t.equal(store.operations.showVolume('mine').description, 'the shop', how);
  }
  await store.end();
});

t.test('another list holds from its answer on; open connections stay, unless they are ended', async (t) => {
  const store = await scene();
  store.plane.peer = user(7);
  const session = await store.plane.connect('mine');
  const snapshot = await store.plane.connect('mine@s');
  const info = await store.operations.setAccess('mine', { allow: ['uid:9'] });
  t.same(info.allow, ['uid:9']);
  t.equal(info.description, 'the shop', 'what is not given stays');
  t.same(await sight(store, user(7), 'mine'), OUT);
  t.same(await sight(store, user(9), 'mine'), IN);
  await session.read(0, 1);
  t.equal(store.plane.leases.size, 2, 'they go on');
  await store.operations.setAccess('mine', { disconnect: true, allow: ['uid:9'] });
  t.equal(store.plane.leases.size, 0, 'ended, of the snapshot too');
  session.close();
  snapshot.close();
  await store.operations.setAccess('mine', { allow: [] });
  t.same(await sight(store, user(0), 'mine'), IN, 'open to everybody again');
  await store.end();
});

t.test('a list that changes while a client is being let in keeps it out', async (t) => {
  const store = await scene();
  store.plane.peer = user(7);
  const { exports, catalog, devices } = store.operations.parts;
  const container = catalog.containerNamed('mine')!;
  const acquire = devices.acquire.bind(devices);
  devices.acquire = async (wanted) => {
    const device = await acquire(wanted);
    container.allow = ['uid:9'];
    return device;
  };
  await t.rejects(store.plane.connect('mine'), { message: /is not for uid 7/ });
  devices.acquire = acquire;
  t.equal(devices.current(container.id)?.connections, 0, 'it is not counted as a connection');
  t.equal(exports.refused, 1);
  await store.end();
});

t.test('clones are open to whom their source is, and are described anew', async (t) => {
  const store = await scene();
  await store.operations.clone({ volume: 'mine', snapshot: 's' }, 'copy');
  t.match(store.operations.showVolume('copy'), { allow: ['uid:7', 'tls:x509:host-*'], description: '' });
  await store.operations.setAccess('copy', { allow: ['uid:1'] });
  t.same(
    store.operations.showVolume('mine').allow,
    ['uid:7', 'tls:x509:host-*'],
    'and have a list of their own',
  );
  await store.end();
});

t.test('descriptions', async (t) => {
  const store = await scene();
  store.plane.peer = user(7);
  t.same(await store.plane.list(), [
    { name: 'mine', description: 'the shop' },
    { name: 'mine@s', description: 'the shop (snapshot of mine)' },
    { name: 'open', description: 'volume' },
    { name: 'open@s', description: 'snapshot of open' },
  ]);
  await store.operations.setAccess('mine', { description: '' });
  t.equal((await store.plane.describe('mine')).description?.description, 'volume');
  await store.end();
});

t.test('nothing is changed by a wrong list or description', async (t) => {
  const store = await scene();
  const before = store.operations.showVolume('mine');
  await t.rejects(store.operations.setAccess('mine', { allow: ['me'] }), { code: 'access-entry-malformed' });
  await t.rejects(store.operations.setAccess('mine', { allow: [], description: '\n' }), {
    code: 'description-invalid',
  });
  await t.rejects(store.operations.setAccess('nothing', { allow: [] }), { code: 'volume-not-found' });
  t.same(store.operations.showVolume('mine'), before);
  await t.rejects(store.operations.createVolume('new', { sizeBytes: SIZE, allow: ['me'] }), {
    code: 'access-entry-malformed',
  });
  t.throws(() => store.operations.showVolume('new'), { code: 'volume-not-found' });
  await store.end();
});

t.test(
  'the default export is what the empty name means, by its own name and for those who may',
  async (t) => {
    const store = await scene({ defaultExport: 'mine@s' });
    store.plane.peer = user(7);
    t.match((await store.plane.describe('')).description, { name: 'mine@s', readOnly: true });
    (await store.plane.connect('')).close();
    t.notOk(
      (await store.plane.list()).some(({ name }) => name === ''),
      'the list has real names',
    );
    store.plane.peer = user(8);
    t.match(await store.plane.describe(''), { error: EACCES, refusal: /"mine@s" is not for uid 8/ });
    await store.operations.deleteSnapshots([{ volume: 'mine', snapshot: 's' }]);
    t.match(await store.plane.describe(''), { error: ENOENT, refusal: /"mine@s", which is the default one/ });
    await store.end();
  },
);

t.test('without a default export the empty name is refused in so many words', async (t) => {
  const store = await scene();
  t.match(await store.plane.describe(''), { error: ENOENT, refusal: /There is no default export/ });
  await t.rejects(store.plane.connect(''), { message: /There is no default export/ });
  await store.restart('clean', { defaultExport: 'nothing' });
  t.match(store.troubles, [{ message: /nbd\.default_export names nothing/, facts: { export: 'nothing' } }]);
  await store.end();
});
