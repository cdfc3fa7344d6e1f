// File systems that were not unmounted get their identity after a replay of the journal that changes what e2fsck's changes, to the byte,
// and leaves what the kernel's leaves, to the file.
import { strictEqual, throws } from 'node:assert';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { ext } from '../../../src/identity/ext/ext.js';
import type { Restored } from '../../../src/identity/kind.js';
import type { Writing } from '../../../src/identity/steps.js';
import {
  cannotMount,
  copyImage,
  differences,
  MIB,
  makeImage,
  mounted,
  mustBeClean,
  noTools,
  probe,
  tree,
} from '../../support/ext-image.js';
import { FileDisk } from '../../support/identity-disk.js';
import { MemoryDisk } from '../../support/memory-disk.js';
import { must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const WANTED = new Map([
  ['uuid', '0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0'],
  ['label', 'Target'],
]);

const SMALL = 24 * MIB;

function restore(image: string, wanted: ReadonlyMap<string, string>): Restored {
  const disk = new FileDisk(image);
  try {
    return disk.run(ext.restore(disk.bytes, wanted));
  } finally {
    disk.close();
  }
}

/** The identity it has: only the replay changes anything. */
async function replayOnly(image: string): Promise<Restored> {
  const { UUID, LABEL } = await probe(image);
  return restore(
    image,
    new Map([
      ['uuid', UUID ?? ''],
      ['label', LABEL ?? ''],
    ]),
  );
}

function writeDurably(file: string, content: string | Buffer): void {
  const fd = openSync(file, 'w');
  writeSync(fd, content as Buffer);
  fsyncSync(fd);
  closeSync(fd);
}

/** Files made, removed and made again, so that metadata is logged often, revoked, and its blocks used anew. */
function workload(folder: string, round: number): void {
  const at = (name: string): string => path.join(folder, name);
  mkdirSync(at(`kept-${round}`));
  mkdirSync(at(`gone-${round}`));
  for (let file = 0; file < 150; file++)
    writeFileSync(at(`gone-${round}/a-long-name-so-that-the-directory-has-many-blocks-${file}`), 'x');
  writeDurably(at(`kept-${round}/first`), Buffer.alloc(20_000, round));
  rmSync(at(`gone-${round}`), { recursive: true });
  // As data in the journal this has to be escaped.
  writeDurably(at(`kept-${round}/magic`), Buffer.from('c03b399800000001', 'hex'));
  for (let file = 0; file < 12; file++)
    writeDurably(at(`kept-${round}/file-${file}`), `${round} ${file}`.repeat(500));
  if (round > 0) unlinkSync(at(`kept-${round - 1}/first`));
  writeDurably(at(`kept-${round}/last`), 'last');
}

/** The disk as it is at a moment while it is mounted: what a snapshot of it holds. */
async function crashImages(image: string, options: string, rounds: number): Promise<string[]> {
  const copies: string[] = [];
  await mounted(image, options, async ({ folder }) => {
    for (let round = 0; round < rounds; round++) {
      workload(folder, round);
      copies.push(await copyImage(image, `${image}.crash-${round}`));
    }
  });
  return copies;
}

async function journalStart(image: string): Promise<number> {
  return Number(/^Journal start:\s+(\d+)/m.exec(await must('dumpe2fs', ['-h', image]))?.[1]);
}

/** What a replay may do otherwise than e2fsck's: times and counters of the superblock. */
function differsOnlyInSuperblock(one: string, other: string): void {
  const found = differences(one, other, 512).filter((at) => at !== 1024 && at !== 1536);
  strictEqual(found.join(), '', 'blocks that e2fsck leaves otherwise');
}

async function replaysLikeOthers(crashed: string): Promise<void> {
  const mine = await copyImage(crashed, `${crashed}.mine`);
  const theirs = await copyImage(crashed, `${crashed}.theirs`);
  const { notes, written } = await replayOnly(mine);
  strictEqual(written.join(), 'uuid,label');
  strictEqual(/^Replayed [1-9]\d* blocks of [1-9]\d* transactions/.test(notes[0] ?? ''), true, notes.join());
  await must('e2fsck', ['-p', '-E', 'journal_only', theirs]);
  differsOnlyInSuperblock(mine, theirs);
  await mustBeClean(mine);
  restore(crashed, WANTED);
  await mustBeClean(crashed);
  strictEqual((await probe(crashed)).UUID, WANTED.get('uuid'));
  strictEqual((await probe(crashed)).LABEL, WANTED.get('label'));
}

const LOGGED: Record<string, { options: string; args: string[] }> = {
  ext3: { options: 'defaults', args: ['-t', 'ext3', '-b', '1024'] },
  'ext3 with its data': { options: 'data=journal', args: ['-t', 'ext3'] },
  'ext4, checksums v3, 64 bits': { options: 'defaults', args: ['-t', 'ext4', '-O', '64bit'] },
  'ext4, checksums v3, 32 bits': { options: 'defaults', args: ['-t', 'ext4', '-b', '1024', '-O', '^64bit'] },
  'ext4 with its data': { options: 'data=journal', args: ['-t', 'ext4', '-O', '64bit'] },
  'sums of transactions': { options: 'journal_checksum', args: ['-t', 'ext4', '-O', '^metadata_csum,64bit'] },
  'sums of transactions, asynchronous': {
    options: 'data=writeback,journal_async_commit',
    args: ['-t', 'ext4', '-O', '^metadata_csum'],
  },
  'checksums v3, asynchronous': { options: 'data=writeback,journal_async_commit', args: ['-t', 'ext4'] },
  'an orphan file': { options: 'defaults', args: ['-t', 'ext4', '-O', 'orphan_file'] },
};

t.test('what the kernel logged is replayed as e2fsck and the kernel do', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  for (const [name, { options, args }] of Object.entries(LOGGED)) {
    const image = await makeImage(
      path.join(folder, 'image'),
      ['-J', 'size=4', '-L', 'Source', ...args],
      SMALL,
    );
    const crashed = (await crashImages(image, options, 2)).at(-1)!;
    const kernels = await copyImage(crashed, path.join(folder, 'kernels'));
    await replaysLikeOthers(crashed);
    const wanted = await mounted(kernels, 'defaults', (at) => tree(at.folder));
    t.strictSame(await mounted(crashed, 'defaults', (at) => tree(at.folder)), wanted, name);
    t.ok(Object.keys(wanted).length > 25, `${name}: ${Object.keys(wanted).length} names`);
  }
});

t.test('a journal that goes round, at many moments', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const starts: number[] = [];
  for (const type of ['ext3', 'ext4']) {
    const image = await makeImage(
      path.join(folder, type),
      ['-t', type, '-b', '1024', '-J', 'size=1', '-L', 'Source'],
      SMALL,
    );
    for (const crashed of await crashImages(image, 'defaults', 5)) {
      starts.push(await journalStart(crashed));
      await replaysLikeOthers(crashed);
    }
  }
  t.ok(
    starts.some((start, at) => start < (starts[at - 1] ?? 0)),
    `it went round: ${starts}`,
  );
});

t.test('an empty journal of a mounted file system', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4']);
  await mounted(image, 'defaults', (at) => writeDurably(path.join(at.folder, 'file'), 'one'));
  const crashed = path.join(folder, 'crashed');
  await mounted(image, 'defaults', () => copyImage(image, crashed));
  t.equal(await journalStart(crashed), 0);
  t.match(restore(crashed, WANTED).notes[0], 'Replayed 0 blocks of 0 transactions.');
  await mustBeClean(crashed);
});

t.test('orphans stay for the mount to release', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  for (const features of ['^orphan_file', 'orphan_file']) {
    const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4', '-O', features]);
    const crashed = path.join(folder, 'crashed');
    await mounted(image, 'defaults', async (at) => {
      const fd = openSync(path.join(at.folder, 'open'), 'w');
      writeSync(fd, Buffer.alloc(100_000, 1));
      unlinkSync(path.join(at.folder, 'open'));
      writeDurably(path.join(at.folder, 'other'), 'other');
      await copyImage(image, crashed);
      closeSync(fd);
    });
    restore(crashed, WANTED);
    t.match(await must('dumpe2fs', ['-h', crashed]), /First orphan inode:|orphan_present/);
    t.strictSame(await mounted(crashed, 'defaults', (at) => Object.keys(tree(at.folder)).sort()), [
      'lost+found',
      'other',
    ]);
    await mustBeClean(crashed);
  }
});

/** Transactions as debugfs writes them: `jw -b` logs blocks with the content of a file, `jw -r` revokes blocks. */
async function log(image: string, version: string[], commands: string[]): Promise<void> {
  const script = `${image}.commands`;
  const lines = commands.flatMap((command) => [`jo -c ${version.join(' ')}`, command, 'jc']);
  writeFileSync(script, lines.join('\n'));
  const said = await must('debugfs', ['-w', '-f', script, image]);
  strictEqual(/error|fail|invalid|usage/i.test(said), false, said);
}

const VERSIONS: Record<string, { sums: string[]; features: string }> = {
  'checksums v3': { sums: ['-v', '3'], features: '64bit' },
  'checksums v2, 64 bits': { sums: ['-v', '2'], features: '64bit' },
  'checksums v2, 32 bits': { sums: ['-v', '2'], features: '^64bit' },
  'checksums v3, 32 bits': { sums: ['-v', '3'], features: '^64bit' },
};

t.test('revokes and every form of tags, as debugfs logs them', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const content = path.join(folder, 'content');
  // Many blocks need several descriptors; one begins with the magic number.
  writeFileSync(content, Buffer.concat([Buffer.from('c03b3998', 'hex'), Buffer.alloc(300 * 1024 - 4, 0x5a)]));
  const other = path.join(folder, 'other');
  writeFileSync(other, Buffer.alloc(4 * 1024, 0xa5));
  const blocks = Array.from({ length: 300 }, (_, at) => 9000 + at).join(',');
  for (const [name, { sums, features }] of Object.entries(VERSIONS)) {
    const image = await makeImage(
      path.join(folder, 'image'),
      ['-t', 'ext4', '-b', '1024', '-J', 'size=4', '-O', features, '-L', 'Source'],
      SMALL,
    );
    await log(image, sums, [
      `jw -b ${blocks} ${content}`,
      'jw -r 9000,9005,9007',
      `jw -b 9005,9300,9301,9302 ${other}`,
    ]);
    const theirs = await copyImage(image, path.join(folder, 'theirs'));
    const restored = await replayOnly(image);
    t.match(restored.notes[0], /Replayed 301 blocks of 3 transactions/, name);
    await must('e2fsck', ['-p', '-E', 'journal_only', theirs]);
    differsOnlyInSuperblock(image, theirs);
    const block = (number: number): number => readFileSync(image)[number * 1024 + 9]!;
    t.strictSame([9000, 9001, 9005, 9007, 9302].map(block), [0, 0x5a, 0xa5, 0, 0xa5], name);
  }
});

/** Where the blocks of a journal lie, by debugfs, in bytes. */
async function journalBlock(image: string, number: number): Promise<number> {
  const said = await must('debugfs', ['-R', `bmap <8> ${number}`, image]);
  return Number(said.trim()) * 1024;
}

t.test(
  'damage in what was committed is told, an interrupted commit is not replayed',
  { skip: noTools },
  async (t) => {
    const folder = t.testdir();
    const content = path.join(folder, 'content');
    writeFileSync(content, Buffer.alloc(2 * 1024, 0x5a));
    const image = await makeImage(
      path.join(folder, 'image'),
      ['-t', 'ext4', '-b', '1024', '-L', 'Source'],
      SMALL,
    );
    // Blocks 1 to 4 and 5 to 8 of the journal: descriptor, two blocks, commit. Then 9 and 10: revokes, commit.
    await log(image, ['-v', '3'], [`jw -b 9000,9001 ${content}`, `jw -b 9002,9003 ${content}`, 'jw -r 9003']);
    const broken = path.join(folder, 'broken');
    const breakBlock = async (number: number, within: number): Promise<void> => {
      await copyImage(image, broken);
      const at = await journalBlock(image, number);
      const bytes = readFileSync(broken);
      bytes[at + within]! ^= 1;
      writeFileSync(broken, bytes);
    };
    for (const [number, within, what] of [
      [1, 20, 'descriptor'],
      [2, 500, 'data'],
      [4, 60, 'commit'],
      [9, 200, 'revokes'],
      [0, 0x60, 'superblock'],
    ] as const) {
      await breakBlock(number, within);
      const before = await copyImage(broken, path.join(folder, 'before'));
      throws(() => restore(broken, WANTED), { code: 'identity-damaged' }, what);
      if (what !== 'data') t.strictSame(differences(before, broken, 512), [], `${what}: nothing was written`);
    }
    await breakBlock(10, 0); // no commit any more
    t.match(restore(broken, WANTED).notes[0], 'Replayed 4 blocks of 2 transactions.', 'without its revoke');
    await mustBeClean(broken);
  },
);

t.test('whatever the log says, the answer is an identity or damage', { skip: noTools }, async (t) => {
  const folder = t.testdir();
  const content = path.join(folder, 'content');
  writeFileSync(content, Buffer.alloc(4 * 1024, 0x5a));
  const image = await makeImage(
    path.join(folder, 'image'),
    ['-t', 'ext4', '-b', '1024', '-J', 'size=1', '-O', '^metadata_csum'],
    8 * MIB,
  );
  writeFileSync(
    `${image}.commands`,
    ['jo', `jw -b 5000,5001,5002 ${content}`, 'jw -r 5001', `jw -b 5003 ${content}`, 'jc'].join('\n'),
  );
  await must('debugfs', ['-w', '-f', `${image}.commands`, image]);
  const sound = readFileSync(image);
  const log = await journalBlock(image, 0);
  const used = [...Array(16 * 1024).keys()]
    .map((at) => log + at)
    .filter((at) => sound[at] !== 0 && sound[at] !== 0x5a);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 3 }),
      (changes) => {
        const disk = new MemoryDisk(Buffer.from(sound));
        for (const [at, value] of changes) disk.data[used[at % used.length]!] = value;
        try {
          disk.run(ext.restore(disk.bytes, WANTED));
        } catch (error) {
          strictEqual((error as { code?: string }).code, 'identity-damaged', String((error as Error).stack));
        }
      },
    ),
    replay({ quick: 50, normal: 300, long: 3000 }),
  );
});

t.test('fast commits to replay are told, and nothing is written', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4', '-O', 'fast_commit']);
  const crashed = path.join(folder, 'crashed');
  await mounted(image, 'defaults', async (at) => {
    writeDurably(path.join(at.folder, 'file'), 'one');
    execFileSync('sync', ['-f', at.folder]);
    for (let round = 0; round < 5; round++)
      writeDurably(path.join(at.folder, 'file'), 'more'.repeat(3000 * (round + 1)));
    await copyImage(image, crashed);
  });
  const before = await copyImage(crashed, path.join(folder, 'before'));
  const restored = restore(crashed, WANTED);
  t.strictSame(restored.written, []);
  t.match(restored.unsupported, [
    { field: 'uuid', reason: /fast commits/ },
    { field: 'label', reason: /fast commits/ },
  ]);
  t.strictSame(differences(before, crashed, 512), []);
});

t.test('a large journal is replayed with a bounded amount of memory', { skip: cannotMount }, async (t) => {
  const folder = t.testdir();
  const image = await makeImage(path.join(folder, 'image'), ['-t', 'ext4', '-J', 'size=64'], 256 * MIB);
  let crashed = '';
  await mounted(image, 'data=journal', async (at) => {
    for (let file = 0; file < 10; file++)
      writeDurably(path.join(at.folder, `file-${file}`), Buffer.alloc(3 * MIB, file));
    crashed = await copyImage(image, path.join(folder, 'crashed'));
  });
  const disk = new FileDisk(crashed);
  const steps: number[] = [];
  const restored = disk.run(measured(ext.restore(disk.bytes, WANTED), steps));
  disk.close();
  const largest = steps.reduce((most, bytes) => Math.max(most, bytes), 0);
  t.ok(largest <= 256 * 1024, `steps of at most ${largest} bytes`);
  t.match(restored.notes[0], /Replayed 3\d{4} blocks/);
  await mustBeClean(crashed);
});

/** The same computation; notes how many bytes each step is about. */
function* measured<T>(work: Writing<T>, steps: number[]): Writing<T> {
  let next = work.next(new Uint8Array(0));
  while (!next.done) {
    steps.push(next.value.do === 'write' ? next.value.data.length : Number(next.value.bytes));
    next = work.next(yield next.value);
  }
  return next.value;
}
