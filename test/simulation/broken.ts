// Runs until one fails, with a rule of the product broken: node dist/test/simulation/broken.js RULE SEEDS [FIRST]. The exit code is 0 if one has failed.
// FIRST: the seed to begin with, instead of the one by which the rule is known to be found out.

import { breakRule, MUTATIONS } from './mutations.js';

const [, , rule, seeds, given] = process.argv as unknown as [string, string, string, string, string?];
breakRule(rule);
// Loaded now, and broken.
const { runSeed } = await import('./run.js');
process.exitCode = 1;
const first = Number(given ?? MUTATIONS[rule]!.seed);
for (let seed = first; seed < first + Number(seeds); seed++) {
  const { failure } = await runSeed(seed);
  if (failure === null) continue;
  console.log(`seed ${seed}: ${failure}`);
  process.exitCode = 0;
  break;
}
