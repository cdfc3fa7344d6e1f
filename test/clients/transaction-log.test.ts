// nbd-server's own tools read the transaction log of a volume: nbd-trdump prints what was sent, nbd-trplay makes the volume's bytes of it.
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Daemon, type Teardown } from '../support/daemon.js';
import { CMD, FLAG, MIB } from '../support/nbd-wire.js';
import { missing, must } from '../support/programs.js';
import { randomOf } from '../support/random.js';
import { RawNbd } from '../support/raw-nbd.js';

const SIZE = 4 * MIB;
const SECTOR = 512;
/** What TRIM zeroes are whole blocks; of a part of one it zeroes nothing, which it may, and nbd-trplay does. */
const BLOCK = 4096;
const seed = Number(process.env['CELLBLOCK_SEED'] ?? 1 + Math.floor(Math.random() * 1e9));
t.comment(`CELLBLOCK_SEED=${seed}`);

const noTools = missing('nbd-trdump') || missing('nbd-trplay');

interface Sent {
  cookie: bigint;
  type: number;
  flags: number;
  offset: number;
  length: number;
}

const hex = (value: bigint | number, digits: number): string => value.toString(16).padStart(digits, '0');

/** What nbd-trdump says of a request and of its reply. */
const asked = (one: Sent): string =>
  `> ${hex(one.cookie, 16)} ${hex((one.flags << 16) | one.type, 8)} ${hex(one.offset, 16)} ${hex(one.length, 8)}`;
const answered = (one: Sent): string => `< ${hex(one.cookie, 16)} 00000000`;

/** The numbers of nbd-trdump's lines, whatever it writes around them. */
async function dump(file: string): Promise<string[]> {
  const text = await must('nbd-trdump', [], { input: readFileSync(file) });
  return text.split('\n').flatMap((line) => {
    const request = /^> H=([0-9a-f]+) C=0x([0-9a-f]+) .* O=([0-9a-f]+) L=([0-9a-f]+)$/.exec(line);
    if (request) return [`> ${request.slice(1).join(' ')}`];
    const reply = /^< H=([0-9a-f]+) E=0x([0-9a-f]+)$/.exec(line);
    if (reply) return [`< ${reply.slice(1).join(' ')}`];
    return line === '' || line.startsWith('TRACE_OPTION') ? [] : [`unknown: ${line}`];
  });
}

async function start(test: Teardown): Promise<{ daemon: Daemon; logs: string }> {
  const place = mkdtempSync(path.join(os.tmpdir(), 'cellblock-logs-'));
  test.teardown(() => rmSync(place, { recursive: true, force: true }));
  const logs = path.join(place, 'logs');
  const daemon = await Daemon.start(test, { configuration: { nbd: { transaction_logs: logs } } });
  return { daemon, logs };
}

/** Random requests of whole sectors (trims: blocks), one at a time, that change `image` as they should change the volume. */
async function randomRequests(
  client: RawNbd,
  image: Buffer,
  count: number,
  random: () => number,
): Promise<Sent[]> {
  const sent: Sent[] = [];
  const types = [CMD.read, CMD.write, CMD.write, CMD.write, CMD.trim, CMD.writeZeroes, CMD.flush];
  for (let i = 0; i < count; i++) {
    const type = types[Math.floor(random() * types.length)]!;
    const unit = type === CMD.trim ? BLOCK : SECTOR;
    const length = type === CMD.flush ? 0 : unit * (1 + Math.floor((random() * 150_000) / unit));
    const offset = type === CMD.flush ? 0 : unit * Math.floor(random() * ((SIZE - length) / unit));
    const flags = type !== CMD.flush && random() < 0.2 ? FLAG.fua : 0;
    const cookie = client.nextCookie();
    const payload = Buffer.alloc(type === CMD.write ? length : 0, 1 + Math.floor(random() * 255));
    const answer = await client.command({ type, flags, offset, length, cookie }, payload);
    if (answer.error !== 0) throw new Error(`request ${i} of seed ${seed} failed: ${answer.error}`);
    if (type === CMD.write) payload.copy(image, offset);
    if (type === CMD.trim || type === CMD.writeZeroes) image.fill(0, offset, offset + length);
    sent.push({ cookie, type, flags, offset, length });
  }
  return sent;
}

t.test('nbd-trdump prints what was sent and answered', { skip: noTools }, async (t) => {
  const { daemon, logs } = await start(t);
  await daemon.api.createVolume('disk', SIZE);
  await daemon.api.call('PATCH', '/v1/volumes/disk', { transaction_log: { file: 'disk.log' } });
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  const sent = await randomRequests(client, Buffer.alloc(SIZE), 300, randomOf(seed));
  await daemon.api.call('PATCH', '/v1/volumes/disk', { transaction_log: null });
  await client.command({ type: CMD.flush });
  client.close();
  t.strictSame(
    await dump(path.join(logs, 'disk.log')),
    sent.flatMap((one) => [asked(one), answered(one)]),
  );
});

t.test("nbd-trplay makes the volume's bytes of a log with data", { skip: noTools }, async (t) => {
  const { daemon, logs } = await start(t);
  await daemon.api.createVolume('disk', SIZE);
  await daemon.api.call('PATCH', '/v1/volumes/disk', { transaction_log: { file: 'disk.log', data: true } });
  const image = Buffer.alloc(SIZE);
  const random = randomOf(seed);
  const file = path.join(logs, 'disk.log');
  const copy = path.join(daemon.directory, 'copy');
  const replay = async (): Promise<Buffer> => {
    writeFileSync(copy, '');
    truncateSync(copy, SIZE);
    const told = await must('nbd-trplay', ['-i', copy, '-l', file, '-b', String(SECTOR)]);
    t.match(told, /End of transaction log/, 'to its end');
    return readFileSync(copy);
  };
  const volume = async (): Promise<Buffer> => {
    const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
    const { data, error } = await client.command({ type: CMD.read, length: SIZE, flags: FLAG.df });
    client.close();
    t.equal(error, 0);
    return data;
  };

  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  await randomRequests(client, image, 200, random);
  client.close();
  t.ok((await volume()).equals(image), 'the volume is what was written');
  await daemon.stop();
  t.ok((await replay()).equals(image), 'and so is what the log makes');

  // What a death in the middle of a record leaves.
  const record = Buffer.alloc(28 + 100);
  record.writeUInt32BE(0x25609513, 0);
  record.writeUInt32BE(CMD.write, 4);
  record.writeUInt32BE(SECTOR, 24);
  appendFileSync(file, record);
  await daemon.run();
  const { client: again } = await RawNbd.open(daemon.nbdPath, 'disk');
  await randomRequests(again, image, 200, random);
  again.close();
  t.ok((await volume()).equals(image));
  await daemon.says('ended in the middle of a record');
  await daemon.stop();
  t.ok((await replay()).equals(image), 'it is cut off, and the log goes on behind it');
});

t.test('a log that cannot be: refused when it is set, without it where it is lost later', async (t) => {
  const { daemon, logs } = await start(t);
  await daemon.api.createVolume('disk', SIZE);
  await daemon.api.createVolume('other', SIZE);
  const set = (name: string, file: string): Promise<unknown> =>
    daemon.api.call('PATCH', `/v1/volumes/${name}`, { transaction_log: { file } });
  await set('disk', 'log');
  await t.rejects(set('other', 'log'), { code: 'transaction-log-name-taken' });
  for (const name of ['../log', '/log', '.log', '', '-log', 'a/b'])
    await t.rejects(set('disk', name), { code: 'transaction-log-name-bad' }, JSON.stringify(name));
  writeFileSync(path.join(logs, 'letter'), 'Dear Sir or Madam, this is no transaction log.');
  await t.rejects(set('disk', 'letter'), { code: 'transaction-log-unsuitable' });
  symlinkSync(path.join(daemon.directory, 'elsewhere'), path.join(logs, 'link'));
  await t.rejects(set('disk', 'link'), { code: 'transaction-log-unsuitable' });
  await daemon.stop();

  writeFileSync(path.join(logs, 'log'), 'Dear Sir or Madam, this is no transaction log.');
  await daemon.run();
  const { client } = await RawNbd.open(daemon.nbdPath, 'disk');
  t.equal((await client.command({ type: CMD.read, length: 512 })).error, 0, 'the volume is served');
  t.match(await daemon.api.call('GET', '/v1/volumes/disk'), {
    transactionLog: { file: 'log', lost: 'transaction-log-unsuitable' },
  });
  client.close();
});
