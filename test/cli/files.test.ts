// cellblock file: the verbs of volumes with a file's own words, and what each gets that is meant for the other kind.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseDump } from '../../src/commands/file-attributes.js';
import { startFakeAgent } from './fake-agent.js';
import { runCli } from './run-cli.js';

t.test('a file through its life', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const said = async (...words: string[]) => (await runCli(['file', ...words], { api })).stdout;
  t.match(await said('list'), 'No files. Make one with: cellblock file create NAME --size 4097\n');
  t.equal(await said('create', 'a', '--size', '4097'), 'File a made, 4097 bytes.\n');
  const { attributes } = operations.volumes.get('a')!;
  t.match(attributes, {
    owner: process.getuid?.(),
    group: process.getgid?.(),
    mode: 0o666 & ~process.umask(),
  });
  t.match(await said('list'), /^NAME +SIZE .*\na +4097 bytes /);
  t.match(await said('show', 'a'), /^FILE[\s\S]*\(4097 bytes\)[\s\S]*\nOwner +\d+:\d+\nMode +0\d{3}\n/);
  t.equal(await said('rename', 'a', 'b'), 'File a is now b.\n');
  t.match(await said('resize', 'b', '--size', '1'), '', 'shrinking wants --force');
  t.match(await said('resize', 'b', '--size', '1', '--force'), 'File b has 1 byte now;');
  t.match(await said('delete', 'b', '--dry-run'), 'Would delete file b, 1 byte.\n');
  t.match(await said('delete', 'b'), 'File b deleted;');
  t.equal(operations.volumes.size, 0);
});

t.test('volume list has volumes, file list has files', async (t) => {
  const { apiPath: api } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'v', '--size', '1M'], { api });
  await runCli(['file', 'create', 'f', '--size', '1'], { api });
  for (const [noun, name] of [
    ['volume', 'v'],
    ['file', 'f'],
  ] as const) {
    const { stdout } = await runCli([noun, 'list', '--json'], { api });
    t.match(JSON.parse(stdout), [{ name, kind: noun }]);
    t.equal(JSON.parse(stdout).length, 1);
  }
});

const WRONG: [words: string[], code: number, says: RegExp][] = [
  [['file', 'create', 'x', '--size', '0'], 2, /size is 0/],
  [['file', 'create', 'x', '--size=-1'], 2, /negative/],
  [['file', 'create', 'x', '--size', '1.5.2'], 2, /not a size/],
  [['file', 'create', 'x'], 2, /--size <size>.*--size 4097/],
  [['file', 'create', 'v', '--size', '1'], 4, /exists already/],
  [['file', 'create', 'a/b', '--size', '1'], 2, /contains a `\/`/],
  [['file', 'create', 'f@s', '--size', '1'], 2, /is a snapshot, not a file/],
  [['volume', 'show', 'f'], 2, /"f" is a file, not a volume\. Use `cellblock file/],
  [['file', 'show', 'v'], 2, /"v" is a volume, not a file\. Use `cellblock volume/],
  [['file', 'rename', 'v', 'w'], 2, /is a volume, not a file/],
  [['file', 'resize', 'v', '--size', '1', '--force'], 2, /is a volume, not a file/],
  [['file', 'delete', 'v'], 2, /is a volume, not a file/],
  [['file', 'delete', 'v', '--dry-run'], 2, /is a volume, not a file/],
  [['file', 'repair', 'v'], 2, /is a volume, not a file/],
  [['file', 'import', 'v', '/etc/hostname'], 2, /is a volume, not a file/],
  [['volume', 'import', 'f', '/etc/hostname', '--force'], 2, /is a file, not a volume/],
  [['file', 'export', 'v', '-'], 2, /is a volume, not a file/],
  [['volume', 'export', 'f@s', '-'], 2, /is a file, not a volume/],
  [['file', 'show', 'nowhere'], 3, /no file "nowhere"/],
  [['file', 'import', 'new', '/dev/null', '--size', '0'], 2, /size is 0/],
  [['file', 'import', 'new', '-'], 2, /How large file "new"/],
];

t.test('wrong input, and the other kind: what is wrong, what to do, nothing done', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'v', '--size', '1M'], { api });
  await runCli(['file', 'create', 'f', '--size', '1'], { api });
  for (const [words, code, says] of WRONG) {
    const outcome = await runCli(words, { api });
    t.equal(outcome.code, code, `${words.join(' ')}: ${outcome.stderr}`);
    t.match(outcome.stderr, says);
    t.equal(outcome.stdout, '', 'nothing on stdout');
  }
  t.same([...operations.volumes.keys()], ['v', 'f']);
});

t.test('an empty file is refused, and a dry run says bytes', async (t) => {
  const { apiPath: api, directory, operations } = await startFakeAgent(t);
  const file = join(directory, 'in');
  writeFileSync(file, '');
  t.match(await runCli(['file', 'import', 'new', file], { api }), {
    code: 2,
    stderr: /is empty\. Say the size/,
  });
  writeFileSync(file, 'x'.repeat(511));
  const dry = await runCli(['file', 'import', 'new', file, '--dry-run'], { api });
  t.equal(dry.stdout, `Would make file new, 511 bytes, and write ${file} to it, 511 bytes.\n`);
  t.equal(operations.volumes.size, 0);
});

t.test('what getfattr prints is understood', async (t) => {
  const dump =
    '# file: a\nuser.one=0sAQI=\nuser.a\\075b=0seA==\nuser.empty=""\nuser.bare\nsecurity.selinux=0sAA==\n\n';
  t.strictSame(parseDump(dump), {
    'user.one': 'AQI=',
    'user.a=b': 'eA==',
    'user.empty': '',
    'user.bare': '',
  });
});
