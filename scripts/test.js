// Runs all tests, after making the machine ready for them.
//
//   node scripts/test.js [--quick|--long] [FILTER...]
//
// --quick leaves out sanitizers, file systems and crashes; --long repeats what is random or violent more often.
// FILTER chooses test files by a part of their name. What failed is said again at the end. The last line is "N passed,
// N failed": the points of tap's own total, failed being whatever did not pass and was not skipped. The exit code is 0
// only if nothing failed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failures } from './failures.js';
import { setUpOrExit } from './setup.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const flags = process.argv.slice(2).filter((word) => word.startsWith('--'));
const filters = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const effort = { '--quick': 'quick', '--long': 'long' }[flags[0]] ?? 'normal';
if (flags.length > 1 || (flags.length === 1 && effort === 'normal')) {
  console.error('usage: node scripts/test.js [--quick|--long] [FILTER...]');
  process.exit(2);
}

function testFiles() {
  const files = readdirSync(path.join(root, 'dist/test'), { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => path.join('dist/test', name));
  // tap takes them in the order of their paths; those in test/builds take longest, and begin first.
  return files.filter((name) => filters.length === 0 || filters.some((part) => name.includes(part)));
}

/** Points passed and failed by tap's own closing lines; null when the run did not get that far. */
function totals(output) {
  const closing = [...output.matchAll(/^# \{ total: (\d+)(.*)\}\s*$/gm)].at(-1);
  if (!closing) return null;
  const count = (name) => Number(closing[2].match(new RegExp(`\\b${name}: (\\d+)`))?.[1] ?? 0);
  const passed = count('pass');
  return { passed, failed: Number(closing[1]) - passed - count('skip') - count('todo') };
}

/** Runs tap; its output is shown as it comes, and the end of it is kept. */
async function runTap(files) {
  const tap = spawn(
    process.execPath,
    ['node_modules/tap/dist/esm/run.mjs', 'run', '--reporter=tap', ...files],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, CELLBLOCK_TEST_EFFORT: effort },
    },
  );
  let output = '';
  const failures = new Failures();
  tap.stdout.setEncoding('utf8');
  tap.stdout.on('data', (bytes) => {
    process.stdout.write(bytes);
    output = (output + bytes).slice(-10_000);
    failures.read(bytes);
  });
  const [code] = await once(tap, 'close');
  return { code, output, failures };
}

setUpOrExit('test');
const files = testFiles();
if (files.length === 0) {
  console.error(`test: no test file has a name with: ${filters.join(', ')}`);
  process.exit(2);
}
const { code, output, failures } = await runTap(files);
const counted = totals(output) ?? { passed: 0, failed: 1 };
// Whatever tap calls a failure is one, even where no point says so (a crash, a timeout, a plan not kept).
const failed = code === 0 ? counted.failed : Math.max(counted.failed, 1);
process.stdout.write(`${failures}`);
console.log(`${counted.passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
