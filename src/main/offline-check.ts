// `cellblock store check --store DIR`: the check of the operations, on a store that no agent has open.

import { CellblockError } from '../base/errors.js';
import type { OfflineCheck } from '../commands/check-command.js';

export const checkOffline: OfflineCheck = async (directory) => {
  throw new CellblockError('internal', `The store ${directory} cannot be checked without an agent yet.`, {
    hint: 'Start cellblockd on it and use `cellblock store check`.',
  });
};
