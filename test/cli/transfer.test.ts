// Import and export: what goes in comes out, holes stay holes, and whatever goes wrong leaves nothing half done. The bytes travel
// to a stranger's NBD server, so this also holds the client to the protocol.

import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { NbdClient } from '../../src/nbd-client/nbd-client.js';
import { type FakeAgent, startFakeAgent } from './fake-agent.js';
import { serveNbdkit, withoutNbdkit } from './nbdkit.js';
import { runCli } from './run-cli.js';

const MIB = 1024 * 1024;
const skip = withoutNbdkit;

/** An agent whose exports are all the same nbdkit. */
async function startAgent(t: Test, plugin: string[]): Promise<FakeAgent & { address: string }> {
  const agent = await startFakeAgent(t);
  const address = await serveNbdkit(t, plugin);
  agent.listeners.push('tcp:127.0.0.1:1', address);
  return { ...agent, address };
}

/** Data, holes, odd sizes: bytes at the ends, a block in the middle, a tail that is no block. */
function makeImage(path: string): Buffer {
  const image = Buffer.alloc(8 * MIB + 777);
  randomBytes(4096).copy(image, 0);
  randomBytes(3 * MIB).copy(image, 2 * MIB + 512);
  image[image.length - 1] = 1;
  const file = openSync(path, 'w');
  ftruncateSync(file, image.length);
  writeSync(file, image, 0, 4096, 0);
  writeSync(file, image, 2 * MIB, 3 * MIB + 512, 2 * MIB);
  writeSync(file, image, image.length - 1, 1, image.length - 1);
  closeSync(file);
  return image;
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

t.test('a file in and out again, with hash and holes', { skip }, async (t) => {
  const {
    apiPath: api,
    directory,
    operations,
    address,
  } = await startAgent(t, ['memory', String(8 * MIB + 777)]);
  const source = join(directory, 'in.img');
  const image = makeImage(source);
  const imported = await runCli(['volume', 'import', 'a', source, '--hash', 'sha256'], { api });
  t.equal(imported.stdout, `Volume a holds the image, 8M.\nsha256 ${sha256(image)}\n`);
  t.equal(operations.volumes.get('a')?.sizeBytes, BigInt(image.length), 'made as large as the file');

  const client = await NbdClient.connect({ address, exportName: 'a' });
  const extents = (await client.blockStatus(0n, 8 * MIB)).get('base:allocation') ?? [];
  t.ok(
    extents.some(({ flags }) => flags !== 0),
    'zeros were not sent',
  );
  await client.disconnect();

  const target = join(directory, 'out.img');
  const exported = await runCli(['volume', 'export', 'a', target, '--hash', 'sha256', '--json'], { api });
  t.equal(exported.code, 0, exported.stderr);
  t.equal(JSON.parse(exported.stdout).hash.digest, sha256(image));
  t.ok(readFileSync(target).equals(image), 'byte for byte');
  t.ok(statSync(target).blocks * 512 < 6 * MIB, 'holes were kept');
});

/** Counts what reaches the agent; the bytes themselves are thrown away or made up by nbdkit. */
async function requestsOf(t: Test, size: string) {
  const directory = t.testdir();
  const log = join(directory, 'requests.log');
  const agent = await startAgent(t, ['--filter=log', 'memory', size, `logfile=${log}`]);
  return { ...agent, count: (verb: string) => readFileSync(log, 'utf8').split(` ${verb} `).length - 1 };
}

t.test('an image of another format is refused, unless it is wanted as it is', { skip }, async (t) => {
  const { apiPath: api, directory, operations } = await startAgent(t, ['memory', String(8 * MIB)]);
  const source = join(directory, 'disk.qcow2');
  writeFileSync(source, Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(4092, 1)]));
  const refused = await runCli(['volume', 'import', 'a', source], { api });
  t.equal(refused.code, 2);
  t.match(refused.stderr, /disk\.qcow2 is a qcow2 image, not a raw one\..*qemu-img convert -f qcow2 -O raw /);
  t.equal(operations.volumes.size, 0, 'nothing was made for it');
  t.match(await runCli(['volume', 'import', 'a', source, '--dry-run'], { api }), { code: 2 });
  t.match(await runCli(['volume', 'import', 'a', source, '--as-raw'], { api }), { code: 0 });
});

t.test('holes are not read; the hash is still that of the whole image', { skip }, async (t) => {
  const { apiPath: api, directory, count } = await requestsOf(t, '1T');
  const source = join(directory, 'in.img');
  const file = openSync(source, 'w');
  ftruncateSync(file, 300 * MIB + 5);
  writeSync(file, Buffer.alloc(10_000, 7), 0, 10_000, 100 * MIB + 1);
  closeSync(file);
  const outcome = await runCli(['volume', 'import', 'a', source, '--hash', 'sha256', '--json'], { api });
  t.equal(outcome.code, 0, outcome.stderr);
  t.equal(JSON.parse(outcome.stdout).hash.digest, sha256(readFileSync(source)));
  t.equal(count('Write'), 1, 'one stretch of data');
  t.equal(count('Zero') + count('Trim'), 0, 'a fresh volume is zero without being told');
});

t.test('into an existing volume a hole is few requests, however long', { skip }, async (t) => {
  const { apiPath: api, directory, operations, address, count } = await requestsOf(t, '16G');
  await operations.createVolume('a', { sizeBytes: 16n << 30n });
  const client = await NbdClient.connect({ address, exportName: 'a' });
  await client.write(1n << 30n, Buffer.alloc(4096, 0xee));
  await client.write(15n << 30n, Buffer.alloc(4096, 0xee));
  const source = join(directory, 'in.img');
  const file = openSync(source, 'w');
  ftruncateSync(file, 2 ** 33);
  writeSync(file, Buffer.alloc(4096, 7), 0, 4096, 2 ** 32);
  closeSync(file);
  const outcome = await runCli(['volume', 'import', 'a', source], { api });
  t.equal(outcome.code, 0, outcome.stderr);
  t.ok((await client.read(1n << 30n, 4096)).equals(Buffer.alloc(4096)), 'old bytes under a hole are gone');
  t.ok((await client.read(15n << 30n, 4096)).equals(Buffer.alloc(4096)), 'and those behind the image');
  t.ok((await client.read(1n << 32n, 4096)).equals(Buffer.alloc(4096, 7)));
  t.ok(count('Zero') + count('Trim') <= 18, 'at most 1 GiB each');
  await client.disconnect();
});

t.test('pipes carry every byte, zeros too', { skip }, async (t) => {
  const { apiPath: api, directory } = await startAgent(t, ['memory', String(8 * MIB + 777)]);
  const image = makeImage(join(directory, 'in.img'));
  const pieces = [image.subarray(0, 100), image.subarray(100, MIB * 3 + 1), image.subarray(MIB * 3 + 1)];
  const stdin = Readable.from(pieces);
  const imported = await runCli(['volume', 'import', 'a', '-', '--size', String(image.length)], {
    api,
    stdin,
  });
  t.equal(imported.code, 0, imported.stderr);
  const exported = await runCli(['volume', 'export', 'a', '-'], { api });
  t.ok(exported.bytes.equals(image), 'stdout is the image and nothing else');
  t.match(exported.stderr, '- holds a');
});

t.test('an existing volume holds the image followed by zeros afterwards', { skip }, async (t) => {
  const { apiPath: api, directory, operations, address } = await startAgent(t, ['memory', '16M']);
  const client = await NbdClient.connect({ address, exportName: 'a' });
  await client.write(0n, Buffer.alloc(16 * MIB, 0xee));
  await operations.createVolume('a', { sizeBytes: BigInt(16 * MIB) });
  const source = join(directory, 'in.img');
  const image = makeImage(source);
  const outcome = await runCli(['volume', 'import', 'a', source], { api });
  t.equal(outcome.stdout, 'Volume a holds the image, 8M; the rest of it, 8M, is zeros.\n');
  const content = await client.read(0n, 16 * MIB);
  t.ok(content.subarray(0, image.length).equals(image));
  t.ok(
    content.subarray(image.length).equals(Buffer.alloc(16 * MIB - image.length)),
    'no old bytes behind it',
  );
  await client.disconnect();
});

t.test('an image that is too large is refused before a byte is written', { skip }, async (t) => {
  const { apiPath: api, directory, operations } = await startAgent(t, ['memory', '1M']);
  const source = join(directory, 'in.img');
  makeImage(source);
  const fresh = await runCli(['volume', 'import', 'a', source, '--size', '1M'], { api });
  t.equal(fresh.code, 2);
  t.match(fresh.stderr, 'The image has 8M, volume a 1M. Resize the volume, or give a larger --size.');
  t.equal(operations.volumes.size, 0);
  await operations.createVolume('b', { sizeBytes: BigInt(MIB) });
  t.equal((await runCli(['volume', 'import', 'b', source], { api })).code, 2);
});

t.test('a volume that clients have open is not written to without --force', { skip }, async (t) => {
  const { apiPath: api, directory, operations } = await startAgent(t, ['memory', '16M']);
  const source = join(directory, 'in.img');
  makeImage(source);
  const volume = await operations.createVolume('a', { sizeBytes: BigInt(16 * MIB) });
  volume.connections = 1;
  const refused = await runCli(['volume', 'import', 'a', source], { api });
  t.equal(refused.code, 5);
  t.match(refused.stderr, '--force');
  t.equal((await runCli(['volume', 'import', 'a', source, '--force'], { api })).code, 0);
});

t.test('a pipe that carries too much: the new volume is deleted again', { skip }, async (t) => {
  const { apiPath: api, operations } = await startAgent(t, ['memory', '1M']);
  const stdin = Readable.from([Buffer.alloc(MIB, 1), Buffer.alloc(1, 1)]);
  const outcome = await runCli(['volume', 'import', 'a', '-', '--size', '1M'], { api, stdin });
  t.equal(outcome.code, 2);
  t.match(outcome.stderr, 'volume a, made for it, is deleted again');
  t.equal(operations.volumes.size, 0);
});

t.test('a write that fails: the new volume is deleted again, and the reason told', { skip }, async (t) => {
  const filter = ['--filter=error', 'memory', '16M', 'error-pwrite=ENOSPC', 'error-pwrite-rate=1'];
  const { apiPath: api, directory, operations } = await startAgent(t, filter);
  const source = join(directory, 'in.img');
  makeImage(source);
  const outcome = await runCli(['volume', 'import', 'a', source], { api });
  t.equal(outcome.code, 8);
  t.match(outcome.stderr, 'is deleted again.\ncellblock: The store has no space left.');
  t.equal(operations.volumes.size, 0);
});

t.test('a write that fails ends an import from a pipe that says nothing more', { skip }, async (t) => {
  const filter = ['--filter=error', 'memory', '16M', 'error-pwrite=ENOSPC', 'error-pwrite-rate=1'];
  const { apiPath: api, operations } = await startAgent(t, filter);
  const stdin = new PassThrough();
  stdin.write(Buffer.alloc(2 * MIB, 1));
  const outcome = await runCli(['volume', 'import', 'a', '-', '--size', '16M'], { api, stdin });
  t.equal(outcome.code, 8);
  t.equal(operations.volumes.size, 0);
});

t.test('Ctrl-C in the middle of an import from a pipe', { skip }, async (t) => {
  const { apiPath: api, operations, address } = await startAgent(t, ['memory', '16M']);
  const stdin = new PassThrough();
  const stop = new AbortController();
  const importing = runCli(['volume', 'import', 'a', '-', '--size', '16M'], {
    api,
    stdin,
    signal: stop.signal,
  });
  stdin.write(Buffer.alloc(2 * MIB, 1));
  const watcher = await NbdClient.connect({ address, exportName: 'a' });
  while ((await watcher.read(0n, 1))[0] === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  const outcome = await importing;
  t.equal(outcome.code, 130);
  t.match(outcome.stderr, 'is deleted again');
  t.equal(operations.volumes.size, 0);
  await watcher.disconnect();
});

t.test('Ctrl-C in the middle of an import over an existing volume', { skip }, async (t) => {
  const { apiPath: api, operations, address } = await startAgent(t, ['memory', '16M']);
  await operations.createVolume('a', { sizeBytes: BigInt(16 * MIB) });
  const stdin = new PassThrough();
  const stop = new AbortController();
  const importing = runCli(['volume', 'import', 'a', '-'], { api, stdin, signal: stop.signal });
  stdin.write(Buffer.alloc(2 * MIB, 1));
  const watcher = await NbdClient.connect({ address, exportName: 'a' });
  while ((await watcher.read(0n, 1))[0] === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  stop.abort();
  const outcome = await importing;
  t.equal(outcome.code, 130);
  t.equal(
    outcome.stderr,
    'Volume a holds part of the image now; import it again.\ncellblock: Interrupted. Start again when you like.\n',
  );
  await watcher.disconnect();
});

t.test('what a killed export left is removed by the next one to the same name', { skip }, async (t) => {
  const { apiPath: api, directory } = await startAgent(t, ['memory', '1M']);
  const target = join(directory, 'out.img');
  const dead = spawnSync('true').pid;
  const kept = [
    `out.img.partial-${process.ppid}`,
    `other.img.partial-${dead}`,
    `out.img.partial-${dead}-mine`,
  ];
  for (const name of [...kept, `out.img.partial-${dead}`]) writeFileSync(join(directory, name), '');
  t.equal((await runCli(['volume', 'export', 'a', target], { api })).code, 0);
  t.strictSame(
    readdirSync(directory)
      .filter((name) => name.includes('partial'))
      .sort(),
    kept.sort(),
    'others stay, and those of a process that runs',
  );
});

t.test('an export does not replace a file, unless told to', { skip }, async (t) => {
  const { apiPath: api, directory } = await startAgent(t, ['memory', '1M']);
  const target = join(directory, 'out.img');
  writeFileSync(target, 'precious');
  const refused = await runCli(['volume', 'export', 'a', target], { api });
  t.equal(refused.code, 4);
  t.match(refused.stderr, 'exists already. Choose another name, or replace it with --force.');
  t.equal(readFileSync(target, 'utf8'), 'precious');
  t.equal((await runCli(['volume', 'export', 'a', target, '--force'], { api })).code, 0);
  t.equal(statSync(target).size, MIB);
});

t.test('an export that fails leaves no file, and the one it was to replace', { skip }, async (t) => {
  const filter = ['--filter=error', 'pattern', '64M', 'error-pread=EIO', 'error-pread-rate=1'];
  const { apiPath: api, directory } = await startAgent(t, filter);
  const target = join(directory, 'out.img');
  const outcome = await runCli(['volume', 'export', 'a@s', target], { api });
  t.equal(outcome.code, 9);
  t.match(outcome.stderr, 'EIO');
  t.notOk(existsSync(target));
  writeFileSync(target, 'precious');
  t.equal((await runCli(['volume', 'export', 'a', target, '--force'], { api })).code, 9);
  t.equal(readFileSync(target, 'utf8'), 'precious');
  t.same(
    readdirSync(directory).filter((name) => name.includes('partial')),
    [],
  );
});

t.test('/dev/null takes an export', { skip }, async (t) => {
  const { apiPath: api } = await startAgent(t, ['pattern', '4M']);
  t.equal((await runCli(['volume', 'export', 'a', '/dev/null'], { api })).code, 0);
});

t.test('an agent that serves nowhere we can reach', async (t) => {
  const { apiPath: api, listeners } = await startFakeAgent(t);
  t.match((await runCli(['volume', 'export', 'a', '-'], { api })).stderr, 'serves no NBD address');
  listeners.push('unix:/no/such/socket');
  const outcome = await runCli(['volume', 'export', 'a', '-'], { api });
  t.equal(outcome.code, 12);
  t.match(outcome.stderr, /\/no\/such\/socket/);
});
