// The highest epoch and seq that was ever seen of each volume at each host: a host that says less has come back from an old backup.
//
// Invariant: what is kept of a volume at a host never falls, but by an operator who readmits the host.

import type { VolumeFacts } from './facts.js';
import type { Change, CoordinatorStore, HighestRecord } from './store.js';

type Mark = Pick<HighestRecord, 'epoch' | 'seq'>;

export class Highest {
  readonly #hosts = new Map<string, Map<string, Mark>>();

  static async load(store: CoordinatorStore): Promise<Highest> {
    const highest = new Highest();
    for (const { host, volume, epoch, seq } of await store.list('highest'))
      highest.#of(host).set(volume, { epoch, seq });
    return highest;
  }

  of(host: string): ReadonlyMap<string, Mark> {
    return this.#of(host);
  }

  /** What has to be stored for these to be the highest; it counts as stored at once, since storing too little is only made up for later. */
  raise(host: string, facts: readonly VolumeFacts[]): Change[] {
    const marks = this.#of(host);
    return facts.flatMap(({ id, epoch, head, state }) => {
      // A tombstone of a volume that nobody asks after any more.
      if (state === 'GONE' && !marks.has(id)) return [];
      const mark = { epoch, seq: head?.seq ?? 0 };
      const before = marks.get(id);
      if (before && !isHigher(mark, before)) return [];
      return [this.#put(host, id, mark)];
    });
  }

  /** An operator says that this is how it is. */
  reset(host: string, facts: readonly VolumeFacts[]): Change[] {
    const gone = [...this.#of(host).keys()].filter((id) => !facts.some((fact) => fact.id === id));
    return [
      ...gone.map((id) => this.#drop(host, id)),
      ...facts.map(({ id, epoch, head }) => this.#put(host, id, { epoch, seq: head?.seq ?? 0 })),
    ];
  }

  /** The volume is no more. `hosts`: where it was; said again, since what was to be stored the first time may not have been. */
  forget(volume: string, hosts: readonly string[]): Change[] {
    const others = [...this.#hosts].flatMap(([host, marks]) => (marks.has(volume) ? [host] : []));
    return [...new Set([...hosts, ...others])].map((host) => this.#drop(host, volume));
  }

  /** Why these facts of a whole host are less than it had; null: they are not. */
  whyRegressed(host: string, facts: readonly VolumeFacts[]): string | null {
    const said = new Map(facts.map((fact) => [fact.id, fact]));
    for (const [id, mark] of this.#of(host)) {
      const fact = said.get(id);
      if (!fact) return `it does not know volume ${id}, of which it had epoch ${mark.epoch}`;
      if (isLower(fact, mark))
        return `it says epoch ${fact.epoch} and snapshot ${fact.head?.seq ?? 0} of volume ${id}, and had epoch ${mark.epoch} and snapshot ${mark.seq}`;
    }
    return null;
  }

  #of(host: string): Map<string, Mark> {
    const marks = this.#hosts.get(host) ?? new Map<string, Mark>();
    this.#hosts.set(host, marks);
    return marks;
  }

  #put(host: string, volume: string, mark: Mark): Change {
    this.#of(host).set(volume, mark);
    return { kind: 'highest', key: keyOf(host, volume), value: { host, volume, ...mark } };
  }

  #drop(host: string, volume: string): Change {
    this.#of(host).delete(volume);
    return { kind: 'highest', key: keyOf(host, volume), value: null };
  }
}

const keyOf = (host: string, volume: string) => `${host}/${volume}`;

function isHigher(mark: Mark, than: Mark): boolean {
  return mark.epoch > than.epoch || (mark.epoch === than.epoch && mark.seq > than.seq);
}

/** A copy that is on its way, and what is left of a volume, may have fewer snapshots than the owner it once was; never a lower epoch. */
function isLower({ epoch, head, state }: VolumeFacts, mark: Mark): boolean {
  if (epoch !== mark.epoch) return epoch < mark.epoch;
  return state !== 'RECEIVING' && state !== 'STAGED' && state !== 'GONE' && (head?.seq ?? 0) < mark.seq;
}
