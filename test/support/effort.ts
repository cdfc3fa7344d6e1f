// How much of what is random, violent or large a run does: `npm run test:quick`, `npm test` or `npm run test:long`.

export type Effort = 'quick' | 'normal' | 'long';

function chosen(): Effort {
  const given = process.env.CELLBLOCK_TEST_EFFORT;
  return given === 'quick' || given === 'long' ? given : 'normal';
}

export const effort: Effort = chosen();

/** The number for this run. */
export function byEffort(numbers: Record<Effort, number>): number {
  return numbers[effort];
}

/** Why a test is left out of a quick run, or false. */
export const tooLongForQuick: string | false = effort === 'quick' && 'left out of a quick run';
