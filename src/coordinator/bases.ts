// Snapshots of other volumes that are brought along with a move, because those of the moved volume continue them (`--with-bases`): only differences
// are sent then. The host of the destination gets them as those of a replica, which serves nobody, and gives them back when they are not needed.
//
// Invariants: each is brought with the chain before it, oldest first, so what is there of a lineage is a beginning of it. A base is brought and
// purged only while its volume is held, and only at a host that its route does not name: there the route says what becomes of it, and it is only
// waited for. As long as a move needs it its record stays: the copy of that move never begins without it.

import { isOnLineage } from '../model/cell/answer.js';
import type { Route } from '../model/cell/route.js';
import { askHost } from './asking.js';
import type { Copies } from './copies.js';
import { newPlace, whyNoCopy } from './hosts-view.js';
import type { Ports } from './ports.js';
import { hostsOf } from './route-book.js';
import type { BaseRecord, Change } from './store.js';
import { AGAIN, type Next, REST, soonest } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type BasesParts = Pick<Ports, 'hosts' | 'store' | 'clock' | 'settings'> & {
  copies: Copies;
  wake: (volume: string) => void;
};

export class Bases {
  readonly #parts: BasesParts;
  /** By volume and host. */
  readonly #records = new Map<string, BaseRecord>();
  /** Moves whose records are stored, and whose journal is about to be. */
  readonly #beginning = new Set<string>();

  constructor(parts: BasesParts) {
    this.#parts = parts;
  }

  /** What another leader has left. Volumes that something is to be done about. */
  async takeUp(): Promise<string[]> {
    const records = await this.#parts.store.list('base');
    for (const record of records) this.#records.set(keyOf(record), record);
    return records.map(({ volume }) => volume);
  }

  /** What has to be stored before the move begins that needs these. They count from then on; one that is there already goes on, for both. */
  begin(move: string, records: readonly BaseRecord[]): Change[] {
    this.#beginning.add(move);
    return records.map((record) => {
      const before = this.#records.get(keyOf(record));
      const isFurther = before !== undefined && before.through.seq >= record.through.seq;
      return this.#put({
        ...record,
        ...(isFurther ? { through: before.through, complete: before.complete, from: before.from } : {}),
        needed: [...(before?.needed ?? []), ...record.needed],
      });
    });
  }

  /** Volumes that something was brought of for a move. */
  neededBy(move: string): string[] {
    return [...this.#records.values()]
      .filter(({ needed }) => needed.some((by) => by.move === move))
      .map(({ volume }) => volume);
  }

  /** The journal of the move is stored, or never will be. */
  begun(move: string): void {
    this.#beginning.delete(move);
  }

  /** What of the volume is at hosts for others, or is brought there. */
  of(volume: string): readonly BaseRecord[] {
    return [...this.#records.values()].filter((record) => record.volume === volume);
  }

  /** Of all volumes, at this host. */
  at(host: string): readonly BaseRecord[] {
    return [...this.#records.values()].filter((record) => record.host === host);
  }

  /** Hosts that have a beginning of the volume for others. */
  hostsOf(volume: string): string[] {
    return this.of(volume).map(({ host }) => host);
  }

  /** Whether a move that is under way brings, or waits for, anything of the volume. */
  async isNeeded(volume: string): Promise<boolean> {
    for (const record of this.of(volume)) if ((await this.need(record)).isUnderWay) return true;
    return false;
  }

  /** Whether a move that is under way needs it, and else for how long it is kept. */
  async need({ needed }: BaseRecord): Promise<{ isUnderWay: boolean; keptMs: number }> {
    const { store, settings, clock } = this.#parts;
    let keptMs = 0;
    for (const { volume, move } of needed) {
      if (this.#beginning.has(move)) return { isUnderWay: true, keptMs: 0 };
      const last = await store.get('move', volume);
      if (last?.move !== move) continue;
      // The journal says whether it is under way; the record may not have heard of its end.
      const journal = (await store.route(volume))?.journal ?? null;
      if (journal?.move === move) return { isUnderWay: true, keptMs: 0 };
      if (last.result === 'moved')
        keptMs = Math.max(keptMs, Date.parse(last.ended!) + settings.graceMs - clock.now().clockMs);
    }
    return { isUnderWay: false, keptMs };
  }

  /** Why the copy of a move cannot begin; null: everything is there that was to be brought along. */
  whyNot(move: string): Why | null {
    const missing = [...this.#records.values()].find(
      ({ complete, needed }) => !complete && needed.some((by) => by.move === move),
    );
    if (!missing) return null;
    return {
      because: `What its snapshots continue of volume ${missing.name} is brought to host ${missing.host} first.`,
      hint: `Look at \`cellblock route show ${missing.name}\` for what stands in the way of that, if it takes long.`,
    };
  }

  /** By whoever holds the volume whose snapshots are bases. */
  async step(route: Route): Promise<Next> {
    const all: Next[] = [];
    for (const record of this.of(route.volume)) all.push(await this.#tend(route, record));
    return all.length === 0 ? REST : soonest(all);
  }

  /** Nobody needs what the host has of the volume: it is not kept until the time of grace is over. */
  giveUp(volume: string, host: string): Change[] {
    return this.of(volume)
      .filter((record) => record.host === host)
      .map((record) => this.#put({ ...record, needed: [] }));
  }

  /** It was purged by somebody else. */
  forgetAt(volume: string, host: string): Change[] {
    return this.of(volume)
      .filter((record) => record.host === host)
      .map((record) => this.#drop(record));
  }

  /** The volume is no more. */
  forget(volume: string): Change[] {
    return this.of(volume).map((record) => this.#drop(record));
  }

  async #tend(route: Route, record: BaseRecord): Promise<Next> {
    const isInRoute = hostsOf(route).includes(record.host);
    const { isUnderWay, keptMs } = await this.need(record);
    if (isInRoute) return this.#follow(route, record, isUnderWay);
    if (isUnderWay) return this.#bring(route, record);
    return keptMs > 0
      ? { do: 'wait', milliseconds: keptMs, hosts: [], why: null }
      : this.#purge(route.volume, record);
  }

  /** The host has a part of the volume by its route: what was brought is the beginning of that copy, and no replica any more, which would not speak for its cell. */
  async #follow(route: Route, record: BaseRecord, isUnderWay: boolean): Promise<Next> {
    const { settings, store } = this.#parts;
    const { volume, journal } = route;
    const { host, through } = record;
    const answer = await askHost(this.#parts, host, { volume, seqs: [through.seq] });
    if (!answer) return { do: 'retry', hosts: [host], why: whySilent(host) };
    if (journal?.toHost === host && answer.replica)
      return this.#command(volume, host, { do: 'receive', move: journal.move, peerCell: journal.from });
    if (!isUnderWay) {
      await store.put([this.#drop(record)]);
      return AGAIN;
    }
    if (record.complete) return REST;
    if (isOnLineage(through, answer, through.seq) === true) return this.#complete(record);
    return { do: 'wait', milliseconds: settings.copyPollMs, hosts: [host], why: null };
  }

  async #complete(record: BaseRecord): Promise<Next> {
    const { store, wake } = this.#parts;
    await store.put([this.#put({ ...record, complete: true })]);
    for (const by of record.needed) wake(by.volume);
    for (const other of this.#records.values()) if (other.behind.includes(record.volume)) wake(other.volume);
    return AGAIN;
  }

  async #bring(route: Route, record: BaseRecord): Promise<Next> {
    const { copies, settings, store } = this.#parts;
    const { volume, host, from, through, behind } = record;
    const hosts = [host, from.host];
    const first = behind.find(
      (other) => this.#records.get(keyOf({ volume: other, host }))?.complete === false,
    );
    if (first !== undefined) return { do: 'wait', milliseconds: settings.copyPollMs, hosts, why: null };
    const answer = await askHost(this.#parts, host, { volume, seqs: [through.seq] });
    if (!answer) return { do: 'retry', hosts, why: whySilent(host) };
    if (!answer.replica) {
      const heldBack = await whyNoCopy(this.#parts, host);
      if (heldBack) return { do: 'retry', hosts, why: heldBack };
      return this.#command(volume, host, { do: 'replicate', epoch: Math.max(route.epoch, 1) });
    }
    const { completeThrough } = answer.replica;
    if (isOnLineage(through, answer, completeThrough?.seq ?? 0)) {
      copies.end(volume, host);
      return record.complete ? REST : this.#complete(record);
    }
    // It had come with the move of its own volume, which was turned back.
    if (record.complete) await store.put([this.#put({ ...record, complete: false })]);
    await copies.want({
      volume,
      move: null,
      from: newPlace({ ...from, storeId: '' }),
      to: host,
      after: completeThrough,
      through,
    });
    return { do: 'wait', milliseconds: settings.copyPollMs, hosts, why: copies.why(volume, host) };
  }

  /** Nobody needs it: what continues it at its host keeps the data by itself. */
  async #purge(volume: string, record: BaseRecord): Promise<Next> {
    const { copies, store } = this.#parts;
    const { host } = record;
    copies.end(volume, host);
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) return { do: 'retry', hosts: [host], why: whySilent(host) };
    if (answer.replica) return this.#command(volume, host, { do: 'purge' });
    await store.put([this.#drop(record)]);
    return AGAIN;
  }

  async #command(
    volume: string,
    host: string,
    command:
      | { do: 'purge' }
      | { do: 'replicate'; epoch: number }
      | { do: 'receive'; move: string; peerCell: string },
  ): Promise<Next> {
    const { hosts, settings } = this.#parts;
    const outcome = await hosts.command(host, { volume, command }, settings.commandMs);
    if (outcome.kind === 'done') return AGAIN;
    return { do: 'retry', hosts: [host], why: whyNotDone(host, command.do, outcome) };
  }

  #put(record: BaseRecord): Change {
    this.#records.set(keyOf(record), record);
    return { kind: 'base', key: keyOf(record), value: record };
  }

  #drop(record: BaseRecord): Change {
    this.#records.delete(keyOf(record));
    return { kind: 'base', key: keyOf(record), value: null };
  }
}

const keyOf = ({ volume, host }: Pick<BaseRecord, 'volume' | 'host'>) => `${volume}/${host}`;
