// The fuzz targets, briefly: every input of the kept corpus, then some runs from there on. `npm run fuzz` goes on for as long as
// it is told to.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { byEffort, tooLongForQuick } from '../support/effort.js';
import { find, missing, repositoryRoot, run } from '../support/programs.js';

const RUNS = byEffort({ quick: 0, normal: 2000, long: 200_000 });
const compilers = ['clang++-14', 'clang++'];
const lacking =
  compilers.every((program) => find(program) === null) && `not installed: ${compilers.join(' or ')}`;

const fuzz = (...words: string[]) => run(process.execPath, ['scripts/fuzz.js', ...words]);

t.test('fuzzing', { skip: tooLongForQuick || lacking }, async (t) => {
  const once = await fuzz('--once');
  t.equal(once.code, 0, 'every input of the kept corpus');
  if (once.code !== 0) t.comment(once.story);
  const runs = await fuzz('--runs', String(RUNS));
  t.equal(runs.code, 0, `${RUNS} runs of each target from there on`);
  t.comment(runs.code === 0 ? runs.stdout : runs.story);
});

t.test('every planted bug can be planted', { skip: missing('patch') }, async (t) => {
  const folder = path.join(repositoryRoot, 'native/fuzz/planted');
  const patches = readdirSync(folder);
  t.ok(patches.length >= 8);
  for (const name of patches) {
    const words = ['--dry-run', '--force', '-p1', '-i', path.join(folder, name)];
    const done = await run('patch', words);
    t.equal(done.code, 0, `${name} fits the sources: ${done.stdout}`);
  }
});
