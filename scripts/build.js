// Builds what is out of date: TypeScript into dist/, the addon and the C++ test programs into build/.
//
//   node scripts/build.js ts|native [--force]
//
// A build is out of date when a source is newer than its stamp, a source has gone, or Node is another one.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inRoot = (...parts) => path.join(root, ...parts);

function filesBelow(folder, keep) {
  if (!existsSync(inRoot(folder))) return [];
  return readdirSync(inRoot(folder), { recursive: true })
    .map((name) => path.join(folder, name))
    .filter(keep)
    .sort();
}

/** What a stamp holds: the file list, so that a removed source counts as a change too, and the ABI. */
const describe = (sources) => `${process.version} ${process.arch}\n${sources.join('\n')}\n`;

function isFresh(stamp, sources) {
  if (!existsSync(inRoot(stamp)) || readFileSync(inRoot(stamp), 'utf8') !== describe(sources)) return false;
  const built = statSync(inRoot(stamp)).mtimeMs;
  return sources.every((file) => statSync(inRoot(file)).mtimeMs <= built);
}

/** Runs a build; its stamp gets the time the build began, so that an edit made meanwhile is seen next time. */
function build({ stamp, sources, force, steps }) {
  if (!force && isFresh(stamp, sources)) return true;
  const began = new Date();
  rmSync(inRoot(stamp), { force: true });
  if (!steps()) return false;
  mkdirSync(path.dirname(inRoot(stamp)), { recursive: true });
  writeFileSync(inRoot(stamp), describe(sources));
  spawnSync('touch', ['-d', began.toISOString(), inRoot(stamp)]);
  return true;
}

function runNode(script, args) {
  const done = spawnSync(process.execPath, [inRoot(script), ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return done.status === 0;
}

/** Where Node's headers lie on this machine; none: node-gyp fetches them. */
function headersOption() {
  if (process.env.npm_config_nodedir) return []; // node-gyp reads it itself
  const prefix = path.dirname(path.dirname(process.execPath));
  const header = path.join(prefix, 'include/node/node_version.h');
  if (!existsSync(header)) return [];
  const text = readFileSync(header, 'utf8');
  const number = (name) => text.match(new RegExp(`#define NODE_${name}_VERSION (\\d+)`))?.[1];
  const version = ['MAJOR', 'MINOR', 'PATCH'].map(number).join('.');
  return version === process.versions.node ? [`--nodedir=${prefix}`] : [];
}

export function buildNative({ force = false } = {}) {
  const isSource = (name) => /\.(cc|h)$/.test(name);
  return build({
    stamp: 'build/.built',
    sources: [
      'binding.gyp',
      'scripts/native-sources.js',
      'scripts/build-native.js',
      ...filesBelow('native', isSource),
    ],
    force,
    steps: () =>
      runNode('node_modules/node-gyp/bin/node-gyp.js', [
        'configure',
        'build',
        '--silent',
        `--jobs=${Math.min(os.availableParallelism(), 4)}`,
        ...headersOption(),
      ]),
  });
}

/** Output of sources that are gone, so that a deleted test does not go on passing. */
function removeOrphans() {
  for (const output of filesBelow('dist', (name) => /\.js(\.map)?$/.test(name))) {
    const source = output.replace(/^dist\//, '').replace(/\.js(\.map)?$/, '.ts');
    if (!existsSync(inRoot(source))) rmSync(inRoot(output));
  }
}

/** So that `npx cellblock` works in a checkout. */
function linkCommands() {
  const { bin } = JSON.parse(readFileSync(inRoot('package.json'), 'utf8'));
  mkdirSync(inRoot('node_modules/.bin'), { recursive: true });
  for (const [name, target] of Object.entries(bin)) {
    if (!existsSync(inRoot(target))) continue;
    chmodSync(inRoot(target), 0o755);
    const link = inRoot('node_modules/.bin', name);
    if (lstatSync(link, { throwIfNoEntry: false })) rmSync(link);
    symlinkSync(path.join('../..', target), link);
  }
}

export function buildTypeScript({ force = false } = {}) {
  const isSource = (name) => name.endsWith('.ts');
  return build({
    stamp: 'dist/.built',
    sources: [
      'tsconfig.json',
      'package.json',
      'package-lock.json',
      ...['src', 'test', 'bench'].flatMap((folder) => filesBelow(folder, isSource)),
    ],
    force,
    steps: () => {
      if (!runNode('node_modules/typescript/bin/tsc', ['-p', '.'])) return false;
      removeOrphans();
      linkCommands();
      return true;
    },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const builders = { ts: buildTypeScript, native: buildNative };
  const builder = builders[process.argv[2]];
  if (!builder) {
    console.error('usage: node scripts/build.js ts|native [--force]');
    process.exit(2);
  }
  process.exit(builder({ force: process.argv.includes('--force') }) ? 0 : 1);
}
