// Files with the real daemon: every length to the byte, by our own commands and by strangers', and an odd one through a sync with all it
// has: content, length, attributes.

import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { find, missing, must, type Outcome, repositoryRoot, run } from '../support/programs.js';

t.setTimeout(240_000);

const program = path.join(repositoryRoot, 'dist/src/main/cellblock.js');
const LENGTHS = [1, 511, 4095, 4096, 4097, (1 << 20) + 1];

interface Agent {
  daemon: Daemon;
  at: (name: string) => string;
  cli: (...words: string[]) => Promise<string>;
  fails: (...words: string[]) => Promise<Outcome>;
}

async function start(t: Test, env: Record<string, string> = {}): Promise<Agent> {
  const daemon = await Daemon.start(t);
  const words = (more: string[]) => [program, '--api', daemon.apiPath, ...more];
  return {
    daemon,
    at: (name) => path.join(daemon.directory, name),
    cli: (...more) => must(process.execPath, words(more), { env }),
    fails: (...more) => run(process.execPath, words(more), { env }),
  };
}

t.test('every length, byte by byte; behind a length that grew there are zeros', async (t) => {
  const { at, cli } = await start(t);
  for (const bytes of LENGTHS) {
    const content = randomBytes(bytes);
    const [name, out] = [`f${bytes}`, at(`out-${bytes}`)];
    writeFileSync(at(name), content);
    await cli('file', 'import', name, at(name));
    await cli('file', 'export', name, out);
    t.ok(readFileSync(out).equals(content), `${bytes}: the same bytes and length`);
    await cli('file', 'resize', name, '--size', `${bytes + 8192}`);
    await cli('file', 'export', name, out, '--force');
    t.ok(readFileSync(out).equals(Buffer.concat([content, Buffer.alloc(8192)])), `${bytes}: grown`);
    // The block of the new end held other bytes; after growing again they must not come back.
    await cli('file', 'resize', name, '--size', `${(bytes >> 1) + 1}`, '--force');
    await cli('file', 'resize', name, '--size', `${bytes + 1}`);
    await cli('file', 'export', name, out, '--force');
    const rest = Buffer.alloc(bytes + 1);
    content.copy(rest, 0, 0, (bytes >> 1) + 1);
    t.ok(readFileSync(out).equals(rest), `${bytes}: shrunk and grown`);
  }
});

t.test(
  "strangers' clients: nbdcopy in and out, qemu-io at the end",
  { skip: missing('nbdcopy', 'qemu-io') },
  async (t) => {
    const { daemon, at, cli } = await start(t);
    for (const bytes of LENGTHS) {
      const content = randomBytes(bytes);
      writeFileSync(at('in'), content);
      const name = `f${bytes}`;
      await cli('file', 'create', name, '--size', `${bytes}`);
      await must('nbdcopy', [at('in'), daemon.uri(name)]);
      await must('nbdcopy', [daemon.uri(name), at('out')]);
      t.ok(readFileSync(at('out')).equals(content), `${bytes}: nbdcopy`);
      const last = `${bytes - 1} 1`;
      const words = [`write -P 0x5a ${last}`, `read -P 0x5a ${last}`].flatMap((command) => ['-c', command]);
      await must('qemu-io', ['-f', 'raw', ...words, daemon.uri(name)]);
      content[bytes - 1] = 0x5a;
      await cli('file', 'export', name, at('out'), '--force');
      t.ok(readFileSync(at('out')).equals(content), `${bytes}: the last byte, and no other`);
    }
    t.match(await cli('store', 'check'), 'clean');
  },
);

/** The tools for extended attributes, or stand-ins over Python's calls; null: neither is there. */
function xattrTools(directory: string): Record<string, string> | null {
  if (find('getfattr') && find('setfattr')) return {};
  if (!find('python3')) return null;
  const get = `#!/usr/bin/env python3
import base64, os, sys
path = sys.argv[-1]
for name in os.listxattr(path):
    if name.startswith('user.'):
        print(name + '=0s' + base64.b64encode(os.getxattr(path, name)).decode())
`;
  const set = `#!/usr/bin/env python3
import base64, os, sys
os.setxattr(sys.argv[-1], sys.argv[2], base64.b64decode(sys.argv[4][2:]))
`;
  for (const [name, text] of [
    ['getfattr', get],
    ['setfattr', set],
  ] as const) {
    writeFileSync(path.join(directory, name), text);
    chmodSync(path.join(directory, name), 0o755);
  }
  return { PATH: `${directory}:${process.env.PATH}` };
}

const DOMAIN = (name: string) => `<domain type='kvm'><name>${name}</name></domain>\n`;

t.test('a file with attributes takes the state of another and comes out as itself', async (t) => {
  const tools = xattrTools(t.testdir());
  const { at, cli, fails, daemon } = await start(t, tools ?? {});
  const content = randomBytes(4099);
  writeFileSync(at('source'), content);
  chmodSync(at('source'), 0o600);
  writeFileSync(at('target'), randomBytes(5003));
  chmodSync(at('target'), 0o640);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) chownSync(at('target'), 1234, 2345);
  chmodSync(at('target'), 0o2640);
  if (tools)
    await must('setfattr', ['-n', 'user.origin', '-v', '0sAAEC', '--', at('target')], { env: tools });
  for (const name of ['source', 'target']) await cli('file', 'import', name, at(name));
  const before = JSON.parse(await cli('file', 'show', 'target', '--json'));
  await cli('snapshot', 'create', 'source@s');

  const sync = JSON.parse(await cli('sync', 'target', '--from', 'source@s', '--json'));
  const same = sync.disks[0].identity.same.map(({ field }: { field: string }) => field);
  t.ok(same.includes('record/file.owner') && same.includes('record/file.mode'));
  const after = JSON.parse(await cli('file', 'show', 'target', '--json'));
  const { modified } = after.attributes;
  t.same({ ...before.attributes, modified }, after.attributes, 'only the modification');
  t.ok(modified > before.attributes.modified);

  await daemon.restart('kill');
  await cli('file', 'export', 'target', at('out'));
  t.ok(
    readFileSync(at('out')).equals(Buffer.concat([content, Buffer.alloc(5003 - 4099)])),
    'bytes and length',
  );
  const told = statSync(at('out'));
  t.equal(told.mode & 0o7777, 0o2640);
  if (isRoot) t.same([told.uid, told.gid], [1234, 2345]);
  t.equal(told.mtime.toISOString(), modified);
  if (tools) {
    const printed = await must('getfattr', ['--absolute-names', '-d', '-e', 'base64', '--', at('out')], {
      env: tools,
    });
    t.match(printed, 'user.origin=0sAAEC');
  } else t.comment('without tools for extended attributes');

  await cli('volume', 'create', 'v', '--size', '1M');
  await cli('snapshot', 'create', 'v@s');
  const refused = await fails('sync', 'target', '--from', 'v@s', '--grow');
  t.match(refused, { code: 2, stderr: /"target" is a file, and "v" a volume\./ });
  t.match(JSON.parse(await cli('store', 'check', '--json')), { clean: true });
});

t.test('an import over a file that is there keeps its attributes; modification advances', async (t) => {
  const { at, cli } = await start(t);
  writeFileSync(at('a'), 'first');
  chmodSync(at('a'), 0o600);
  await cli('file', 'import', 'a', at('a'));
  const before = JSON.parse(await cli('file', 'show', 'a', '--json')).attributes;
  writeFileSync(at('b'), 'two');
  chmodSync(at('b'), 0o644);
  t.match(
    await cli('file', 'import', 'a', at('b'), '--force'),
    'File a holds the image, 3 bytes; the rest of it, 2 bytes, is zeros.',
  );
  const after = JSON.parse(await cli('file', 'show', 'a', '--json')).attributes;
  t.ok(after.modified > before.modified);
  t.strictSame({ ...after, modified: before.modified }, before);
  await cli('file', 'export', 'a', at('out'));
  t.equal(readFileSync(at('out'), 'latin1'), 'two\0\0');
});

t.test(
  'identity in the content: the definition of a VM, in a file of the same length as before',
  async (t) => {
    const { at, cli } = await start(t);
    writeFileSync(at('source.xml'), `${DOMAIN('source')}\n\n\n\n`);
    writeFileSync(at('target.xml'), DOMAIN('a-longer-target'));
    for (const name of ['source', 'target']) await cli('file', 'import', name, at(`${name}.xml`));
    await cli('file', 'resize', 'target', '--size', '100');
    await cli('snapshot', 'create', 'source@s');
    t.match(await cli('identity', 'show', 'source@s'), /^disk\/vm\.name +libvirt +source$/m);
    const dry = JSON.parse(await cli('sync', 'target', '--from', 'source@s', '--dry-run', '--json'));
    t.match(dry.disks[0].identity.overwritten, [{ field: 'disk/vm.name', now: 'a-longer-target' }]);
    await cli('sync', 'target', '--from', 'source@s');
    await cli('file', 'export', 'target', at('out'));
    const text = readFileSync(at('out'), 'utf8');
    t.equal(text.length, 100);
    t.equal(text.trimEnd(), DOMAIN('a-longer-target').trimEnd());
    await cli('sync', 'target', '--from', 'source@s', '--identity', 'vm.name=take');
    t.match(await cli('identity', 'show', 'target'), /^disk\/vm\.name +libvirt +source$/m);
  },
);
