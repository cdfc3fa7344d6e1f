// Checks form and structure: biome, clang-format, directions of imports and includes, what must not be committed.
//
//   node scripts/lint.js [--write] [CHECK...]
//
// Prints TAP, one point a check, so that the tests can nest it. --write formats instead of complaining.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const write = process.argv.includes('--write');

/** Folders of native a file of the folder may include from, besides its own. */
const core = ['base', 'nbd', 'tls', 'io', 'store', 'volume', 'kernel', 'host', 'plane'];
const mayInclude = {
  base: [],
  nbd: ['base'],
  tls: ['base'],
  io: ['base'],
  store: ['base', 'io'],
  volume: ['base', 'io', 'store'],
  kernel: ['base'],
  host: ['base'],
  plane: core,
  binding: core,
  test: [...core],
  fuzz: [...core, 'test'],
};

const passed = { failures: [] };
const failed = (...failures) => ({ failures });
const skipped = (reason) => ({ failures: [], skipped: reason });

function run(command, args) {
  const done = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (done.error) return { missing: true, ok: false, output: String(done.error.message) };
  return { missing: false, ok: done.status === 0, output: done.stdout + done.stderr };
}

const runPackage = (script, args) => run(process.execPath, [path.join('node_modules', script), ...args]);

function nativeFiles() {
  return readdirSync(path.join(root, 'native'), { recursive: true })
    .filter((name) => /\.(cc|h)$/.test(name))
    .sort();
}

function biome() {
  const action = write ? ['check', '--write'] : ['check'];
  const done = runPackage('@biomejs/biome/bin/biome', [
    ...action,
    '--colors=off',
    '--diagnostic-level=error',
    '--max-diagnostics=50',
  ]);
  return done.ok ? passed : failed(done.output);
}

function clangFormat() {
  const files = nativeFiles().map((name) => path.join('native', name));
  const done = run('clang-format', [...(write ? ['-i'] : ['--dry-run', '-Werror']), ...files]);
  if (done.missing) return skipped('clang-format is not installed (Debian: apt-get install clang-format)');
  return done.ok ? passed : failed(done.output);
}

function imports() {
  const done = runPackage('dependency-cruiser/bin/dependency-cruise.mjs', [
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'err-long',
    'src',
    'test',
    'bench',
  ]);
  return done.ok ? passed : failed(done.output);
}

function includesOf(name) {
  const text = readFileSync(path.join(root, 'native', name), 'utf8');
  return [...text.matchAll(/^\s*#\s*include\s*[<"]([^>"]+)[>"]/gm)].map((match) => match[1]);
}

function includes() {
  const failures = [];
  const folders = Object.keys(mayInclude);
  for (const name of nativeFiles()) {
    const folder = name.split('/')[0];
    if (!folders.includes(folder)) {
      failures.push(`native/${name}: the folder has no place in the order of scripts/lint.js`);
      continue;
    }
    for (const included of includesOf(name)) {
      const from = included.split('/')[0];
      const isOurs = included.includes('/') && folders.includes(from);
      if (isOurs && from !== folder && !mayInclude[folder].includes(from)) {
        failures.push(
          `native/${name} includes ${included}; ${folder} may use: ${mayInclude[folder].join(', ')}`,
        );
      }
      if (/^(napi|node_api|js_native_api|uv)\b/.test(included) && folder !== 'binding') {
        failures.push(`native/${name} includes ${included}; only native/binding may`);
      }
    }
  }
  return failed(...failures);
}

function lockFile() {
  const addresses =
    readFileSync(path.join(root, 'package-lock.json'), 'utf8').match(/"resolved": "https?:.*/g) ?? [];
  return failed(
    ...addresses.slice(0, 5).map((line) => `package-lock.json names a download address: ${line}`),
  );
}

const checks = { biome, 'clang-format': clangFormat, imports, includes, 'lock-file': lockFile };

function report(name, number, { failures, skipped: reason }) {
  console.log(`${failures.length ? 'not ok' : 'ok'} ${number} - ${name}${reason ? ` # SKIP ${reason}` : ''}`);
  for (const line of failures.join('\n').split('\n')) if (line.trim()) console.log(`# ${line}`);
  return failures.length === 0;
}

const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = asked.filter((name) => !Object.hasOwn(checks, name));
if (unknown.length > 0) {
  console.error(
    `lint: no check is called ${unknown.join(', ')}; there are: ${Object.keys(checks).join(', ')}`,
  );
  process.exit(2);
}
const chosen = asked.length > 0 ? asked : Object.keys(checks);
console.log(`TAP version 14\n1..${chosen.length}`);
const results = chosen.map((name, index) => report(name, index + 1, checks[name]()));
process.exit(results.every(Boolean) ? 0 : 1);
