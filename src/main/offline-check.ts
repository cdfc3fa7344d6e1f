// `cellblock store check --store DIR`: the check of the operations, on a store that no agent has open.

import type { OfflineCheck } from '../commands/check-command.js';
import { checkStore } from '../operations/check.js';
import { checkOptions, checkReport } from './inspection.js';

export const checkOffline: OfflineCheck = async (directory, watcher) =>
  checkReport(await checkStore({ directory }, checkOptions(watcher)));
