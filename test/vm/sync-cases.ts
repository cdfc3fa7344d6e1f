// Syncs of what the kernel has: refused while it is mounted, and read anew by the kernel otherwise, partitions too.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { must } from '../support/programs.js';
import type { Machine, VmCase } from './machine.js';

/** A volume with one partition (two where `second`), ext4 on the first, a file that says whose it is; and a snapshot `s`. */
async function makeDisk(machine: Machine, name: string, { second }: { second: boolean }): Promise<string> {
  await machine.must('volume', 'create', name, '--size', '128M');
  const device = await machine.attach(name);
  await must('sgdisk', ['-n', '1:2048:+64M', ...(second ? ['-n', '2:0:0'] : []), device]);
  await must('blockdev', ['--rereadpt', device]);
  await machine.format(`${device}p1`, 'ext4');
  const where = await machine.mount(`${device}p1`);
  await must('sh', ['-c', `echo ${name} > ${where}/whose`]);
  await machine.unmount(where);
  await machine.must('snapshot', 'create', `${name}@s`);
  return device;
}

async function sync(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  const target = await makeDisk(machine, 'target', { second: false });
  await makeDisk(machine, 'source', { second: true });
  const words = ['sync', 'target', '--from', 'source@s'];

  const where = await machine.mount(`${target}p1`);
  for (const how of [['--online'], ['--force'], []]) {
    const refused = await machine.tell(...words, ...how);
    assert.equal(refused.code, 5, refused.story);
    assert.match(refused.stderr, new RegExp(`"target" is attached, and ${target}p1 is mounted on ${where}`));
  }
  assert.equal(readFileSync(`${where}/whose`, 'utf8'), 'target\n');
  await machine.unmount(where);

  // Everything of it is in the page cache of the kernel.
  await must('dd', [`if=${target}`, 'of=/dev/null', 'bs=1M', 'status=none']);
  await must('dd', [`if=${target}p1`, 'of=/dev/null', 'bs=1M', 'status=none']);
  const idle = await machine.tell(...words);
  assert.equal(idle.code, 5, 'its connections count');
  assert.match(idle.stderr, new RegExp(`2 connections, as ${target} among others`));

  for (const how of ['--online', '--force']) {
    await machine.must(...words, how);
    assert.equal(existsSync(`${target}p2`), true, `${how}: the new partition is known`);
    await machine.mount(`${target}p1`);
    assert.equal(
      readFileSync(`${where}/whose`, 'utf8'),
      'source\n',
      `${how}: what is read is the new content`,
    );
    await machine.unmount(where);
    await machine.check(`${target}p1`, 'ext4');
    await machine.must('sync', 'undo', 'target', how);
    assert.equal(existsSync(`${target}p2`), false, `${how}: undone, it is gone again`);
    await machine.mount(`${target}p1`);
    assert.equal(readFileSync(`${where}/whose`, 'utf8'), 'target\n');
    await machine.unmount(where);
  }
  await machine.must('detach', 'target');
  await machine.must('detach', 'source');
  assert.deepEqual(await machine.ioErrors(), []);
}

/** Data that a program has written to the device and the kernel not yet to us belongs to before the sync. */
async function unwritten(machine: Machine): Promise<void> {
  await machine.loadDriver();
  await machine.start();
  for (const name of ['target', 'source']) await machine.must('volume', 'create', name, '--size', '64M');
  await machine.must('snapshot', 'create', 'source@s');
  const device = await machine.attach('target');
  await must('dd', ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'count=8', 'status=none']);
  await machine.must('sync', 'target', '--from', 'source@s', '--online');
  await must('sync', []);
  const zeros = await must('cmp', ['-n', String(8 * 2 ** 20), device, '/dev/zero']);
  assert.equal(zeros, '', 'nothing of it came behind the sync');
  await machine.must('sync', 'undo', 'target', '--online');
  const first = await must('head', ['-c', '16', device]);
  assert.notEqual(first, '\0'.repeat(16), 'and it is in the undo point');
}

export const syncCases: readonly VmCase[] = [
  { name: 'sync', summary: 'mounted: refused; not mounted: the kernel reads it anew', run: sync },
  {
    name: 'sync-unwritten',
    summary: 'what the kernel had not written back goes before the sync',
    run: unwritten,
  },
];
