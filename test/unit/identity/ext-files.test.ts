// Files of ext2, ext3 and ext4 are read and written without a mount: debugfs and the kernel read what was written, e2fsck finds nothing.
import { ok, strictEqual } from 'node:assert';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { CellblockError } from '../../../src/base/errors.js';
import { type ExtFiles, openFiles, type Refused } from '../../../src/identity/ext/files.js';
import type { Reading, Writing } from '../../../src/identity/steps.js';
import { cannotMount, MIB, makeImage, mounted, mustBeClean, noTools } from '../../support/ext-image.js';
import { FileDisk } from '../../support/identity-disk.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const TIME = { seconds: 1_800_000_000, nanoseconds: 123_456_789 };
const content = (bytes: number, begin = 'x'): Buffer => Buffer.alloc(bytes, `${begin}0123456789abcdef`);

function onFiles<T>(image: string, work: (files: ExtFiles) => Reading<T> | Writing<T>): T {
  const disk = new FileDisk(image);
  try {
    const files = disk.run(openFiles(disk.bytes));
    ok(files, 'there is a file system');
    return disk.run(work(files));
  } finally {
    disk.close();
  }
}

const read = (image: string, file: string): Buffer | Refused | null =>
  onFiles(image, (files) => files.readFile(file));
const list = (image: string, folder: string): string[] | Refused | null =>
  onFiles(image, (files) => files.listDirectory(folder));
const replace = (image: string, file: string, bytes: Buffer): 'written' | Refused =>
  onFiles(image, (files) => files.replaceFile(file, bytes, TIME));
const create = (image: string, folder: string, name: string, bytes: Buffer): 'written' | Refused =>
  onFiles(image, (files) =>
    files.createFile(folder, name, bytes, { mode: 0o640, uid: 70_000, gid: 12, time: TIME }),
  );

/** What debugfs reads from a file of the image. Of one inside its inode it always says 60 bytes: there its size is taken apart. */
async function dump(image: string, file: string): Promise<Buffer> {
  const out = `${image}.dump`;
  rmSync(out, { force: true });
  await must('debugfs', ['-R', `dump ${file} ${out}`, image]);
  const said = await must('debugfs', ['-R', `stat ${file}`, image]);
  return readFileSync(out).subarray(0, Number(/Size: (\d+)/.exec(said)?.[1]));
}

/** A small guest: /etc with files and links, and a directory of many names. */
function guest(folder: string): string {
  const at = (name: string): string => path.join(folder, name);
  mkdirSync(at('etc/ssh'), { recursive: true });
  mkdirSync(at('many'));
  mkdirSync(at('var/lib/dbus'), { recursive: true });
  writeFileSync(at('etc/machine-id'), '0123456789abcdef0123456789abcdef\n');
  writeFileSync(at('etc/hostname'), 'source\n');
  writeFileSync(at('etc/empty'), '');
  writeFileSync(at('etc/ssh/ssh_host_rsa_key'), content(2602, 'key'));
  writeFileSync(at('etc/large'), content(60_000, 'large'));
  writeFileSync(at('etc/huge'), content(3_000_000, 'huge'));
  symlinkSync('/etc/machine-id', at('var/lib/dbus/machine-id'));
  symlinkSync('../etc', at('var/up'));
  symlinkSync('loop', at('loop'));
  symlinkSync(`${'./'.repeat(60)}etc/hostname`, at('long'));
  for (let file = 0; file < 300; file++) writeFileSync(at(`many/a-name-of-some-length-${file}`), `${file}`);
  return folder;
}

const VARIANTS: Record<string, string[]> = {
  ext2: ['-t', 'ext2', '-b', '1024'],
  ext3: ['-t', 'ext3', '-b', '4096'],
  ext4: ['-t', 'ext4', '-b', '4096'],
  'ext4, 1 KiB': ['-t', 'ext4', '-b', '1024', '-O', '^64bit'],
  'ext4, inodes of 128 bytes': ['-t', 'ext4', '-b', '1024', '-I', '128'],
  'ext4, old checksums': ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum,uninit_bg'],
  'ext4, meta_bg': ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^resize_inode'],
  'ext4, 64 KiB': ['-t', 'ext4', '-b', '65536'],
  'ext4, data in inodes': ['-t', 'ext4', '-b', '4096', '-O', 'inline_data'],
};

t.test('what is there is read', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const from = guest(path.join(folder, 'guest'));
  for (const [name, args] of Object.entries({ ...VARIANTS, clusters: ['-t', 'ext4', '-O', 'bigalloc'] })) {
    const image = await makeImage(path.join(folder, 'image'), [...args, '-d', from]);
    const same = (file: string, as = file): void => {
      const found = read(image, file);
      t.ok(Buffer.isBuffer(found) && found.equals(readFileSync(path.join(from, as))), `${name}: ${file}`);
    };
    for (const file of ['machine-id', 'hostname', 'empty', 'ssh/ssh_host_rsa_key', 'large', 'huge'])
      same(`/etc/${file}`, `etc/${file}`);
    same('/var/lib/dbus/machine-id', 'etc/machine-id');
    same('/var/up/../var/up/hostname', 'etc/hostname');
    same('long', 'etc/hostname');
    same('/many/a-name-of-some-length-299', 'many/a-name-of-some-length-299');
    for (const none of ['/etc', '/etc/none', '/etc/hostname/x', '/loop', '/none/hostname'])
      t.equal(read(image, none), null, `${name}: no ${none}`);
    t.equal((list(image, '/many') as string[]).length, 300, name);
    t.strictSame(
      (list(image, '/var/up') as string[]).sort(),
      ['empty', 'hostname', 'huge', 'large', 'machine-id', 'ssh'],
      name,
    );
    t.equal(list(image, '/etc/hostname'), null, name);
  }
});

t.test('a file is replaced, shorter and longer, and nothing else changes', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const from = guest(path.join(folder, 'guest'));
  for (const [name, args] of Object.entries(VARIANTS)) {
    const image = await makeImage(path.join(folder, 'image'), [...args, '-d', from]);
    const isInline = name.includes('in inodes');
    const sizes = isInline ? [33, 60, 1, 0] : [33, 0, 1, 1024, 1025, 9000, 4096, 12_288, 50];
    for (const bytes of sizes) {
      t.equal(
        replace(image, '/var/lib/dbus/machine-id', content(bytes, 'new')),
        'written',
        `${name}: ${bytes} bytes`,
      );
      t.ok(
        (await dump(image, '/etc/machine-id')).equals(content(bytes, 'new')),
        `${name}: ${bytes} bytes are read`,
      );
    }
    if (name.startsWith('ext4') && !isInline) {
      for (const bytes of [200_000, 5, 1_000_000])
        t.equal(replace(image, '/etc/large', content(bytes, 'L')), 'written', `${name}: ${bytes} bytes`);
      t.ok((await dump(image, '/etc/large')).equals(content(1_000_000, 'L')), name);
    }
    await mustBeClean(image);
    t.match(
      await must('debugfs', ['-R', 'stat /etc/machine-id', image]),
      /mtime: 0x6b49d200/,
      `${name}: its time`,
    );
    for (const file of ['hostname', 'ssh/ssh_host_rsa_key', 'huge'])
      t.ok(
        (await dump(image, `/etc/${file}`)).equals(readFileSync(path.join(from, 'etc', file))),
        `${name}: ${file} is as before`,
      );
  }
});

t.test('a file is created', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const from = guest(path.join(folder, 'guest'));
  for (const [name, args] of Object.entries(VARIANTS)) {
    const image = await makeImage(path.join(folder, 'image'), [...args, '-d', from]);
    t.equal(create(image, '/etc', 'created', content(1500, 'new')), 'written', name);
    if (name.includes('in inodes'))
      t.match(create(image, '/var', 'created', content(1)), { unsupported: /no plain list/ }, name);
    const second = name.includes('in inodes') ? '/etc' : '/etc/ssh';
    t.equal(create(image, second, 'empty-one', content(0)), 'written', name);
    t.match(create(image, '/etc', 'created', content(1)), { unsupported: /already/ }, name);
    t.match(create(image, '/none', 'created', content(1)), { unsupported: /no directory/ }, name);
    await mustBeClean(image);
    t.ok((await dump(image, '/etc/created')).equals(content(1500, 'new')), name);
    t.match(
      await must('debugfs', ['-R', 'stat /etc/created', image]),
      /Mode:\s+0640(.|\n)*User: +70000 +Group: +12\b/,
      name,
    );
    t.ok((list(image, second) as string[]).includes('empty-one'), name);
  }
});

t.test(
  'groups that were never used are left alone, and fuller ones are filled',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    const image = await makeImage(path.join(folder, 'image'), [
      '-t',
      'ext4',
      '-b',
      '1024',
      '-d',
      guest(path.join(folder, 'guest')),
    ]);
    let created = 0;
    for (; created < 400; created++) {
      const done = create(image, '/etc/ssh', `file-${created}`, content(3000));
      if (done !== 'written') {
        t.match(done, { unsupported: /no room for another name/ }, 'one block of names');
        break;
      }
    }
    t.ok(created > 40, `${created} files`);
    await mustBeClean(image);
  },
);

t.test('the kernel reads and goes on writing what was written', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const from = guest(path.join(folder, 'guest'));
  for (const [name, args] of Object.entries(VARIANTS)) {
    if (name.includes('64 KiB')) continue; // more than a page is a new feature of kernels
    const image = await makeImage(path.join(folder, 'image'), [...args, '-d', from]);
    t.equal(replace(image, '/etc/hostname', content(40, 'new')), 'written', name);
    t.equal(replace(image, '/etc/ssh/ssh_host_rsa_key', content(9001, 'new')), 'written', name);
    t.equal(create(image, '/etc', 'created', content(1500, 'made')), 'written', name);
    await mounted(image, 'defaults', (at) => {
      const file = (one: string): string => path.join(at.folder, 'etc', one);
      t.ok(readFileSync(file('hostname')).equals(content(40, 'new')), name);
      t.ok(readFileSync(file('ssh/ssh_host_rsa_key')).equals(content(9001, 'new')), name);
      t.ok(readFileSync(file('created')).equals(content(1500, 'made')), name);
      writeFileSync(file('created'), content(70_000, 'kernel'));
      writeFileSync(file('hostname'), content(5000, 'kernel'));
      rmSync(file('ssh'), { recursive: true });
    });
    await mustBeClean(image);
    t.ok((read(image, '/etc/hostname') as Buffer).equals(content(5000, 'kernel')), `${name}: and back`);
  }
});

t.test(
  'directories of many names under an index are read, as the kernel makes them',
  { skip: cannotMount },
  async (t) => {
    const image = await makeImage(path.join(t.testdir(), 'image'), ['-t', 'ext4', '-b', '1024']);
    await mounted(image, 'defaults', ({ folder }) => {
      mkdirSync(path.join(folder, 'many'));
      for (let file = 0; file < 3000; file++)
        writeFileSync(path.join(folder, `many/a-name-of-some-length-${file}`), `${file}`);
    });
    t.equal((list(image, '/many') as string[]).length, 3000);
    t.equal(String(read(image, '/many/a-name-of-some-length-2999')), '2999');
    t.match(create(image, '/many', 'new', content(1)), { unsupported: /index/ });
  },
);

t.test(
  'what cannot be done is told with its reason, and nothing is written',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    const from = guest(path.join(folder, 'guest'));
    const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4', '-O', 'quota', '-d', from]);
    const before = readFileSync(image);
    t.match(replace(image, '/etc/none', content(1)), { unsupported: /no regular file/ });
    t.match(replace(image, '/etc', content(1)), { unsupported: /no regular file/ });
    t.match(replace(image, '/etc/hostname', content(100_000)), { unsupported: /quotas/ });
    t.match(replace(image, '/etc/hostname', content(5 * MIB)), { unsupported: /more than 4194304 bytes/ });
    t.match(create(image, '/etc', 'new', content(1)), { unsupported: /quotas/ });
    t.ok(before.equals(readFileSync(image)));
    await must('debugfs', ['-w', '-R', 'set_inode_field /etc/hostname flags 0x80010', image]);
    t.match(replace(image, '/etc/hostname', content(1)), { unsupported: /not to be changed/ });
    await must('debugfs', ['-w', '-R', 'set_super_value state 0', image]);
    t.match(replace(image, '/etc/machine-id', content(1)), { unsupported: /not unmounted/ });
    const ext2 = await makeImage(image, ['-t', 'ext2', '-b', '1024', '-d', from]);
    t.match(replace(ext2, '/etc/large', content(1)), { unsupported: /mapped by further blocks/ });
    t.match(replace(ext2, '/etc/hostname', content(13_000)), { unsupported: /more pieces/ });
    await mustBeClean(ext2);
  },
);

t.test(
  'whatever is changed on the disk, the answer is content, a reason or damage',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    const small = path.join(folder, 'guest');
    mkdirSync(path.join(small, 'etc'), { recursive: true });
    writeFileSync(path.join(small, 'etc/hostname'), 'source\n');
    for (const args of [
      ['-O', '^metadata_csum'],
      ['-O', '^metadata_csum,^extents,^64bit'],
      ['-O', '^metadata_csum,inline_data'],
    ]) {
      const image = path.join(folder, 'image');
      const sound = readFileSync(
        await makeImage(image, ['-t', 'ext4', '-b', '1024', ...args, '-d', small], MIB),
      );
      const used = [...sound.keys()].filter((at) => sound[at] !== 0 && at >= 1024);
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 5 }),
          (changes) => {
            const bytes = Buffer.from(sound);
            for (const [at, value] of changes) bytes[used[at % used.length]!] = value;
            onlyTellsDamage(new MemoryDisk(bytes));
          },
        ),
        replay({ quick: 50, normal: 500, long: 5000 }),
      );
    }
  },
);

function onlyTellsDamage(disk: MemoryDisk): void {
  try {
    const files = disk.run(openFiles(disk.bytes));
    if (files === null) return;
    disk.run(files.readFile('/etc/hostname'));
    disk.run(files.listDirectory('/etc'));
    disk.run(files.replaceFile('/etc/hostname', content(3000), TIME));
    disk.run(files.createFile('/etc', 'new', content(10), { mode: 0o600, time: TIME }));
  } catch (error) {
    strictEqual(
      error instanceof CellblockError && error.code,
      'identity-damaged',
      String((error as Error).stack),
    );
  }
}
