// What several coordinators did to the routes of a few volumes while etcd failed under them, and whether it can have happened one after the other.
//
// Every write carries an id of its own and the time of leadership that made it; etcd keeps all revisions, so the whole sequence of what was stored is read
// back and compared with what the writers were told.

import type { EtcdClient } from '../../src/coordinator/etcd-client.js';
import { type EtcdKeys, type RangeAnswer, textOf } from '../../src/coordinator/etcd-keys.js';
import type { Route } from '../../src/model/cell/route.js';

export interface WriteEvent {
  volume: string;
  /** Of this attempt alone. */
  id: string;
  /** What it would be stored as. */
  gen: number;
  sentMs: number;
  endedMs: number;
  outcome: 'stored' | 'refused' | 'unknown';
  /** Where it was refused: the code, or the gen that was there. */
  why: string;
}

export interface ReadEvent {
  volume: string;
  gen: number;
  sentMs: number;
  endedMs: number;
}

export interface StoredRevision {
  gen: number;
  id: string;
  /** Create revision of the key of leadership. */
  reign: bigint;
  revision: bigint;
}

export class CoordinatorHistory {
  readonly writes: WriteEvent[] = [];
  readonly reads: ReadEvent[] = [];

  /** Everything that was ever stored of a volume, oldest first, as etcd has it. */
  async storedOf(client: EtcdClient, keys: EtcdKeys, volume: string): Promise<StoredRevision[]> {
    const stored: StoredRevision[] = [];
    let revision: string | undefined;
    for (;;) {
      const range = { key: keys.key(`route/${volume}`), ...(revision ? { revision } : {}) };
      const { answer } = await client.ask<RangeAnswer>('/v3/kv/range', range);
      const entry = answer.kvs?.[0];
      if (!entry) return stored.reverse();
      const route = JSON.parse(textOf(entry)) as Route;
      const [id, reign] = route.active.primary.split('@') as [string, string];
      stored.push({ gen: route.gen, id, reign: BigInt(reign), revision: BigInt(entry.mod_revision) });
      revision = `${BigInt(entry.mod_revision) - 1n}`;
    }
  }

  /** What cannot be, one sentence each. */
  faultsOf(volume: string, stored: readonly StoredRevision[]): string[] {
    const faults: string[] = [];
    const writes = this.writes.filter((write) => write.volume === volume);
    const byId = new Map(writes.map((write) => [write.id, write]));
    for (const [index, { gen, id, reign }] of stored.entries()) {
      if (gen !== index + 1) faults.push(`gen ${gen} stands in place ${index + 1}`);
      if (index > 0 && reign < stored[index - 1]!.reign) faults.push(`gen ${gen} is of a leader from before`);
      const write = byId.get(id);
      if (!write) faults.push(`nobody has sent what is stored as gen ${gen}`);
      else if (write.outcome === 'refused')
        faults.push(`gen ${gen} is stored and was refused (${write.why})`);
      else if (write.gen !== gen)
        faults.push(`${id} was sent as gen ${write.gen} and is stored as gen ${gen}`);
    }
    const ids = new Set(stored.map(({ id }) => id));
    if (ids.size !== stored.length) faults.push('a write is stored twice');
    for (const { id, gen, outcome } of writes)
      if (outcome === 'stored' && !ids.has(id))
        faults.push(`gen ${gen} of ${id} was acknowledged and is lost`);
    return [...faults, ...this.#orderFaults(volume, writes, stored)];
  }

  /** Who asks after an answer sees at least what was answered, and nobody sees what was not sent yet. */
  #orderFaults(volume: string, writes: WriteEvent[], stored: readonly StoredRevision[]): string[] {
    const faults: string[] = [];
    const reads = this.reads.filter((read) => read.volume === volume);
    const answered = [...writes.filter(({ outcome }) => outcome === 'stored'), ...reads].sort(
      (a, b) => a.endedMs - b.endedMs,
    );
    const sentAt = new Map(writes.map(({ id, sentMs }) => [id, sentMs]));
    let known = 0;
    let next = 0;
    for (const { gen, sentMs, endedMs } of [...reads].sort((a, b) => a.sentMs - b.sentMs)) {
      for (; next < answered.length && answered[next]!.endedMs < sentMs; next++)
        known = Math.max(known, answered[next]!.gen);
      if (gen < known) faults.push(`gen ${gen} was read after gen ${known} was known`);
      const written = stored[gen - 1];
      if (written && (sentAt.get(written.id) ?? 0) > endedMs)
        faults.push(`gen ${gen} was read before it was sent`);
    }
    return faults;
  }
}
