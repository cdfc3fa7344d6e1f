// Everything wrong a user can type or start the agent on, at the real cellblockd: one sentence that says what is wrong and what to
// do, the documented exit code, and nothing half done.

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { classicLevel } from '../../src/catalog/level.js';
import { jsonKey } from '../../src/model/keys.js';
import { FORMAT_VERSION } from '../../src/operations/store-directory.js';
import { loadPlane } from '../../src/plane/addon.js';
import { Daemon } from '../support/daemon.js';
import { mustNow, repositoryRoot, run } from '../support/programs.js';
import { until } from '../support/waiting.js';
import { runCli } from './run-cli.js';

// A few starts of the daemon, on a busy machine.
t.setTimeout(300_000);

const MIB = 1024 * 1024;

/** Reasons to skip, or false. */
const withoutAddon = reason(() => loadPlane());
const withoutTmpfs =
  withoutAddon ||
  reason(() => {
    const place = mkdtempSync(join(tmpdir(), 'cellblock-mount-'));
    try {
      mustNow('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', place]);
      mustNow('umount', [place]);
    } finally {
      rmSync(place, { recursive: true });
    }
  });

function reason(attempt: () => unknown): string | false {
  try {
    attempt();
    return false;
  } catch (error) {
    return (error as Error).message.trim();
  }
}

function place(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-bad-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** What a cellblockd says that cannot start; without its log. */
async function refusedStart(directory: string, store: string, ...more: string[]) {
  const words = ['--store', store, '--api', join(directory, 'other.sock')];
  const listen = ['--nbd', `unix:${join(directory, 'other-nbd.sock')}`];
  const program = join(repositoryRoot, 'dist/src/main/cellblockd.js');
  const { code, stderr } = await run(process.execPath, [program, ...words, ...listen, ...more]);
  const said = stderr
    .trimEnd()
    .split('\n')
    .filter((line) => !line.startsWith('{"level":"info"'));
  return { code, said };
}

function runCellblock(...words: string[]) {
  return run(process.execPath, [join(repositoryRoot, 'dist/src/main/cellblock.js'), ...words]);
}

const LONG = 'x'.repeat(129);
const NAME_RULE = 'Names have 1 to 128 bytes of UTF-8';
const SIZE_RULE = 'A size is a number of bytes, or a number with K, M, G, T, P or E';

const WRONG: [words: string[], code: number, what: RegExp, toDo: string][] = [
  [['volume', 'create', 'a/b', '--size', '1G'], 2, /name "a\/b" contains a `\/`\./, NAME_RULE],
  [['volume', 'create', 'a\tb', '--size', '1G'], 2, /name "a\\tb" contains a control character\./, NAME_RULE],
  [['volume', 'create', LONG, '--size', '1G'], 2, /has 129 bytes; 128 are allowed\./, NAME_RULE],
  [['volume', 'create', 'é'.repeat(65), '--size', '1G'], 2, /has 130 bytes/, NAME_RULE],
  [['volume', 'create', '', '--size', '1G'], 2, /is empty\./, NAME_RULE],
  [['volume', 'rename', 'there', 'a/b'], 2, /contains a `\/`/, NAME_RULE],
  [['snapshot', 'create', `there@${LONG}`], 2, /has 129 bytes/, NAME_RULE],
  [['snapshot', 'create', 'there@a\u001b[2J'], 2, /contains a control character/, NAME_RULE],
  [['clone', 'there@s', 'a/b'], 2, /contains a `\/`/, NAME_RULE],
  [['volume', 'import', 'a/b', '/dev/null'], 2, /contains a `\/`/, NAME_RULE],
  [['volume', 'create', 'new', '--size', '0'], 2, /The size is 0\./, SIZE_RULE],
  [['volume', 'create', 'new', '--size', '-1G'], 2, /The size -1G is negative\./, SIZE_RULE],
  [['volume', 'create', 'new', '--size', 'lots'], 2, /"lots" is not a size\./, SIZE_RULE],
  [['volume', 'create', 'new', '--size', '8E'], 2, /is 8 EiB or more\./, SIZE_RULE],
  [['volume', 'create', 'new', '--size', '99999999999999999999'], 2, /is 8 EiB or more\./, SIZE_RULE],
  [['volume', 'resize', 'there', '--size', '0'], 2, /The size is 0\./, SIZE_RULE],
  [['volume', 'resize', 'there', '--size', '9E'], 2, /is 8 EiB or more\./, SIZE_RULE],
  [['volume', 'resize', 'there', '--size', '1M'], 7, /shrinking it loses/, 'Give --force'],
  [['volume', 'create', 'there', '--size', '1G'], 4, /already a volume "there"\./, 'Take another name'],
  [['snapshot', 'create', 'there@s'], 4, /already has a snapshot "s"\./, 'Take another name'],
  [['clone', 'there@s', 'there'], 4, /already a volume "there"\./, 'Take another name'],
  [['volume', 'rename', 'there', 'second'], 4, /already a volume "second"\./, 'Take another name'],
  [['volume', 'show', 'none'], 3, /There is no volume "none"\./, 'See `cellblock volume list`'],
  [['volume', 'delete', 'none'], 3, /There is no volume "none"\./, 'See `cellblock volume list`'],
  [['volume', 'resize', 'none', '--size', '1G'], 3, /There is no volume "none"\./, 'See `cellblock volume'],
  [['snapshot', 'create', 'none@a'], 3, /There is no volume "none"\./, 'See `cellblock volume list`'],
  [
    ['snapshot', 'create', 'there@new', 'none@new'],
    3,
    /There is no volume "none"\./,
    'See `cellblock volume',
  ],
  [['snapshot', 'delete', 'there@none'], 3, /has no snapshot "none"\./, 'See `cellblock snapshot list'],
  [['clone', 'there@none', 'new'], 3, /has no snapshot "none"\./, 'See `cellblock snapshot list'],
  [['volume', 'export', 'none', '-'], 3, /no export named "none"\./, 'See `cellblock volume list`'],
  [
    ['volume', 'export', 'there@none', '-'],
    3,
    /no export named "there@none"\./,
    'See `cellblock volume list`',
  ],
  [
    ['volume', 'export', 'there', '/no/such/place/o'],
    3,
    /: \/no\/such\/place does not exist\./,
    'Check the path',
  ],
  [['volume', 'import', 'new', '/no/such/file'], 3, /\/no\/such\/file does not exist\./, 'Check the path'],
  [['volume', 'import', 'new', '/usr'], 2, /: \/usr is a directory\./, 'Name a file, or -'],
  [['volume', 'delete', 'there'], 5, /has 1 snapshot/, 'give --with-snapshots'],
];

t.test('the command line typed wrongly', { skip: withoutAddon }, async (t) => {
  const daemon = await Daemon.start(t);
  const api = daemon.apiPath;
  const cli = (...words: string[]) => runCli(words, { api });
  for (const words of [
    ['volume', 'create', 'there', '--size', '1G'],
    ['volume', 'create', 'second', '--size', '1G'],
    ['snapshot', 'create', 'there@s'],
  ])
    t.equal((await cli(...words)).code, 0);
  const state = async () => [(await cli('volume', 'list')).stdout, (await cli('snapshot', 'list')).stdout];
  const before = await state();
  for (const [words, code, what, toDo] of WRONG) {
    const shown = words.join(' ').slice(0, 60);
    const outcome = await cli(...words);
    t.equal(outcome.code, code, shown);
    t.match(outcome.stderr, what, shown);
    t.ok(outcome.stderr.includes(toDo), `${shown}: says what to do`);
    t.match(outcome.stderr, /^cellblock: [^\n\p{Cc}]+\.\n$/u, 'one line, nothing that disturbs a terminal');
    t.equal(outcome.stdout, '');
  }
  t.strictSame(await state(), before, 'nothing was changed');
  t.match(await cli('store', 'check'), { code: 0 });
});

t.test('a store that is in use, newer, or none at all', { skip: withoutAddon }, async (t) => {
  const directory = place(t);
  const daemon = await Daemon.start(t, { directory });
  t.equal((await runCli(['volume', 'create', 'a', '--size', '1G'], { api: daemon.apiPath })).code, 0);
  const second = await refusedStart(directory, daemon.store);
  t.equal(second.code, 5);
  t.match(second.said, [new RegExp(`is in use by process ${daemon.pid} on .* since .*\\. Stop that agent`)]);
  t.equal(second.said.length, 1, 'one line');
  await daemon.stop();

  const level = classicLevel(join(daemon.store, 'metadata'));
  const key = jsonKey('meta', 'store');
  await level.open();
  const meta = (await level.get(key)) as Buffer;
  const newer = { ...JSON.parse(meta.toString()), format: 99 };
  await level.batch([{ type: 'put', key, value: Buffer.from(JSON.stringify(newer)) }]);
  await level.close();
  const refused = await refusedStart(directory, daemon.store);
  t.equal(refused.code, 11);
  t.match(refused.said, [/has format 99; this program knows formats up to \d+\. Use a newer version/]);
  t.equal(refused.said.length, 1, 'one line');
  const checked = await runCellblock('store', 'check', '--store', daemon.store);
  t.equal(checked.code, 11, 'the check says the same');
  t.match(checked.stderr, /made by a newer version of cellblock\. Check it with that version\.\n$/);
  await level.open();
  t.match(JSON.parse(((await level.get(key)) as Buffer).toString()), newer, 'left as it was');
  await level.batch([{ type: 'put', key, value: meta }]);
  await level.close();
  await daemon.run();
  t.match((await runCli(['volume', 'list'], { api: daemon.apiPath })).stdout, /^a +1G/m);

  const other = join(directory, 'photographs');
  mkdirSync(other);
  writeFileSync(join(other, 'cat.jpg'), 'meow');
  const strange = await refusedStart(directory, other);
  t.equal(strange.code, 7);
  t.match(strange.said, [/photographs holds other things and is not a cellblock store\. Give an empty/]);
  t.strictSame(readdirSync(other), ['cat.jpg']);
  const file = await refusedStart(directory, join(other, 'cat.jpg'));
  t.equal(file.code, 7);
  t.match(file.said, [/cat\.jpg is not a directory\. Give a directory/]);
});

t.test('a configuration that is wrong: file and line, and no store is made', async (t) => {
  const directory = place(t);
  const store = join(directory, 'store');
  const config = join(directory, 'c.yaml');
  const wrong: [text: string, line: number, what: RegExp][] = [
    ['# mine\nstore:\n  cash: 64M\n', 3, /there is no key "cash"\. Known here: .*cache/],
    ['log:\n  level: loud\n', 2, /"log\.level" is "loud"\. Allowed: one of/],
    ['store:\n  reserve: -5M\n', 2, /"store\.reserve" is "-5M"\. Allowed: a size/],
    ['store: {\n', 2, /not valid YAML/],
  ];
  for (const [text, line, what] of wrong) {
    writeFileSync(config, text);
    const { code, said } = await refusedStart(directory, store, '--config', config);
    t.equal(code, 2, text);
    t.match(said, [what]);
    t.ok(said[0]?.includes(`${config}, line ${line}: `), said.join());
    t.equal(said.length, 1, 'one line');
  }
  t.notOk(existsSync(store));
});

/** A small file system of its own. */
function mountTmpfs(t: Test, directory: string, bytes: number): string {
  const mount = join(directory, 'small');
  mkdirSync(mount);
  mustNow('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'none', mount]);
  t.teardown(() => mustNow('umount', ['-l', mount]));
  return mount;
}

/** Writes until nothing more goes in. */
function fillUp(path: string): void {
  const file = openSync(path, 'w');
  try {
    for (const bytes of [Buffer.alloc(MIB, 1), Buffer.alloc(4096, 1)])
      while (!isFull(() => writeSync(file, bytes)));
  } finally {
    closeSync(file);
  }
}

function isFull(write: () => unknown): boolean {
  try {
    write();
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return true;
    throw error;
  }
}

t.test('a disk that is full, then read-only', { skip: withoutTmpfs }, async (t) => {
  const directory = place(t);
  const mount = mountTmpfs(t, directory, 192 * MIB);
  const config = join(directory, 'c.yaml');
  writeFileSync(config, 'store:\n  reserve: 48M\n  journal: 16M\n');
  const image = join(directory, 'in.img');
  writeFileSync(image, randomBytes(160 * MIB));
  const small = join(directory, 'small.img');
  writeFileSync(small, randomBytes(8 * MIB));
  const args = ['--config', config, '--store', join(mount, 'store')];
  const daemon = await Daemon.start(t, { directory, args });
  const store = join(mount, 'store');
  const cli = (...words: string[]) => runCli(words, { api: daemon.apiPath });
  t.match(await cli('volume', 'import', 'keep', small), { code: 0 });

  const tooMuch = await cli('volume', 'import', 'big', image);
  t.equal(tooMuch.code, 8, 'an import that does not fit');
  t.match(
    tooMuch.stderr,
    /volume big, made for it, is deleted again\.\ncellblock: The store has no space left\. Delete/,
  );
  t.notMatch((await cli('volume', 'list')).stdout, 'big');

  await until('the space of what was deleted is free', async () => {
    const tasks = JSON.parse((await cli('task', 'list', '--json')).stdout) as { state: string }[];
    return tasks.every(({ state }) => state === 'done');
  });
  // The reserve is larger than the ballast: even when that goes there is less than the reserve.
  fillUp(join(mount, 'fill'));
  const refusals: [words: string[], what: RegExp][] = [
    [['volume', 'create', 'new', '--size', '1G'], /fewer than its reserve of .*\. Make room there/],
    [['volume', 'import', 'new', small], /fewer than its reserve of .*\. Make room there/],
  ];
  for (const [words, what] of refusals) {
    const { code, stderr } = await cli(...words);
    t.equal(code, 8, words.join(' '));
    t.match(stderr, what);
    t.equal(stderr.trimEnd().split('\n').length, 1, 'one line');
  }
  t.match(await cli('volume', 'export', 'keep', join(directory, 'out.img')), { code: 0 }, 'reads go on');
  const full = await cli('volume', 'export', 'keep', join(mount, 'out.img'));
  t.equal(full.code, 8, 'an export to a full disk');
  t.match(full.stderr, /^cellblock: No space left for .*out\.img\. Free some, or write somewhere else\.\n$/);
  const locked = join(directory, 'locked');
  mkdirSync(locked);
  mustNow('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'none', locked]);
  const readOnly = await cli('volume', 'export', 'keep', join(locked, 'out.img'));
  mustNow('umount', [locked]);
  t.equal(readOnly.code, 7, 'an export to a read-only file system');
  t.match(readOnly.stderr, /locked is read-only or lies on a read-only file system\. Make it writable/);
  t.match((await run('cmp', [small, join(directory, 'out.img')])).code, 0);

  await daemon.restart('stop');
  t.match((await cli('volume', 'list')).stdout, /^keep +8M/m, 'it starts on a full disk: the ballast goes');
  await daemon.stop();

  fillUp(join(mount, 'fill2'));
  const fresh = await refusedStart(directory, join(mount, 'fresh'));
  t.equal(fresh.code, 8, 'a new store on a full disk');
  t.match(fresh.said, [/The file system of the store .*fresh is full\. Make room there and start again\./]);
  t.equal(fresh.said.length, 1, 'one line');

  mustNow('mount', ['-o', 'remount,ro', mount]);
  for (const path of [store, join(mount, 'another'), join(mount, 'deep', 'er')]) {
    const { code, said } = await refusedStart(directory, path);
    t.equal(code, 7, `read-only: ${path}`);
    t.match(said, [/lies on a read-only file system\. Mount it read-write, or give another directory\./]);
    t.equal(said.length, 1, 'one line');
  }
  mustNow('mount', ['-o', 'remount,rw', mount]);

  rmSync(join(mount, 'fill'));
  rmSync(join(mount, 'fill2'));
  await daemon.run();
  t.match(await cli('volume', 'create', 'new', '--size', '1G'), { code: 0 }, 'it works again with room');
  t.match(await cli('store', 'check'), { code: 0 });
});

t.test('an address nobody can listen on: no store is made', { skip: withoutAddon }, async (t) => {
  const directory = place(t);
  const store = join(directory, 'fresh');
  const plain = join(directory, 'plain');
  writeFileSync(plain, 'x');
  const socket = join(directory, 'taken.sock');
  const servers = [createServer(), createServer()];
  t.teardown(() => servers.map((server) => server.close()));
  await new Promise<void>((resolve) => servers[0]!.listen(socket, resolve));
  await new Promise<void>((resolve) => servers[1]!.listen(0, '127.0.0.1', resolve));
  const tcp = `tcp:127.0.0.1:${(servers[1]!.address() as AddressInfo).port}`;
  const config = join(directory, 'm.yaml');
  writeFileSync(config, `metrics: { listen: "${tcp}" }\n`);
  const refusals: [words: string[], code: number, what: RegExp][] = [
    [['--nbd', tcp], 5, /Another process listens on tcp:127\.0\.0\.1:\d+\. Stop it or choose another port\./],
    [['--nbd', `unix:${socket}`], 5, /Another process answers on .*taken\.sock\. Stop it/],
    [['--nbd', `unix:${plain}`], 5, /plain is there and is no socket\. Move it away/],
    [['--nbd', `unix:/${'x'.repeat(120)}`], 2, /has 121 bytes; 107 are allowed\. Choose a shorter path\./],
    [['--nbd', 'tcp:127.0.0.1:99999'], 2, /is no address to listen on\./],
    [['--api', socket], 5, /Another process answers on .*taken\.sock\. Stop it/],
    [['--api', plain], 5, /plain is there and is no socket\. Move it away/],
    [['--config', config], 5, /Another process listens on tcp:/],
  ];
  for (const [words, code, what] of refusals) {
    const refused = await refusedStart(directory, store, ...words);
    t.equal(refused.code, code, words.join(' '));
    t.match(refused.said, [what]);
    t.equal(refused.said.length, 1, `one line: ${refused.said.join('|')}`);
  }
  t.notOk(existsSync(store), 'nothing was made');
});

t.test(
  'a store that lacks a part, or whose parts are damaged or of others',
  { skip: withoutAddon },
  async (t) => {
    const directory = place(t);
    const daemon = await Daemon.start(t, { directory, configuration: { store: { journal: '64K' } } });
    t.equal((await runCli(['volume', 'create', 'a', '--size', '1G'], { api: daemon.apiPath })).code, 0);
    await daemon.kill();
    const { store } = daemon;
    const copy = join(directory, 'copy');
    const journal = join(copy, 'journal');
    const setMeta = async (value: string): Promise<void> => {
      const level = classicLevel(join(copy, 'metadata'));
      await level.open();
      await level.batch([{ type: 'put', key: jsonKey('meta', 'store'), value: Buffer.from(value) }]);
      await level.close();
    };
    const cases: [what: string, code: number, said: RegExp, harm: () => unknown][] = [
      [
        'no metadata',
        10,
        /metadata of the store .* is missing, while .*nothing was touched\. Put the/,
        () => rmSync(join(copy, 'metadata'), { recursive: true }),
      ],
      [
        'only extents',
        10,
        /metadata of the store .* is missing/,
        () => {
          rmSync(join(copy, 'metadata'), { recursive: true });
          rmSync(journal);
          writeFileSync(join(copy, 'extents', '1'), 'x');
        },
      ],
      [
        'metadata without CURRENT',
        10,
        /metadata of the store .* is damaged/,
        () => rmSync(join(copy, 'metadata', 'CURRENT')),
      ],
      [
        'no journal',
        10,
        /journal of the store .* is missing although .* not stopped cleanly\. Put the right/,
        () => rmSync(journal),
      ],
      [
        'a journal that was cut off',
        10,
        /journal of the store .* is damaged\. Put the right/,
        () => truncateSync(journal, 8192),
      ],
      ['an empty journal', 10, /journal of the store .* is missing/, () => truncateSync(journal, 0)],
      [
        'a garbage journal',
        10,
        /journal of the store .* is damaged/,
        () => writeFileSync(journal, randomBytes(69632)),
      ],
      [
        'no JSON',
        10,
        /damaged: the record meta\/store cannot be read\. Run `cellblock store check/,
        () => setMeta('{'),
      ],
      [
        'a format that is none',
        10,
        /damaged: the format of the store is "abc"/,
        () => setMeta('{"format":"abc","storeId":"00000000000000000000000000000000","windowBytes":2097152}'),
      ],
      [
        "another store's journal",
        10,
        /belongs to another store/,
        () =>
          setMeta(JSON.stringify({ format: FORMAT_VERSION, storeId: '0'.repeat(32), windowBytes: 2 << 20 })),
      ],
      [
        'an older store',
        11,
        /has format 1, of a version of cellblock that was never released/,
        () => setMeta('{"format":1,"storeId":"00000000000000000000000000000000","windowBytes":2097152}'),
      ],
    ];
    for (const [what, code, said, harm] of cases) {
      rmSync(copy, { recursive: true, force: true });
      cpSync(store, copy, { recursive: true });
      await harm();
      const before = readdirSync(copy).sort();
      const refused = await refusedStart(directory, copy);
      t.equal(refused.code, code, what);
      t.match(refused.said, [said], what);
      t.equal(refused.said.length, 1, `${what}: one line`);
      t.strictSame(readdirSync(copy).sort(), before, `${what}: nothing is made`);
    }
    const foreign = join(directory, 'foreign');
    mkdirSync(join(foreign, 'metadata'), { recursive: true });
    writeFileSync(join(foreign, 'metadata', 'mine.txt'), 'x');
    const refused = await refusedStart(directory, foreign);
    t.equal(refused.code, 7);
    t.match(refused.said, [/holds other things and is not a cellblock store\./]);
    t.strictSame(readdirSync(foreign), ['metadata']);
  },
);

t.test(
  'the size of the journal: bounds, room for it, and that an existing one stays',
  { skip: withoutTmpfs },
  async (t) => {
    const directory = place(t);
    const mount = mountTmpfs(t, directory, 24 * MIB);
    const config = join(directory, 'j.yaml');
    for (const [size, code, said] of [
      ['999999T', 2, /j\.yaml, line 2: "store\.journal" is "999999T"\. Allowed: a size from 64K to 1G/],
      ['1K', 2, /line 2: "store\.journal" is "1K"/],
      [
        '64M',
        8,
        /A journal of 67108864 bytes does not fit .* Make room there, or set a smaller store\.journal\./,
      ],
    ] as const) {
      writeFileSync(config, `store:\n  journal: ${size}\n  reserve: 64M\n`);
      const refused = await refusedStart(directory, join(mount, 'store'), '--config', config);
      t.equal(refused.code, code, size);
      t.match(refused.said, [said]);
      t.equal(refused.said.length, 1, 'one line');
    }
    t.strictSame(readdirSync(mount), [], 'nothing was made');

    const store = { journal: '1M', reserve: '64M' };
    const words = { directory, args: ['--store', join(mount, 'store')] };
    const first = await Daemon.start(t, { ...words, configuration: { store } });
    t.match(first.output, /"isNew":true.*"the store is new"/);
    t.match(first.output, /less free than the reserve \(store\.reserve\): new writes are refused/);
    const cli = (...asked: string[]) => runCli(asked, { api: first.apiPath });
    t.match(
      (await cli('status')).stdout,
      /free, 64M in reserve\. Less than the reserve is free: new writes are refused/,
    );
    t.match((await cli('store', 'status')).stdout, /64M in reserve\. Less than the reserve is free/);
    t.match((await first.api.request('GET', '/metrics')).body, /^cellblock_below_reserve 1$/m);
    t.notMatch((await first.api.request('GET', '/metrics')).body, / nan$/im);
    await first.stop();
    const second = await Daemon.start(t, { ...words, configuration: { store: { ...store, journal: '2M' } } });
    t.match(second.output, /store\.journal is ignored: the store keeps the journal it was made with/);
    await second.stop();
  },
);

t.test('store check on what is no store', { skip: withoutAddon }, async (t) => {
  const directory = place(t);
  const check = (path: string) => runCellblock('store', 'check', '--store', path);
  const missing = await check(join(directory, 'none'));
  t.equal(missing.code, 3);
  t.match(missing.stderr, /There is no directory .*none\. Check the path\.\n$/);
  const empty = await check(directory);
  t.equal(empty.code, 7);
  t.match(empty.stderr, /is not a cellblock store\. Give the directory/);
  mkdirSync(join(directory, 'extents'));
  t.equal((await check(directory)).code, 10, 'half a store is a damaged one');
});
