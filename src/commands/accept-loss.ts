// What would be lost, as the coordinator says it to whoever has not accepted it.

import { CommandError } from './command-error.js';

/** What was done with nothing lost, or what would be lost. Throws what else went wrong. */
export async function askOrLoss<Value>(
  ask: () => Promise<Value>,
): Promise<{ done: Value; loss: null } | { done: null; loss: string }> {
  try {
    return { done: await ask(), loss: null };
  } catch (error) {
    if (error instanceof CommandError && error.code === 'loss-not-accepted')
      return { done: null, loss: error.message };
    throw error;
  }
}
