// Preloaded into every test file (see .taprc): the programs a test starts run as users start them, without the loader that tap hands to
// each node for its coverage. It more than doubles the start of a process, and tests start thousands.
import processOnSpawn from 'process-on-spawn';

processOnSpawn.addListener((spawned) => {
  const { NODE_OPTIONS: _ours, ...env } = spawned.env;
  spawned.env = env;
});
