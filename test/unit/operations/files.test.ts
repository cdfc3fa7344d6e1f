// Files as containers: an exact length, attributes that no sync changes, one space of names with volumes, verbs of their own.

import t from 'tap';

import { decodeContainer, encodeContainer } from '../../../src/model/entities.js';
import { attributeFields, withAttributes } from '../../../src/operations/file-identity.js';
import type { SyncIdentity } from '../../../src/operations/sync-types.js';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { Store } from '../../support/store-harness.js';
import { until } from '../../support/waiting.js';

const FROM = { volume: 'source', snapshot: 's' };
const LONG_AGO = '2001-02-03T04:05:06.000Z';
const ATTRIBUTES = {
  owner: 1000,
  group: 100,
  mode: 0o2640,
  xattrs: { 'user.origin': 'aG9tZQ==' },
  birth: LONG_AGO,
  modified: LONG_AGO,
};

/** A source with a snapshot and a target, files of 4,097 bytes. */
async function scene(): Promise<Store> {
  const store = await Store.make();
  const { operations } = store;
  await operations.createFile('source', { sizeBytes: 4097n });
  await operations.createFile('target', { sizeBytes: 4097n, attributes: ATTRIBUTES });
  await write(store, 'source', [5, 6]);
  await operations.createSnapshots([FROM]);
  await write(store, 'target', [7, 8]);
  return store;
}

async function write(store: Store, name: string, values: number[]): Promise<void> {
  const session = await store.plane.connect(name);
  await session.write(0, values);
  session.close();
  await idle(store);
}

async function readAll(store: Store, name: string): Promise<number[]> {
  const values = await store.readAll(name);
  await idle(store);
  return values;
}

async function idle(store: Store): Promise<void> {
  const { devices } = store.operations.parts;
  await until('the end of the connections', () =>
    devices.all().every(({ connections }) => connections === 0),
  );
}

t.test('a file has its exact length and its attributes, also after a restart', async (t) => {
  const store = await scene();
  const told = store.operations.showVolume('target', 'file');
  t.match(told, { kind: 'file', sizeBytes: 4097n, attributes: ATTRIBUTES });
  t.match(store.operations.showVolume('source', 'file').attributes, { owner: 0, mode: 0o600, xattrs: {} });
  await store.restart('power-loss');
  t.strictSame(store.operations.showVolume('target', 'file').attributes, ATTRIBUTES);
  t.same(
    store.operations.listVolumes('file').map(({ name }) => name),
    ['source', 'target'],
  );
  t.same(store.operations.listVolumes('volume'), []);
  await store.end();
});

t.test('a sync takes the content; of the attributes only the modification advances', async (t) => {
  const store = await scene();
  const info = await store.operations.syncs.sync('target', FROM, PLAIN_SYNC);
  t.same(await readAll(store, 'target'), [5, 6]);
  const { modified, ...others } = store.operations.showVolume('target', 'file').attributes!;
  const { modified: before, ...wanted } = ATTRIBUTES;
  t.strictSame(others, wanted);
  t.ok(modified > before);
  const { captured, same } = info.disks[0]!.identity!;
  const values = [
    ['record/file.name', 'target'],
    ['record/file.id', '2'],
    ['record/file.owner', '1000'],
    ['record/file.group', '100'],
    ['record/file.mode', '2640'],
    ['record/file.birth', LONG_AGO],
    ['record/file.xattr/user.origin', 'aG9tZQ=='],
  ];
  t.strictSame(
    captured.map(({ field, value }) => [field, value]),
    values,
  );
  t.strictSame(
    same.map(({ field, now, target }) => (now === target ? [field, now] : field)),
    values,
  );
  await store.restart('power-loss');
  t.equal(store.operations.showVolume('target', 'file').attributes!.modified, modified, 'durable');
  await store.operations.syncs.undo('target', PLAIN_SYNC);
  t.same(await readAll(store, 'target'), [7, 8]);
  await store.end();
});

t.test('attributes that change during a sync: it does not end well', async (t) => {
  const store = await scene();
  const target = store.operations.parts.catalog.containerNamed('target')!;
  const nothing = { captured: null, restore: async () => [] };
  const identity = withAttributes({ capture: async () => nothing, verify: async () => undefined }, [target]);
  await identity.verify([], []);
  target.name = 'renamed';
  await identity.verify([], []);
  target.attributes = { ...target.attributes!, mode: 0o777 };
  await t.rejects(identity.verify([], []), { code: 'identity-not-restored', message: /file\.mode/ });
  target.name = 'target';
  t.equal(attributeFields(target).length, 7);
  await store.end();
});

t.test('volume to file and file to volume: refused, and nothing has changed', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.createVolume('volume', { sizeBytes: 8192n });
  await operations.createSnapshots([{ volume: 'volume', snapshot: 's' }]);
  const wrong = { code: 'container-kind-wrong' };
  await t.rejects(operations.syncs.sync('target', { volume: 'volume', snapshot: 's' }, PLAIN_SYNC), wrong);
  await t.rejects(operations.syncs.sync('volume', FROM, PLAIN_SYNC), wrong);
  await t.rejects(operations.syncs.plan('volume', FROM, PLAIN_SYNC), wrong);
  t.same(operations.syncs.list(), []);
  t.same(await readAll(store, 'target'), [7, 8]);
  await store.end();
});

t.test('a clone of a file is a file with the same owner and a birth of its own', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.createSnapshots([{ volume: 'target', snapshot: 's' }]);
  const from = { volume: 'target', snapshot: 's' };
  for (const [name, newIdentity] of [
    ['one', false],
    ['two', true],
  ] as const) {
    const clone = await operations.clone(from, name, { newIdentity });
    t.match(clone, { kind: 'file', sizeBytes: 4097n, attributes: { owner: 1000, group: 100, mode: 0o2640 } });
    t.ok(clone.attributes!.birth > LONG_AGO);
    t.same(await readAll(store, name), [7, 8]);
  }
  await store.end();
});

t.test('bad input: sizes, names that are taken, verbs of the other kind', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.createVolume('volume', { sizeBytes: 8192n });
  await t.rejects(operations.createFile('x', { sizeBytes: 0n }), { code: 'size-zero' });
  await t.rejects(operations.createFile('x', { sizeBytes: -1n }), { code: 'size-negative' });
  await t.rejects(operations.createFile('volume', { sizeBytes: 1n }), {
    code: 'volume-exists',
    message: /a volume/,
  });
  await t.rejects(operations.createVolume('target', { sizeBytes: 1n }), {
    code: 'volume-exists',
    message: /a file/,
  });
  await t.rejects(operations.renameVolume('volume', 'target'), { code: 'volume-exists' });
  const wrong = { code: 'container-kind-wrong', hint: /cellblock file/ };
  t.throws(() => operations.showVolume('target'), wrong);
  await t.rejects(operations.renameVolume('target', 'x'), wrong);
  await t.rejects(operations.resizeVolume('target', { sizeBytes: 9n, force: true }), wrong);
  await t.rejects(operations.deleteVolume('target', { withSnapshots: true }), wrong);
  await t.rejects(operations.repairVolume('target'), wrong);
  await t.rejects(operations.setFileAttributes('volume', { mode: 0 }), { code: 'container-kind-wrong' });
  await t.rejects(operations.deleteVolume('nobody', {}, 'file'), {
    code: 'volume-not-found',
    message: /no file/,
  });
  t.equal(operations.listVolumes().length, 3);
  await store.end();
});

t.test('attributes are set one by one, and a modification does not go back', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.setFileAttributes('target', { mode: 0o600 });
  t.strictSame(operations.showVolume('target', 'file').attributes, { ...ATTRIBUTES, mode: 0o600 });
  await operations.setFileAttributes('target', { modified: '1999-01-01T00:00:00.000Z' });
  t.equal(operations.showVolume('target', 'file').attributes!.modified, LONG_AGO);
  await operations.setFileAttributes('target', { modified: '2002-01-01T00:00:00Z' });
  t.equal(operations.showVolume('target', 'file').attributes!.modified, '2002-01-01T00:00:00.000Z');
  await operations.deleteVolume('source', { withSnapshots: true }, 'file');
  t.equal(operations.listVolumes().length, 1);
  await store.end();
});

t.test('a file that expires is deleted by itself', async (t) => {
  const store = await scene();
  const clone = await store.operations.clone(FROM, 'throw-away', { expires: LONG_AGO });
  t.equal(clone.kind, 'file');
  await store.operations.parts.expiry.look(Date.now());
  t.notOk(store.operations.listVolumes().some(({ name }) => name === 'throw-away'));
  await store.end();
});

t.test('records: as they were written; those from before files have no attributes', async (t) => {
  const store = await scene();
  const target = store.operations.parts.catalog.containerNamed('target')!;
  t.strictSame(decodeContainer(encodeContainer(target)), target);
  const { attributes: _attributes, ...old } = JSON.parse(encodeContainer(target));
  t.match(decodeContainer(JSON.stringify({ ...old, kind: 'volume' })), { kind: 'volume', attributes: null });
  const damaged = { ...old, attributes: { ...ATTRIBUTES, mode: 'rw' } };
  t.throws(() => decodeContainer(JSON.stringify(damaged)), { code: 'catalog-corrupt' });
  await store.end();
});

t.test('the identity of a file is looked for as that of a file', async (t) => {
  const store = await scene();
  const asked: unknown[] = [];
  const identity: SyncIdentity = {
    capture: async (disks) => {
      asked.push(...disks.map(({ kind }) => kind));
      return { captured: null, restore: async () => [] };
    },
    verify: async () => undefined,
  };
  await store.restart('clean', { identity: () => identity });
  await store.operations.syncs.sync('target', FROM, PLAIN_SYNC);
  t.same(asked, ['file']);
  await store.end();
});
