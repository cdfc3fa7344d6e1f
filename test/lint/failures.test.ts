// What a run says of its failures at its end.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';

const root = path.resolve(import.meta.dirname, '../../..');
const tap = path.join(root, 'node_modules/tap/dist/esm/index.js');
const { Failures } = (await import(pathToFileURL(path.join(root, 'scripts/failures.js')).href)) as {
  Failures: new () => { read(bytes: string): void; toString(): string };
};

const program = `import t from '${tap}';
t.test('outer', async (t) => {
  t.test('inner', async (t) => {
    t.equal(1, 2, 'numbers');
    t.ok(true, 'this one is fine');
    t.ok(false, 'for later', { todo: true });
  });
});
t.test('throws', async () => { throw new Error('boom'); });
`;

t.test('every failed point once, with where it stands and why, however its bytes come', async (t) => {
  const directory = mkdtempSync(path.join(root, 'build', 'failures-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = path.join(directory, 'program.mjs');
  writeFileSync(file, program);
  const { stdout, status } = spawnSync(process.execPath, [file], {
    encoding: 'utf8',
    env: { ...process.env, TAP: '1' },
  });
  t.equal(status, 1);
  for (const size of [1, 7, stdout.length]) {
    const failures = new Failures();
    for (let at = 0; at < stdout.length; at += size) failures.read(stdout.slice(at, at + size));
    const said = failures.toString();
    t.same(
      said.split('\n').filter((line) => line.startsWith('failed: ')),
      ['failed: outer > inner > numbers', 'failed: throws > boom'],
    );
    t.match(said, /-2\n\s*\+1\n/, 'the difference');
  }
  t.equal(new Failures().toString(), '', 'nothing failed');
});
