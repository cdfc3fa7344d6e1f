// Deletes of snapshots that the owner of their volume has carried out, and that other hosts have not confirmed: replicas, what a move has left, and
// beginnings that copies of other volumes continue. They are asked until they do, whoever leads by then; else a volume that moves there would show
// the snapshot again.
//
// Invariant: what is to be deleted elsewhere is stored together with the end of the operation at the owner, so neither is known without the other.

import type { Route } from '../model/cell/route.js';
import type { Bases } from './bases.js';
import { type Ports, timeOf } from './ports.js';
import { hostsOf } from './route-book.js';
import type { Change, SnapshotDeletionRecord } from './store.js';
import { type Next, REST } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type SnapshotDeletionsParts = Pick<Ports, 'hosts' | 'store' | 'clock' | 'settings' | 'log'> & {
  bases: Bases;
};

export class SnapshotDeletions {
  readonly #parts: SnapshotDeletionsParts;
  /** By volume. */
  readonly #unconfirmed = new Map<string, SnapshotDeletionRecord[]>();

  constructor(parts: SnapshotDeletionsParts) {
    this.#parts = parts;
  }

  /** What another leader has left. Volumes that something is to be done about. */
  async takeUp(): Promise<string[]> {
    for (const record of await this.#parts.store.list('snapshot-deletion')) this.#keep(record);
    return [...this.#unconfirmed.keys()];
  }

  /** What has to be stored when the owner has deleted it. It counts from then on. */
  begin(route: Route, { id: snapshot, name }: { id: string; name: string }): Change[] {
    const { volume, active, alternate } = route;
    // What an operator has given up is kept as it is until he says what becomes of it.
    const left = alternate && !alternate.needsRepair && alternate.mustSeal === null;
    const hosts = [
      ...active.replicas,
      ...(left ? [alternate.primary, ...alternate.replicas] : []),
      ...this.#parts.bases.hostsOf(volume).filter((host) => host !== active.primary),
    ];
    if (hosts.length === 0) return [];
    const record = { volume, snapshot, name, begun: timeOf(this.#parts.clock), hosts: [...new Set(hosts)] };
    this.#keep(record);
    return [changeOf(record)];
  }

  of(volume: string): readonly SnapshotDeletionRecord[] {
    return this.#unconfirmed.get(volume) ?? [];
  }

  /** By whoever holds the volume. */
  async step(route: Route): Promise<Next> {
    const whys: Why[] = [];
    const missing = new Set<string>();
    const known = [...hostsOf(route), ...this.#parts.bases.hostsOf(route.volume)];
    for (const record of this.of(route.volume)) {
      const asked = record.hosts.filter((host) => known.includes(host));
      const said = await Promise.all(asked.map((host) => this.#delete(host, record)));
      const hosts = asked.filter((_, at) => said[at] !== null);
      for (const host of hosts) missing.add(host);
      whys.push(...said.filter((why) => why !== null));
      if (hosts.length < record.hosts.length) await this.#confirmed({ ...record, hosts });
    }
    const [why] = whys;
    return why ? { do: 'retry', hosts: [...missing], why } : REST;
  }

  /** The volume is no more. */
  forget(volume: string): Change[] {
    const records = this.of(volume);
    this.#unconfirmed.delete(volume);
    return records.map((record) => changeOf({ ...record, hosts: [] }));
  }

  async #confirmed(record: SnapshotDeletionRecord): Promise<void> {
    await this.#parts.store.put([changeOf(record)]);
    this.#keep(record);
  }

  /** Null: it has confirmed. */
  async #delete(host: string, { volume, snapshot }: SnapshotDeletionRecord): Promise<Why | null> {
    const { hosts, settings, log } = this.#parts;
    if (!hosts.isConnected(host)) return whySilent(host);
    const command = { do: 'forget-snapshot', id: snapshot } as const;
    const outcome = await hosts.command(host, { volume, command }, settings.commandMs);
    if (outcome.kind === 'done') return null;
    // It is the last one of a beginning that nobody needs: that goes as a whole.
    if (outcome.kind === 'refused' && outcome.refusal === 'INCOMPLETE') {
      const changes = this.#parts.bases.giveUp(volume, host);
      if (changes.length > 0) await this.#parts.store.put(changes);
    }
    log.warn(
      { event: 'snapshot-delete-not-confirmed', volume, host, outcome },
      'a host has not deleted a snapshot yet',
    );
    return whyNotDone(host, command.do, outcome);
  }

  #keep(record: SnapshotDeletionRecord): void {
    const others = this.of(record.volume).filter(({ snapshot }) => snapshot !== record.snapshot);
    const now = record.hosts.length === 0 ? others : [...others, record];
    if (now.length > 0) this.#unconfirmed.set(record.volume, now);
    else this.#unconfirmed.delete(record.volume);
  }
}

/** Without hosts nothing is left to be confirmed. */
function changeOf(record: SnapshotDeletionRecord): Change {
  const { volume, snapshot, hosts } = record;
  return {
    kind: 'snapshot-deletion',
    key: `${volume}/${snapshot}`,
    value: hosts.length === 0 ? null : record,
  };
}
