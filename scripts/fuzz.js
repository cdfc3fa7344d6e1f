// Coverage-guided fuzzing of the C++ core, with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer.
//
//   node scripts/fuzz.js [TARGET...] [--minutes N | --runs N]    from the kept corpus on; what is found ends it
//   node scripts/fuzz.js --once                                  every input of the kept corpus, and nothing else
//   node scripts/fuzz.js --minimise                              what is worth it of all inputs becomes the kept corpus
//   node scripts/fuzz.js --coverage                              which lines of the core the kept corpus reaches
//   node scripts/fuzz.js --planted [--runs N]                    in how many runs the bugs of native/fuzz/planted are found
//
// TARGET is a program of native/fuzz (`connection` or `fuzz_connection`); without, all. The kept corpus is native/fuzz/corpus;
// what a run adds goes to build/fuzz/new, and an input that shows a bug to build/fuzz/found. --seed N repeats a run. The
// exit code is 0 only if nothing was found (with --planted: only if everything was).
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findLlvm } from './clang.js';
import { fuzzTargetSources } from './native-sources.js';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inBuild = (...parts) => path.join(root, 'build/fuzz', ...parts);
const corpusOf = (target) => path.join(root, 'native/fuzz/corpus', target);
const all = fuzzTargetSources().map((source) => path.basename(source, '.cc'));

/** Bytes of an input at most: sessions are some messages, a journal is a small ring. */
const longest = {
  fuzz_connection: 4096,
  fuzz_handshake: 8192,
  fuzz_journal: 4192,
  fuzz_tls: 4096,
  fuzz_window_record: 1024,
};
/** Of kept inputs, which are cut to it: the corpus stays below 600 KiB. */
const longestKept = { ...longest, fuzz_connection: 1024, fuzz_tls: 1024 };
const speaksNbd = (target) => ['fuzz_connection', 'fuzz_handshake', 'fuzz_tls'].includes(target);

function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      minutes: { type: 'string' },
      runs: { type: 'string' },
      seed: { type: 'string' },
      once: { type: 'boolean', default: false },
      minimise: { type: 'boolean', default: false },
      coverage: { type: 'boolean', default: false },
      planted: { type: 'boolean', default: false },
    },
  });
  const targets = positionals.map((word) => (word.startsWith('fuzz_') ? word : `fuzz_${word}`));
  const unknown = targets.filter((target) => !all.includes(target));
  const numbers = [values.minutes, values.runs, values.seed].filter((text) => text !== undefined);
  const modes = ['once', 'minimise', 'coverage', 'planted'].filter((mode) => values[mode]);
  if (unknown.length > 0) fail(`no target is called ${unknown.join(', ')}; there are: ${all.join(', ')}`);
  if (modes.length > 1) fail(`--${modes.join(' and --')} cannot go together`);
  if (numbers.some((text) => !(Number(text) > 0)))
    fail('--minutes, --runs and --seed want a number above zero');
  return { ...values, mode: modes[0] ?? 'run', targets: targets.length > 0 ? targets : all };
}

function fail(sentence) {
  console.error(`fuzz: ${sentence}`);
  process.exit(2);
}

function build(variant, { from = root, only = '' } = {}) {
  const words = [path.join(from, 'scripts/build-native.js'), variant, ...(only ? ['--only', only] : [])];
  const done = spawnSync(process.execPath, words, { cwd: from, stdio: ['ignore', 'ignore', 'inherit'] });
  if (done.status !== 0) process.exit(1);
}

const environment = {
  ...process.env,
  // Runs are short and many: what one freed need not be kept apart for long.
  ASAN_OPTIONS: `quarantine_size_mb=16:malloc_context_size=8:${process.env.ASAN_OPTIONS ?? ''}`,
  ASAN_SYMBOLIZER_PATH: process.env.ASAN_SYMBOLIZER_PATH ?? findOnPath(findLlvm('llvm-symbolizer')),
};

function findOnPath(program) {
  if (program === null) return '';
  return spawnSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).stdout.trim();
}

function wordsFor(target, lengths = longest) {
  const words = [`-max_len=${lengths[target] ?? 4096}`, '-timeout=60', '-rss_limit_mb=4096'];
  if (speaksNbd(target)) words.push(`-dict=${path.join(root, 'native/fuzz/nbd.dict')}`);
  return words;
}

/** Runs a target; gives its exit code, how many runs it made and what it said. */
function runTarget(program, words, { quiet = false } = {}) {
  const done = spawnSync(program, words, {
    cwd: root,
    env: environment,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const said = `${done.stdout ?? ''}${done.stderr ?? ''}`;
  const statistics = [...said.matchAll(/^#(\d+)\s/gm)].map((match) => Number(match[1]));
  const ended = /^Done (\d+) runs/m.exec(said) ?? /number_of_executed_units: (\d+)/.exec(said);
  const covered = [...said.matchAll(/cov: (\d+)/g)].at(-1)?.[1];
  if (!quiet && done.status !== 0) process.stderr.write(said.split('\n').slice(-120).join('\n'));
  return {
    passed: done.status === 0,
    runs: Math.max(Number(ended?.[1] ?? 0), ...statistics, 0),
    covered: Number(covered ?? 0),
    said,
  };
}

const filesIn = (folder) => (existsSync(folder) ? readdirSync(folder) : []);

function once({ targets }) {
  build('fuzz');
  return targets.every((target) => {
    const files = filesIn(corpusOf(target)).map((name) => path.join(corpusOf(target), name));
    const { passed } = runTarget(inBuild(target), [...wordsFor(target), ...files]);
    console.log(`${target}: ${files.length} inputs ${passed ? 'passed' : 'did not pass'}`);
    return passed && files.length > 0;
  });
}

function fuzz({ targets, minutes, runs, seed }) {
  build('fuzz');
  const bound = runs ? [`-runs=${runs}`] : [`-max_total_time=${Math.round(Number(minutes ?? 1) * 60)}`];
  const chosen = seed ?? String(1 + Math.floor(Math.random() * 2 ** 31));
  let passed = true;
  for (const target of targets) {
    const added = inBuild('new', target);
    for (const folder of [added, inBuild('found')]) mkdirSync(folder, { recursive: true });
    const prefix = inBuild('found', `${target}-`);
    const words = [...wordsFor(target), ...bound, `-seed=${chosen}`, `-artifact_prefix=${prefix}`];
    const folders = [added, corpusOf(target), inBuild('seeds', target)].filter(existsSync);
    const result = runTarget(inBuild(target), [...words, '-print_final_stats=1', ...folders]);
    const { length } = filesIn(added);
    console.log(
      `${target}: ${result.runs} runs, ${result.covered} places reached, ${length} inputs added, seed ${chosen}: ` +
        `${result.passed ? 'nothing found' : 'found something, see above'}`,
    );
    passed &&= result.passed;
  }
  return passed;
}

function minimise({ targets }) {
  build('fuzz');
  return targets.every((target) => {
    const merged = inBuild('merged', target);
    rmSync(merged, { recursive: true, force: true });
    mkdirSync(merged, { recursive: true });
    const folders = [corpusOf(target), inBuild('new', target), inBuild('seeds', target)].filter(existsSync);
    const { passed } = runTarget(inBuild(target), [
      '-merge=1',
      ...wordsFor(target, longestKept),
      merged,
      ...folders,
    ]);
    if (!passed) return false;
    rmSync(corpusOf(target), { recursive: true, force: true });
    mkdirSync(path.dirname(corpusOf(target)), { recursive: true });
    renameSync(merged, corpusOf(target));
    console.log(`${target}: ${filesIn(corpusOf(target)).length} inputs kept`);
    return true;
  });
}

/** Prints how many lines the inputs reach, file by file; which ones stands in build/coverage/lines.txt. */
function coverage({ targets }) {
  build('coverage');
  const inCoverage = (name) => path.join(root, 'build/coverage', name);
  const profiles = targets.map((target) => {
    const profile = inCoverage(`${target}.profraw`);
    const words = [...wordsFor(target), '-runs=0', corpusOf(target)];
    const env = { ...environment, LLVM_PROFILE_FILE: profile };
    const done = spawnSync(inCoverage(target), words, { cwd: root, env, stdio: 'ignore' });
    if (done.status !== 0) fail(`${target} does not get through its kept inputs`);
    return profile;
  });
  const merged = inCoverage('all.profdata');
  llvm('llvm-profdata', ['merge', '-o', merged, ...profiles]);
  const [first, ...others] = targets.map(inCoverage);
  const programs = [first, ...others.flatMap((program) => ['-object', program])];
  const words = [`-instr-profile=${merged}`, ...programs, ...['nbd', 'tls', 'plane', 'store'].map(inNative)];
  writeFileSync(inCoverage('lines.txt'), llvm('llvm-cov', ['show', '-show-line-counts', ...words]));
  const [{ files }] = JSON.parse(llvm('llvm-cov', ['export', '-summary-only', ...words])).data;
  for (const { filename, summary } of files) {
    const { covered, count, percent } = summary.lines;
    const share = `${covered} of ${count}`.padStart(12);
    if (count > 0)
      console.log(`${share} ${percent.toFixed(0).padStart(4)} %  ${path.relative(root, filename)}`);
  }
  return files.length > 0;
}

const inNative = (folder) => path.join(root, 'native', folder);

function llvm(tool, words) {
  const program = findLlvm(tool);
  if (program === null) fail(`${tool} is not installed (Debian 12: llvm-14)`);
  const done = spawnSync(program, words, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (done.status !== 0) fail(`${tool} says:\n${done.stderr}`);
  return done.stdout;
}

/** A copy of the tree with one patch in it; what was compiled already is taken along. */
function plant(patch) {
  const tree = path.join(root, 'build/planted', path.basename(patch, '.patch'));
  rmSync(tree, { recursive: true, force: true });
  for (const part of ['native', 'scripts', 'package.json']) {
    cpSync(path.join(root, part), path.join(tree, part), { recursive: true, preserveTimestamps: true });
  }
  const objects = (name) => !/build\/fuzz\/(?!objects)./.test(name);
  cpSync(inBuild(), path.join(tree, 'build/fuzz'), {
    recursive: true,
    preserveTimestamps: true,
    filter: objects,
  });
  const done = spawnSync('patch', ['-p1', '-i', patch], { cwd: tree, encoding: 'utf8' });
  if (done.status !== 0)
    fail(`${path.basename(patch)} does not apply any more:\n${done.stdout}${done.stderr}`);
  return tree;
}

/** The first line of a patch says what is planted, the second which target has to find it: `Target: fuzz_...`. */
function planted({ runs, seed }) {
  build('fuzz');
  const folder = path.join(root, 'native/fuzz/planted');
  const bound = runs ?? '200000';
  let passed = true;
  for (const name of readdirSync(folder).sort()) {
    const patch = path.join(folder, name);
    const target = all.find((one) => name.startsWith(`${one.replace('fuzz_', '')}-`));
    if (!target) fail(`${name} does not begin with the name of its target`);
    const tree = plant(patch);
    build('fuzz', { from: tree, only: target });
    const program = path.join(tree, 'build/fuzz', target);
    const empty = path.join(tree, 'build/fuzz/new');
    mkdirSync(empty, { recursive: true });
    const words = [...wordsFor(target), `-runs=${bound}`, `-seed=${seed ?? 1}`, '-print_final_stats=1'];
    const artifacts = `-artifact_prefix=${path.join(tree, 'build/fuzz/')}`;
    const result = runTarget(program, [...words, artifacts, empty, corpusOf(target)], { quiet: true });
    const how = /^(?:wrong: .*|SUMMARY: .*|.*runtime error: .*)$/m.exec(result.said)?.[0] ?? '';
    console.log(
      `${name}: ${result.passed ? `not found in ${bound} runs` : `found in ${result.runs} runs: ${how}`}`,
    );
    passed &&= !result.passed;
  }
  return passed;
}

const modes = { run: fuzz, once, minimise, coverage, planted };
const options = readArguments();
process.exit(modes[options.mode](options) ? 0 : 1);
