// Programs that an ordinary run leaves out, and why. A long run (npm run test:long) has them all.
import { effort } from '../support/effort.js';

const LEFT_OUT: Readonly<Record<string, string>> = {
  core_model_test:
    'random histories of the native core: an open finding, CELLBLOCK_SEED=3276235661 (a snapshot reads wrong when requests end in any order)',
};

/** The reason, or false. */
export function isLeftOut(program: string): string | false {
  return effort !== 'long' && (LEFT_OUT[program] ?? false);
}
