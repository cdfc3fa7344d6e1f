// Runs until one fails, with a rule of the product broken: node dist/test/simulation/broken.js RULE SEEDS. The exit code is 0 if one has failed.

import { breakRule } from './mutations.js';

const [, , rule, seeds] = process.argv as unknown as [string, string, string, string];
breakRule(rule);
// Loaded now, and broken.
const { runSeed } = await import('./run.js');
process.exitCode = 1;
for (let seed = 1; seed <= Number(seeds); seed++) {
  const { failure } = await runSeed(seed);
  if (failure === null) continue;
  console.log(`seed ${seed}: ${failure}`);
  process.exitCode = 0;
  break;
}
