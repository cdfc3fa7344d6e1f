// libnbd's interop programs with cellblock as the server (test/clients/libnbd-interop.test.ts):
//
//   npm run libnbd-interop [-- SOURCE]
//
// SOURCE is a source tree of libnbd. Without one, that of the Debian package is fetched into build/libnbd, by apt-get with lists of its
// own: the machine's are not touched. The programs are built against the libnbd that is installed (libnbd-dev).
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const kept = path.join(root, 'build/libnbd');

function fail(sentence) {
  console.error(`libnbd-interop: ${sentence}`);
  process.exit(1);
}

function run(command, words, options = {}) {
  const { status, error } = spawnSync(command, words, { stdio: 'inherit', cwd: root, ...options });
  if (error || status !== 0) fail(`${command} ${words.join(' ')} failed`);
}

function sourceTree() {
  mkdirSync(kept, { recursive: true });
  const found = readdirSync(kept, { withFileTypes: true }).find(
    (one) => one.isDirectory() && one.name.startsWith('libnbd-'),
  );
  return found && path.join(kept, found.name);
}

/** The version that is installed: headers and programs belong together. */
function fetchSource() {
  const lists = path.join(kept, 'sources.list');
  const suite = spawnSync('sh', ['-c', '. /etc/os-release && echo $VERSION_CODENAME'], { encoding: 'utf8' });
  writeFileSync(lists, `deb-src http://deb.debian.org/debian ${suite.stdout.trim()} main\n`);
  for (const folder of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(path.join(kept, folder), { recursive: true });
  const apart = [
    `Dir::Etc::sourcelist=${lists}`,
    'Dir::Etc::sourceparts=/dev/null',
    `Dir::State::lists=${kept}/lists`,
    `Dir::Cache=${kept}/cache`,
  ].flatMap((option) => ['-o', option]);
  run('apt-get', [...apart, '-qq', 'update']);
  run('apt-get', [...apart, '-qq', 'source', '--download-only', 'libnbd'], { cwd: kept });
  const archive = readdirSync(kept).find((name) => name.endsWith('.orig.tar.gz'));
  if (archive === undefined) fail('apt-get brought no source of libnbd');
  run('tar', ['xf', archive], { cwd: kept });
}

const given = process.argv[2];
if (given === undefined && sourceTree() === undefined) fetchSource();
const source = given === undefined ? sourceTree() : path.resolve(given);
const words = ['--import=./scripts/plain-children.js', 'dist/test/clients/libnbd-interop.test.js'];
const env = { ...process.env, TAP: '1', CELLBLOCK_LIBNBD_SOURCE: source };
process.exitCode = spawnSync(process.execPath, words, { stdio: 'inherit', cwd: root, env }).status ?? 1;
