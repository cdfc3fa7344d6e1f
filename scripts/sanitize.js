// Runs the C++ test programs under the sanitizers, longer than `npm test` does.
//
//   node scripts/sanitize.js [asan|tsan] [NAME]
//
// Without arguments both. NAME chooses programs by a part of their name. The random cases get many seeds.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const variants = ['asan', 'tsan'];
const words = process.argv.slice(2);
const chosen = words.filter((word) => variants.includes(word));
const name = words.find((word) => !variants.includes(word));
const rounds = Number(process.env.CELLBLOCK_ROUNDS ?? 10);

function programs(variant) {
  const only = name ? ['--only', name] : [];
  const done = spawnSync(process.execPath, ['scripts/build-native.js', variant, ...only], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (done.status !== 0) process.exit(1);
  return done.stdout
    .trim()
    .split('\n')
    .filter((program) => program.endsWith('_test'));
}

let passed = 0;
const failures = [];
for (const variant of chosen.length > 0 ? chosen : variants) {
  for (const program of programs(variant)) {
    for (let round = 0; round < rounds; round++) {
      const seed = String(BigInt(Math.floor(Math.random() * 2 ** 48)));
      const command = `CELLBLOCK_SEED=${seed} CELLBLOCK_TEST_EFFORT=long ${path.relative(root, program)}`;
      const done = spawnSync(program, [], {
        cwd: root,
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, CELLBLOCK_SEED: seed, CELLBLOCK_TEST_EFFORT: 'long' },
      });
      if (done.status === 0) passed++;
      else failures.push(command);
    }
  }
}
for (const command of failures) console.log(`failed: ${command}`);
console.log(`${passed} runs passed, ${failures.length} failed`);
process.exit(failures.length === 0 && passed > 0 ? 0 : 1);
