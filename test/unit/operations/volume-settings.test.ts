// Limits and transaction logs of volumes: kept in the record, handed to the data plane whenever the volume is open.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { decodeContainer, encodeContainer } from '../../../src/model/entities.js';
import { wholeRecordsIn } from '../../../src/model/log-records.js';
import { checkLimits, NO_LIMITS } from '../../../src/model/volume-settings.js';
import { Store } from '../../support/store-harness.js';

const LIMITS = { iops: 500, iopsBurst: 1000, bandwidth: 100n << 20n, bandwidthBurst: 0n };

async function makeStore(t: {
  teardown(clean: () => unknown): void;
}): Promise<{ store: Store; logs: string }> {
  const logs = mkdtempSync(join(tmpdir(), 'cellblock-logs-'));
  const store = await Store.make({ transactionLogs: logs });
  t.teardown(async () => {
    await store.end();
    rmSync(logs, { recursive: true, force: true });
  });
  return { store, logs };
}

t.test('limits that make no sense are refused', async (t) => {
  t.equal(checkLimits(NO_LIMITS), null);
  t.strictSame(checkLimits(LIMITS), LIMITS);
  const bad = [
    { iops: -1 },
    { iops: 1.5 },
    { iops: 1e10 },
    { iops: 0 },
    { bandwidth: -1n },
    { bandwidth: 1n << 50n },
    { bandwidth: 0n, bandwidthBurst: 1n },
  ];
  for (const part of bad)
    t.throws(() => checkLimits({ ...LIMITS, ...part }), { code: 'limits-invalid' }, Object.keys(part).join());
});

t.test(
  'limits reach an open volume at once, and every volume that is opened; a restart keeps them',
  async (t) => {
    const { store } = await makeStore(t);
    await store.operations.createVolume('a', { sizeBytes: 1n << 20n });
    await store.operations.createVolume('b', { sizeBytes: 1n << 20n, limits: LIMITS });
    t.match(store.operations.showVolume('b'), { limits: LIMITS, transactionLog: null });
    const a = await store.plane.connect('a');
    const handle = store.operations.parts.devices.all()[0]!.handle;
    t.equal(store.plane.limits.size, 0, 'none, nothing said');
    await store.operations.setVolume('a', { limits: LIMITS });
    t.strictSame(store.plane.limits.get(handle), LIMITS, 'while a client is connected');
    await store.operations.setVolume('a', { limits: { ...NO_LIMITS, iops: 7 } });
    t.strictSame(store.plane.limits.get(handle), { ...NO_LIMITS, iops: 7 });
    await store.operations.setVolume('a', { limits: null });
    t.strictSame(store.plane.limits.get(handle), NO_LIMITS);
    t.equal(store.operations.showVolume('a').limits, null);
    a.close();

    await store.restart('power-loss');
    const b = await store.plane.connect('b');
    t.strictSame([...store.plane.limits.values()], [LIMITS], 'as it is opened');
    b.close();
    await store.operations.createSnapshots([{ volume: 'b', snapshot: 's' }]);
    t.equal(
      (await store.operations.clone({ volume: 'b', snapshot: 's' }, 'c')).limits,
      null,
      'a clone has its own',
    );
  },
);

t.test('a log begins and ends with the setting, and is open whenever the volume is', async (t) => {
  const { store, logs } = await makeStore(t);
  const log = { file: 'a.log', data: true };
  await store.operations.createVolume('a', { sizeBytes: 1n << 20n });
  await store.operations.setVolume('a', { transactionLog: log });
  t.equal(readFileSync(join(logs, 'a.log')).length, 0, 'the file is made');
  const session = await store.plane.connect('a');
  t.strictSame([...store.plane.logs.values()], [{ path: join(logs, 'a.log'), data: true }]);
  t.match(store.operations.showVolume('a').transactionLog, { ...log, lost: null });
  const { handle } = store.operations.parts.devices.all()[0]!;
  store.plane.emit({ kind: 'transaction-log-lost', handle, error: constants.errno.ENOSPC });
  await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
  t.match(store.operations.showVolume('a').transactionLog, { ...log, lost: 'ENOSPC' });
  t.match(store.troubles.at(-1)?.message, /could not be written and has ended/);
  await store.operations.setVolume('a', { transactionLog: log });
  t.match(store.operations.showVolume('a').transactionLog, { ...log, lost: null }, 'and begins again');
  await store.operations.setVolume('a', { transactionLog: null });
  t.equal(store.plane.logs.size, 0);
  session.close();

  await store.operations.createVolume('b', { sizeBytes: 1n << 20n });
  await store.operations.setVolume('b', { transactionLog: log });
  await t.rejects(store.operations.setVolume('a', { transactionLog: log }), {
    code: 'transaction-log-name-taken',
  });
  writeFileSync(join(logs, 'text'), 'this is no log of transactions at all');
  await t.rejects(store.operations.setVolume('a', { transactionLog: { file: 'text', data: false } }), {
    code: 'transaction-log-unsuitable',
  });
  t.equal(store.operations.showVolume('a').transactionLog, null, 'nothing has changed');
});

t.test('without a directory for logs no volume may have one', async (t) => {
  const store = await Store.make();
  t.teardown(() => store.end());
  await store.operations.createVolume('a', { sizeBytes: 1n << 20n });
  const log = { file: 'a.log', data: false };
  await t.rejects(store.operations.setVolume('a', { transactionLog: log }), { code: 'transaction-logs-off' });
});

t.test('records of settings come back as they were; older ones have none', async (t) => {
  const { store } = await makeStore(t);
  await store.operations.createVolume('a', { sizeBytes: 1n << 20n, limits: LIMITS });
  await store.operations.setVolume('a', { transactionLog: { file: 'x', data: true } });
  const container = store.operations.parts.catalog.containerNamed('a')!;
  t.strictSame(decodeContainer(encodeContainer(container)), container);
  const { limits, transactionLog, ...old } = JSON.parse(encodeContainer(container));
  t.match(decodeContainer(JSON.stringify(old)), { limits: null, transactionLog: null });
  for (const damage of [{ limits: { iops: 'many' } }, { transactionLog: { file: '../x', data: true } }])
    t.throws(() => decodeContainer(JSON.stringify({ ...old, ...damage })), { code: 'catalog-corrupt' });
  t.ok(limits && transactionLog);
});

t.test('how far a log is whole', async (t) => {
  const request = (type: number, length: number, payload = 0): Buffer => {
    const record = Buffer.alloc(28 + payload, 1);
    record.writeUInt32BE(0x25609513, 0);
    record.writeUInt32BE(type, 4);
    record.writeUInt32BE(length, 24);
    return record;
  };
  const mark = (data: number): Buffer => {
    const record = Buffer.alloc(28);
    record.writeUInt32BE(0x25609514, 0);
    record.writeUInt32BE(data, 24);
    return record;
  };
  const reply = Buffer.alloc(16);
  reply.writeUInt32BE(0x67446698, 0);
  const write = 1;
  const parts = [
    mark(0),
    request(write, 5000),
    reply,
    mark(1),
    request(0, 512),
    request(write, 5000, 5000),
    request(0x10000 + write, 70, 70),
    reply,
    request(3, 0),
  ];
  const whole = Buffer.concat(parts);
  const ends = parts.map((_, index) => Buffer.concat(parts.slice(0, index + 1)).length);
  for (const step of [28, 40, 1000, 1 << 20]) {
    const read = async (offset: number) => whole.subarray(offset, offset + step);
    for (let size = 0; size <= whole.length; size += size < 100 || size > whole.length - 200 ? 1 : 97) {
      const wanted = ends.filter((end) => end <= size).at(-1) ?? 0;
      const got = await wholeRecordsIn(size, read);
      if (got !== wanted) t.equal(got, wanted, `of ${size} bytes, read ${step} at a time`);
    }
  }
  const letter = Buffer.from('Dear Sir or Madam, this is no transaction log.');
  t.equal(await wholeRecordsIn(letter.length, async (offset) => letter.subarray(offset)), 0);
});
