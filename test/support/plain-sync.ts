// A sync with nothing asked besides: what tests of syncs begin with.
import type { SyncRequest } from '../../src/operations/sync-operations.js';

export const PLAIN_SYNC: SyncRequest = {
  online: false,
  force: false,
  grow: false,
  safety: true,
  rules: [],
  takeKeys: false,
  guest: false,
};
