// A plan that fails, shortened: what can be left out without the run passing is left out.

import type { Plan } from './plan.js';
import { planOfSeed, type RunResult, runSeed } from './run.js';

/** Of one seed; several turns, until nothing more can be left out. */
export async function shrunk(seed: number, failure: string): Promise<{ plan: Plan; result: RunResult }> {
  const plan = planOfSeed(seed);
  let { actions } = plan;
  let result = await runSeed(seed, { actions });
  for (let size = Math.ceil(actions.length / 2); size >= 1; ) {
    let isShorter = false;
    for (let at = 0; at < actions.length; ) {
      const without = actions.toSpliced(at, size);
      const tried = await runSeed(seed, { actions: without });
      if (tried.failure !== null && kindOf(tried.failure) === kindOf(failure)) {
        actions = without;
        result = tried;
        isShorter = true;
      } else at += size;
    }
    if (size === 1 && !isShorter) break;
    size = isShorter ? Math.min(size, Math.max(1, Math.ceil(actions.length / 2))) : Math.floor(size / 2);
  }
  return { plan: { ...plan, actions }, result };
}

/** Names and numbers aside. */
function kindOf(failure: string): string {
  return failure.replace(/[0-9a-f]{32}|\d+|\b[abc]\b|(east|west)-\d/g, '').slice(0, 60);
}
