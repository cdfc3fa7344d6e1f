// Connects the control API's questions about the inside of the store to the operations that answer them.

import { differencePage } from '../agent/difference.js';
import type { Inspection } from '../agent/inspection.js';
import { CellblockError } from '../base/errors.js';
import type { Operations } from '../operations/operations.js';

export function inspectionOf(operations: Operations): Inspection {
  const missing = async (): Promise<never> => {
    throw new CellblockError('internal', 'This is not connected yet.', { hint: 'Wait for the operations.' });
  };
  return { diff: (question) => differencePage(operations, question), space: missing, check: missing };
}
