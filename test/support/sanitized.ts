// A short run of the C++ test programs under a sanitizer. `npm run sanitize` is the long one.
import path from 'node:path';
import t from 'tap';
import { tooLongForQuick } from './effort.js';
import { run } from './programs.js';

const BUILD_MS = 14 * 60_000;

export function runSanitized(variant: 'asan' | 'tsan'): void {
  t.jobs = 1;
  t.test(variant, { skip: tooLongForQuick }, async (t) => {
    // Both builds go on side by side, and a machine with other work takes its time.
    const built = await run(process.execPath, ['scripts/build-native.js', variant], { hangMs: BUILD_MS });
    if (!t.equal(built.code, 0, `the ${variant} build`, { diagnostic: true })) return t.comment(built.story);
    const programs = built.stdout
      .trim()
      .split('\n')
      .filter((name) => name.endsWith('_test'));
    t.ok(programs.length > 0, 'there are programs');
    const env = { ...process.env, CELLBLOCK_TEST_EFFORT: 'quick' };
    for (const program of programs)
      await t.spawn(program, [], { env }, `${path.basename(program)} (${variant})`);
  });
}
