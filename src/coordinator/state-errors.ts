// What the stores of a coordinator throw. The code says what became of a write (see the head of store.ts).

import { CellblockError, type ErrorCode } from '../base/errors.js';
import { MOST_BYTES, MOST_CHANGES } from './store.js';

export function notLeader(): CellblockError {
  return new CellblockError('not-leader', 'This coordinator does not lead (any more); nothing was stored.', {
    hint: 'Ask the coordinator that leads.',
  });
}

/** It may have been stored, or not. */
export function uncertain(why: string, cause?: unknown): CellblockError {
  return new CellblockError(
    'coordinator-state-uncertain',
    `Whether the state of the coordinator was stored is not known: ${why}.`,
    { hint: 'Look at the log of the coordinator and at its store; asking again is safe.', cause },
  );
}

/** After every other error it is known that it was not. */
export function mayBeStored(error: unknown): boolean {
  return error instanceof CellblockError && error.code === 'coordinator-state-uncertain';
}

/** Nothing was stored, or could be read. */
export function unreachable(why: string, cause?: unknown): CellblockError {
  return new CellblockError(
    'coordinator-state-unreachable',
    `The state of the coordinator cannot be reached: ${why}.`,
    { hint: 'Check that a majority of the members of etcd runs and can be reached.', cause },
  );
}

export function corrupt(where: string, why: string, cause?: unknown): CellblockError {
  return new CellblockError(
    'coordinator-state-corrupt',
    `The state of the coordinator in ${where} is damaged: ${why}.`,
    {
      hint: 'Restore it from a copy; see docs/coordinator-state.md for what a copy from before may do.',
      cause,
    },
  );
}

export function foreign(where: string): CellblockError {
  return new CellblockError(
    'coordinator-state-foreign',
    `${where} holds other things and is not the state of a coordinator.`,
    { hint: 'Give an empty place, or one that a coordinator made.' },
  );
}

export function newer(where: string, format: number, known: number): CellblockError {
  return new CellblockError(
    'coordinator-state-newer',
    `The state of the coordinator in ${where} has format ${format}; this program knows formats up to ${known}.`,
    { hint: 'Use a newer version of cellblock.', facts: { format, known } },
  );
}

export function tooLarge(what: string): CellblockError {
  return new CellblockError('coordinator-state-too-large', `${what}; nothing was stored.`, {
    hint: `At most ${MOST_CHANGES} records and ${MOST_BYTES} bytes are stored at once.`,
  });
}

export function closed(): CellblockError {
  return new CellblockError('coordinator-state-closed', 'The state of the coordinator is being closed.', {
    hint: 'Try again when the coordinator runs again.',
  });
}

/** Takes a name that is another volume's. */
export function nameTaken(name: string): CellblockError {
  return new CellblockError('volume-exists', `A volume named ${name} exists already.`, {
    hint: 'Choose another name.',
    facts: { name },
  });
}

/** For codes that only one place throws. */
export function stateError(code: ErrorCode, message: string, hint: string, cause?: unknown): CellblockError {
  return new CellblockError(code, message, { hint, ...(cause === undefined ? {} : { cause }) });
}
