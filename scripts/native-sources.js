// Names the C++ sources of the project from the file system, so that adding a file needs no edit of a list.
// Used by binding.gyp (`node scripts/native-sources.js core`) and by build-native.js.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

const coreFolders = ['base', 'nbd', 'tls', 'io', 'store', 'volume', 'kernel', 'host', 'plane'];

function filesIn(folder, ending) {
  try {
    return readdirSync(path.join(root, folder))
      .filter((name) => name.endsWith(ending))
      .sort()
      .map((name) => `${folder}/${name}`);
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
}

const hasMain = (source) => /^int main\s*\(/m.test(readFileSync(path.join(root, source), 'utf8'));

/** The library without N-API: what the addon and every test program are made of. */
export const coreSources = () => coreFolders.flatMap((folder) => filesIn(`native/${folder}`, '.cc'));
export const bindingSources = () => filesIn('native/binding', '.cc');
/** Test programs: one executable each. */
export const programSources = () => filesIn('native/test', '.cc').filter(hasMain);
/** Makes threads, or reactors, which are some. */
export const hasThreads = (source) =>
  /std::thread|"test\/wire_client\.h"|"plane\/(plane|reactor)\.h"/.test(
    readFileSync(path.join(root, source), 'utf8'),
  );
/** What test programs share: linked into each of them. */
export const testSupportSources = () => filesIn('native/test', '.cc').filter((source) => !hasMain(source));
/** Fuzzing: one program for each target, and what these share. */
export const fuzzTargetSources = () =>
  filesIn('native/fuzz', '.cc').filter((source) => path.basename(source).startsWith('fuzz_'));
export const fuzzSupportSources = () => [
  ...filesIn('native/fuzz', '.cc').filter((source) => !path.basename(source).startsWith('fuzz_')),
  'native/test/tls_peer.cc', // of wire_client.h
];
export const headers = () =>
  [...coreFolders, 'binding', 'test'].flatMap((folder) => filesIn(`native/${folder}`, '.h'));

const lists = {
  core: coreSources,
  binding: bindingSources,
  tests: () => [...programSources(), ...testSupportSources(), ...headers()],
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const list = lists[process.argv[2]];
  if (!list) {
    console.error(`usage: node scripts/native-sources.js ${Object.keys(lists).join('|')}`);
    process.exit(2);
  }
  console.log(list().join('\n'));
}
