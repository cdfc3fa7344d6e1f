// Who uses a device, as the tables of the kernel say it.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { indexIn } from '../../../src/operations/kernel/attachment-options.js';
import {
  describeUsers,
  mountsOf,
  swapsOf,
  unescapeOctal,
} from '../../../src/operations/kernel/device-users.js';
import { KernelFiles } from '../../../src/operations/kernel/kernel-files.js';

const NBD0 = { number: '43:0', path: '/dev/nbd0', aliases: ['/dev/nbd0'] };

t.test('mounts are found by number, and where the file system has one of its own, by name', async (t) => {
  const table = [
    '25 1 8:1 / / rw - ext4 /dev/sda1 rw',
    '40 25 43:0 / /srv/a\\040b rw,relatime shared:1 - ext4 /dev/nbd0 rw',
    '41 25 0:52 / /srv/btrfs rw - btrfs /dev/nbd0 rw',
    '42 25 43:1 / /srv/other rw - ext4 /dev/nbd0p1 rw',
    '43 25 43:0 /inner /srv/bind rw master:1 - ext4 /dev/root rw',
    '',
  ].join('\n');
  t.strictSame(
    mountsOf(table, NBD0).map(({ where }) => where),
    ['/srv/a b', '/srv/btrfs', '/srv/bind'],
  );
});

t.test('swap', async (t) => {
  const table =
    'Filename\t\t\tType\t\tSize\n/dev/nbd0                               partition\t1024\n/dev/nbd01 file 1\n';
  t.strictSame(swapsOf(table, NBD0), [{ kind: 'swap', device: '/dev/nbd0', where: '' }]);
});

t.test('names of any bytes', async (t) => {
  t.equal(unescapeOctal('/a\\040b\\134c\\012'), '/a b\\c\n');
  t.equal(unescapeOctal('/gr\\303\\274n/100%'), '/grün/100%');
  t.equal(unescapeOctal('/plain'), '/plain');
});

t.test('partitions, mappings on them and mappings on those', async (t: Test) => {
  const root = mkdtempSync(join(tmpdir(), 'cellblock-sys-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const roots = { sys: join(root, 'sys'), proc: join(root, 'proc'), dev: '/dev' };
  const node = (path: string, dev: string): void => {
    mkdirSync(join(roots.sys, 'block', path, 'holders'), { recursive: true });
    writeFileSync(join(roots.sys, 'block', path, 'dev'), `${dev}\n`);
  };
  const mapping = (name: string, dev: string, mapped: string): void => {
    node(name, dev);
    mkdirSync(join(roots.sys, 'block', name, 'dm'));
    writeFileSync(join(roots.sys, 'block', name, 'dm/name'), `${mapped}\n`);
  };
  node('nbd1', '43:32');
  node('nbd1/nbd1p1', '43:33');
  node('nbd1/nbd1p2', '43:34');
  mapping('dm-0', '254:0', 'secret');
  mapping('dm-1', '254:1', 'vg-data');
  mkdirSync(join(roots.sys, 'block/nbd1/nbd1p2/holders/dm-0'));
  mkdirSync(join(roots.sys, 'block/dm-0/holders/dm-1'));
  mkdirSync(join(roots.proc, 'self'), { recursive: true });
  writeFileSync(
    join(roots.proc, 'self/mountinfo'),
    '1 0 43:33 / /boot rw - vfat /dev/nbd1p1 rw\n2 0 254:1 / /data rw - xfs /dev/mapper/vg-data rw\n',
  );
  const files = new KernelFiles(roots);
  t.equal(
    describeUsers(await files.usersOf(1)),
    '/dev/nbd1p1 is mounted on /boot and /dev/nbd1p2 is used by /dev/mapper/secret and ' +
      '/dev/mapper/secret is used by /dev/mapper/vg-data and /dev/mapper/vg-data is mounted on /data',
  );
  t.strictSame(await files.usersOf(7), [], 'a device that is not there has none');
  t.strictSame(await files.indices(), [1]);
  t.equal(await files.identifierOf(1), null, 'nobody is connected');
});

t.test('devices by their names', async (t) => {
  t.strictSame(['/dev/nbd3', 'nbd3', '3'].map(indexIn), [3, 3, 3]);
  t.strictSame(
    ['/dev/sda', 'nbd', '/dev/nbd1p1', '../nbd1', '/dev/nbd99999'].map(indexIn),
    Array(5).fill(null),
  );
});
