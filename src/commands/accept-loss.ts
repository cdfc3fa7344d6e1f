// What would be lost, as the coordinator says it to whoever has not accepted it.

import { CommandError } from './command-error.js';

/** Null: it was done, nothing is lost. Throws what else went wrong. */
export async function askOrLoss(ask: () => Promise<unknown>): Promise<string | null> {
  try {
    await ask();
    return null;
  } catch (error) {
    if (error instanceof CommandError && error.code === 'loss-not-accepted') return error.message;
    throw error;
  }
}
