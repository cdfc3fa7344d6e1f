// The disk of the store dies under the running agent (a file system shut down, which answers EIO to everything): nobody hangs, and
// the agent stops when it is told to. Needs root, loop devices and ext4.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadPlane } from '../../src/plane/addon.js';
import { Daemon } from '../support/daemon.js';
import type { Answer } from '../support/nbd-answers.js';
import { CMD } from '../support/nbd-wire.js';
import { mustNow } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';

t.setTimeout(240_000);

/** EXT4_IOC_SHUTDOWN without a flush of its log, which is what a pulled cable comes to. */
const SHUT_DOWN = `import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))`;

function without(): string | false {
  try {
    loadPlane();
    const place = mkdtempSync(join(tmpdir(), 'cellblock-mount-'));
    try {
      mount(place);
      mustNow('python3', ['-c', SHUT_DOWN, join(place, 'store')]);
    } finally {
      unmount(place);
    }
    return false;
  } catch (error) {
    return `needs a loop device with ext4 that can be shut down: ${(error as Error).message.trim()}`;
  }
}

function mount(place: string): void {
  mustNow('truncate', ['-s', '128M', join(place, 'image')]);
  mustNow('mkfs.ext4', ['-q', '-F', join(place, 'image')]);
  mkdirSync(join(place, 'store'));
  mustNow('mount', ['-o', 'loop', join(place, 'image'), join(place, 'store')]);
}

function unmount(place: string): void {
  try {
    mustNow('umount', [join(place, 'store')]);
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** Resolves to what `work` came to, or to 'hung'. */
function within<T>(ms: number, work: Promise<T>): Promise<T | Error | 'hung'> {
  let timer: NodeJS.Timeout;
  const late = new Promise<'hung'>((resolve) => {
    timer = setTimeout(() => resolve('hung'), ms);
  });
  const ended = work.catch((error: unknown) => error as Error);
  return Promise.race([ended, late]).finally(() => clearTimeout(timer));
}

const EIO = 5;
/** A bound that only a hang reaches, on a busy machine too. */
const LONG_MS = 30_000;

t.test('D8: the disk dies: clients, connections, the API and the stop all end', { skip: without() }, dies);

async function dies(t: Test): Promise<void> {
  const place = mkdtempSync(join(tmpdir(), 'cellblock-dead-'));
  mount(place);
  let daemon: Daemon | undefined;
  t.teardown(async () => {
    await daemon?.kill();
    unmount(place);
  });
  daemon = await Daemon.start(t, {
    directory: place,
    configuration: { store: { reserve: '8M', journal: '1M' }, limits: { stop_deadline_ms: 2000 } },
  });
  const { api, nbdPath } = daemon;
  for (const name of ['a', 'b']) await api.request('POST', '/v1/volumes', { name, size: '64M' });
  const address = `unix:${nbdPath}`;
  const { client } = await RawNbd.open(address, 'a');
  const ask = (type: number, offset = 0, length = 0) =>
    client.command({ type, offset, length }, type === CMD.write ? Buffer.alloc(length, 2) : undefined);
  t.equal((await ask(CMD.write, 0, 65536)).error, 0);
  t.equal((await ask(CMD.flush)).error, 0);
  t.equal((await ask(CMD.write, 1 << 20, 65536)).error, 0);
  mustNow('python3', ['-c', SHUT_DOWN, join(place, 'store')]);

  t.match(await within(LONG_MS, ask(CMD.flush)), { error: EIO }, 'a flush');
  for (const offset of [0, 2 << 20])
    t.not(await within(LONG_MS, ask(CMD.read, offset, 4096)), 'hung', 'a read is answered');
  t.ok(((await within(LONG_MS, ask(CMD.write, 0, 4096))) as Answer).error > 0, 'a write');
  for (const name of ['b', 'a'])
    t.not(await within(LONG_MS, RawNbd.open(address, name)), 'hung', 'a connection is answered or refused');
  for (const name of ['c', 'd']) {
    const answer = await within(LONG_MS, api.request('POST', '/v1/volumes', { name, size: '1M' }));
    t.match(answer, { body: { error: { kind: 'io', message: /cannot be written/ } } }, 'and the API refuses');
  }
  const lines = daemon.output.split('\n');
  t.ok(lines.filter((line) => line.includes('"stack"')).length < 12, 'the log has few stacks');
  const began = performance.now();
  t.not(await within(LONG_MS, daemon.stop()), 'hung');
  t.ok(performance.now() - began < 15_000, `the stop took ${Math.round(performance.now() - began)} ms`);
}
