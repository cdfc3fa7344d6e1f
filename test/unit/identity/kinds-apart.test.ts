// Every image belongs to one kind: the others say so without an error, and a restore of theirs changes nothing.

import { join } from 'node:path';
import t, { type Test } from 'tap';
import { btrfs } from '../../../src/identity/btrfs.js';
import { exfat } from '../../../src/identity/exfat.js';
import { fat } from '../../../src/identity/fat.js';
import type { Kind } from '../../../src/identity/kind.js';
import { luks } from '../../../src/identity/luks.js';
import { lvm } from '../../../src/identity/lvm.js';
import { md } from '../../../src/identity/md.js';
import { ntfs } from '../../../src/identity/ntfs.js';
import { swap } from '../../../src/identity/swap.js';
import { blank, Overlay } from '../../support/identity-images.js';
import { missing, must } from '../../support/programs.js';
import { raidMember } from '../../support/raid-images.js';

const kinds: Kind[] = [btrfs, swap, fat, exfat, ntfs, luks, lvm, md];
const folder = t.testdir({ key: 'passphrase' });
const UUID = '11111111-1111-4111-8111-111111111111';
const wanted = new Map([
  ['uuid', UUID],
  ['label', 'x'],
  ['name', 'x'],
  ['pv-uuid', 'pppppp-aaaa-bbbb-cccc-dddd-eeee-ffffff'],
]);

/** Name of the kind, tool, and its arguments before the file. */
const images: [string, string[]][] = [
  ['btrfs', ['mkfs.btrfs', '-q']],
  ['swap', ['mkswap', '-q']],
  ['fat', ['mkfs.fat', '-F', '12', '-S', '4096', '-s', '64']],
  ['fat', ['mkfs.fat', '-F', '16']],
  ['fat', ['mkfs.fat', '-F', '32']],
  ['exfat', ['mkfs.exfat']],
  ['ntfs', ['mkntfs', '-q', '-F', '-f']],
  [
    'luks',
    [
      'cryptsetup',
      '-q',
      'luksFormat',
      '--pbkdf',
      'pbkdf2',
      '--pbkdf-force-iterations',
      '1000',
      '-d',
      join(folder, 'key'),
    ],
  ],
  ['ext4', ['mkfs.ext4', '-q']],
  ['xfs', ['mkfs.xfs', '-q']],
  ['gpt', ['sgdisk', '-n', '1:0:0']],
];

function onlyKind(t: Test, file: string, name: string): void {
  for (const kind of kinds) {
    const disk = new Overlay(file);
    const found = disk.run(kind.detect(disk.bytes));
    t.equal(found !== null, kind.name === name, kind.name);
    const { written } = kind.name === name ? { written: [] } : disk.run(kind.restore(disk.bytes, wanted));
    t.strictSame([written, disk.changed()], [[], []]);
    disk.close();
  }
}

for (const [name, [tool, ...args]] of images as [string, [string, ...string[]]][]) {
  t.test(`${tool} ${args.join(' ').slice(0, 20)}`, { skip: missing(tool) }, async (t) => {
    const file = blank(join(folder, `${tool}${args.length}${args[1] ?? ''}`), 320 << 20);
    await must(tool, [...args, file]);
    onlyKind(t, file, name);
  });
}

t.test('a RAID member, zeros, and a disk of no bytes', async (t) => {
  onlyKind(t, raidMember(join(folder, 'raid'), { version: '1.2', uuid: UUID }), 'linux_raid_member');
  for (const bytes of [0, 1, 511, 512, 4096, 1 << 20])
    onlyKind(t, blank(join(folder, `${bytes}`), bytes), 'none');
});
