// Leadership that a test gives and takes: the key of a leader in etcd, made and replaced by hand, without any clock.

import { randomBytes } from 'node:crypto';
import type { EtcdClient } from '../../src/coordinator/etcd-client.js';
import type { EtcdKeys, RangeAnswer } from '../../src/coordinator/etcd-keys.js';
import type { FenceSource } from '../../src/coordinator/etcd-store.js';
import type { Fence } from '../../src/coordinator/fenced-writer.js';

const LONG_S = 600;

export class HandFence implements FenceSource {
  fence: Fence | null = null;
  /** Writes have shown that it was deposed. */
  wasDeposed = 0;

  deposed(fence: Fence): void {
    this.wasDeposed++;
    if (this.fence === fence) this.fence = null;
  }

  /** Whoever led before does not any more, and does not know it. */
  async take(client: EtcdClient, keys: EtcdKeys): Promise<this> {
    const lease = `${randomBytes(8).readBigUInt64BE() >> 1n}`;
    await client.ask('/v3/lease/grant', { ID: lease, TTL: `${LONG_S}` });
    await client.ask('/v3/kv/deleterange', { key: keys.key('leader') });
    await client.ask('/v3/kv/txn', {
      compare: [keys.madeAt('leader', '0')],
      success: [keys.put('leader', lease, lease)],
      failure: [],
    });
    const { answer } = await client.ask<RangeAnswer>('/v3/kv/range', { key: keys.key('leader') });
    this.fence = { path: 'leader', createRevision: answer.kvs![0]!.create_revision, lease };
    return this;
  }
}
