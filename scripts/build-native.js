// Builds the C++ test programs with plain g++, or clang, incrementally, each variant into its own directory:
//
//   node scripts/build-native.js asan|tsan|release|fuzz|coverage [--only NAME] [--core LIBRARY] [--out DIRECTORY] [--list]
//
// asan (address and undefined behaviour) and tsan (the programs with threads) build the core library too; release links
// the one given with --core, which is how binding.gyp calls it, and builds its own without. fuzz builds the targets of
// native/fuzz instead of the tests, under the sanitizers of asan, with clang, which brings libFuzzer; coverage builds them
// to count which lines they reach. An object is built again when its source, a header it includes or the flags changed.
// Prints the programs it made, one a line. CXX names another compiler, JOBS (default 2) how many run at once.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findClang, findSanitizer } from './clang.js';
import {
  coreSources,
  fuzzSupportSources,
  fuzzTargetSources,
  hasThreads,
  programSources,
  root,
  testSupportSources,
} from './native-sources.js';

// The test programs' own objects are compiled for a fast build (they are most of it), the core as it runs. -g1: lines and
// names are all that a stack trace needs.
const variants = {
  release: { core: ['-O2', '-g'], tests: ['-O1', '-g1'], both: [] },
  asan: {
    core: ['-O1', '-g1'],
    tests: ['-O0', '-g1'],
    both: ['-fno-omit-frame-pointer', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'],
  },
  tsan: {
    core: ['-O1', '-g1'],
    tests: ['-O1', '-g1'],
    both: ['-fno-omit-frame-pointer', '-fsanitize=thread'],
  },
  // Only the core says what it reaches: what the targets themselves do is of no interest to the fuzzer.
  fuzz: {
    core: ['-O1', '-g1', '-fsanitize=fuzzer-no-link'],
    tests: ['-O1', '-g1'],
    both: ['-fno-omit-frame-pointer', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'],
    link: ['-fsanitize=fuzzer'],
    fuzzing: true,
  },
  coverage: {
    core: ['-O1', '-g1', '-fprofile-instr-generate', '-fcoverage-mapping'],
    tests: ['-O1', '-g1'],
    both: [],
    link: ['-fsanitize=fuzzer', '-fprofile-instr-generate'],
    fuzzing: true,
  },
};
const common = [
  '-std=gnu++20',
  '-fno-exceptions',
  '-fno-rtti',
  '-Wall',
  '-Wextra',
  '-pthread',
  '-I',
  'native',
];

// Parsing these is a third of compiling a test: done once for each set of flags, instead of once for each source. Sources
// name what they use themselves (see the check of includes in scripts/lint.js); nothing depends on this list.
const standardHeaders = [
  'algorithm',
  'array',
  'atomic',
  'cerrno',
  'cstdint',
  'cstring',
  'deque',
  'functional',
  'map',
  'memory',
  'mutex',
  'set',
  'string',
  'thread',
  'unordered_map',
  'vector',
];

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    core: { type: 'string' },
    out: { type: 'string' },
    stamp: { type: 'string' }, // a file to touch when all is built
    list: { type: 'boolean', default: false },
  },
});
const variantName = positionals[0];
const variant = variants[variantName];
if (!variant || positionals.length !== 1) {
  console.error(
    'usage: node scripts/build-native.js asan|tsan|release|fuzz|coverage [--only NAME] [--core LIBRARY] [--out DIRECTORY] [--list]',
  );
  process.exit(2);
}
// The sanitizers of clang cost a third less than those of g++, in the build of asan and in the runs of tsan.
const sanitizing = variantName === 'asan' || variantName === 'tsan';
const compiler = variant.fuzzing
  ? findClang()
  : (process.env.CXX ?? (sanitizing ? findSanitizer() : null) ?? 'g++');
if (compiler === null) {
  console.error('fuzzing needs clang and its run-time library (Debian 12: clang-14 and libclang-rt-14-dev)');
  process.exit(1);
}
const jobs = Number(process.env.JOBS ?? 2);
const out = path.resolve(options.out ?? path.join(root, 'build', variantName));
const isOfTests = (source) => /^native\/(test|fuzz)\//.test(source);
const flagsOf = (source) => [
  ...common,
  ...variant.both,
  ...(isOfTests(source) ? variant.tests : variant.core),
];
// A change of flags, compiler or precompiled headers is a change of every object: the stamp is part of their names.
const stampOf = (source) =>
  createHash('sha256')
    .update([compiler, ...flagsOf(source), ...standardHeaders].join(' '))
    .digest('hex')
    .slice(0, 8);

const objectOf = (source) =>
  path.join(out, 'objects', `${source.replace(/^native\//, '').replaceAll('/', '.')}.${stampOf(source)}.o`);
const programOf = (source) => path.join(out, path.basename(source, '.cc'));
const modified = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;

function dependenciesOf(object) {
  const file = object.replace(/\.o$/, '.d');
  if (!existsSync(file)) return null;
  const rule = readFileSync(file, 'utf8').replaceAll('\\\n', ' ').split('\n')[0];
  return rule
    .slice(rule.indexOf(':') + 1)
    .trim()
    .split(/\s+/)
    .map((name) => path.resolve(root, name));
}

function isStale(object) {
  const dependencies = existsSync(object) ? dependenciesOf(object) : null;
  if (!dependencies) return true;
  const made = modified(object);
  return dependencies.some((file) => modified(file) > made);
}

function run(command, args) {
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd: root, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      process.stderr.write(stdout + stderr);
      if (error) reject(new Error(`failed: ${command} ${args.join(' ')}`));
      else resolve();
    });
  });
}

async function inParallel(tasks) {
  let next = 0;
  const worker = async () => {
    while (next < tasks.length) await tasks[next++]();
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

const precompiledOf = (source) => path.join(out, 'objects', `standard.${stampOf(source)}.h`);

async function precompile(source) {
  const header = precompiledOf(source);
  if (existsSync(`${header}.gch`)) return;
  writeFileSync(header, standardHeaders.map((name) => `#include <${name}>\n`).join(''));
  const temporary = `${header}.${process.pid}.tmp`;
  await run(compiler, [...flagsOf(source), '-x', 'c++-header', header, '-o', temporary]);
  await run('mv', [temporary, `${header}.gch`]);
}

async function compile(source) {
  const object = objectOf(source);
  const temporary = `${object}.${process.pid}.tmp`;
  await run(compiler, [
    ...flagsOf(source),
    '-include',
    precompiledOf(source),
    '-MMD',
    '-MF',
    object.replace(/\.o$/, '.d'),
    '-MT',
    'object',
    '-c',
    source,
    '-o',
    temporary,
  ]);
  await run('mv', [temporary, object]);
}

async function link(source, shared) {
  const program = programOf(source);
  const inputs = [objectOf(source), ...shared];
  const made = existsSync(program) ? modified(program) : 0;
  const inputList = inputs.join('\n');
  const listFile = path.join(out, 'objects', `${path.basename(program)}.inputs`);
  const sameInputs = existsSync(listFile) && readFileSync(listFile, 'utf8') === inputList;
  if (sameInputs && inputs.every((file) => modified(file) <= made)) return;
  const flags = [...variant.both, ...(variant.link ?? []), '-pthread'];
  await run(compiler, [...flags, ...inputs, '-lssl', '-lcrypto', '-o', program]);
  writeFileSync(listFile, inputList);
}

// One thread alone races with nobody: under tsan those programs would cost minutes and could not fail.
const programs = (variant.fuzzing ? fuzzTargetSources() : programSources()).filter(
  (source) =>
    (variantName !== 'tsan' || hasThreads(source)) &&
    (!options.only || path.basename(source).includes(options.only)),
);
if (options.list) {
  console.log(programs.map(programOf).join('\n'));
  process.exit(0);
}
mkdirSync(path.join(out, 'objects'), { recursive: true });
const library = options.core ? [] : coreSources();
const support = variant.fuzzing ? fuzzSupportSources() : testSupportSources();
const stale = [...library, ...support, ...programs].filter((source) => isStale(objectOf(source)));
try {
  const kinds = [...new Map(stale.map((source) => [precompiledOf(source), source])).values()];
  await inParallel(kinds.map((source) => () => precompile(source)));
  await inParallel(stale.map((source) => () => compile(source)));
  const shared = [...support, ...library].map(objectOf);
  if (options.core) shared.push(path.resolve(options.core));
  await inParallel(programs.map((source) => () => link(source, shared)));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
if (options.stamp) writeFileSync(options.stamp, '');
console.log(programs.map(programOf).join('\n'));
