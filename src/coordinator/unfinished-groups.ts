// Snapshots of several volumes that are not over: decided ones, until every host has confirmed it; and those that another leader has left open.
//
// Invariants: the decision is durable before any host hears of it, and is told to every host until that has confirmed it, whoever leads by
// then. What another leader has left open is dropped when all hosts say that they have not published it: else it was decided, and the state of
// the coordinator is older than that. What a host says that came back from a backup confirms nothing before an operator readmits it. Until each has confirmed that still has the place it had, nothing else is done to the volumes of a group.

import { CellblockError } from '../base/errors.js';
import type { Head, Route } from '../model/cell/route.js';
import type { OpenGroup } from '../protocol/exchange.js';
import { backoffMs } from './backoff.js';
import { type GroupHosts, PublishedAlready, type Told } from './group-hosts.js';
import type { Highest } from './highest.js';
import { type Ports, timeOf } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { Settings } from './settings.js';
import type { Change, GroupRecord } from './store.js';
import type { Term } from './term.js';

export type UnfinishedGroupsParts = Ports & {
  book: RouteBook;
  term: Term;
  highest: Highest;
  groupHosts: GroupHosts;
  wake: (volume: string) => void;
};

export class UnfinishedGroups {
  readonly #parts: UnfinishedGroupsParts;
  readonly #unfinished = new Map<string, GroupRecord>();
  /** Who has confirmed the decision, by group. */
  readonly #confirmed = new Map<string, Set<string>>();
  /** Those that are being finished, and what ends their rest. */
  readonly #finishing = new Map<string, () => void>();
  /** What hosts have told of groups that are unfinished at others, by group and host. */
  readonly #later = new Map<string, Map<string, OpenGroup>>();

  constructor(parts: UnfinishedGroupsParts) {
    this.#parts = parts;
  }

  /** What was not decided is dropped; what was is carried out. */
  async takeUp(): Promise<void> {
    for (const group of await this.#parts.store.list('group')) {
      this.#unfinished.set(group.id, group);
      this.#finish(group);
    }
  }

  /**
   * What the host has cut and this coordinator does not know, whose state is older than that: ended as what another leader has left open. Only the
   * volumes of this host wait for it: others that have it open say so themselves, and have their turn when this is over.
   */
  async told(host: string, groups: readonly OpenGroup[]): Promise<void> {
    const { store, clock, log } = this.#parts;
    for (const told of groups) {
      const { group: id, parts } = told;
      const known = this.#unfinished.get(id);
      if (known?.members.some((member) => member.host === host)) continue;
      if (known) {
        this.#later.set(id, new Map(this.#later.get(id)).set(host, told));
        continue;
      }
      const members = parts.filter((part) => part.host === host);
      if (members.length === 0) continue;
      const elsewhere = parts.filter((part) => part.host !== host);
      const group: GroupRecord = { id, members, elsewhere, decision: 'open', begun: timeOf(clock) };
      this.#unfinished.set(id, group);
      log.error(
        { event: 'group-unknown', group: id, host },
        'a host has cut a group that this coordinator does not know: its state is older than that',
      );
      // Whether or not it is known to be stored.
      await store.put([changeOf(group)]).finally(() => this.#finish(group));
    }
  }

  /** Whoever waits for this host tells it now. */
  joined(host: string): void {
    for (const [id, wake] of this.#finishing)
      if (this.#unfinished.get(id)?.members.some((member) => member.host === host)) wake();
  }

  /** An operator says that what the host has is what there is: it is told what was decided, and what it makes of it is believed. `group-unfinished`. */
  async settleAt(host: string): Promise<void> {
    for (const group of [...this.#unfinished.values()]) {
      if (group.decision === 'open' || !this.#missing(group).includes(host)) continue;
      await this.#tell(group, host).catch(() => undefined);
      if (this.#missing(group).includes(host)) throw unfinished(group, [host], this.#parts.settings);
    }
  }

  /** Why nothing may be done to the volume. */
  async whyHeld(volume: string): Promise<Error | null> {
    for (const group of this.#groupsOf(volume)) {
      const awaited = await this.#awaited(group, volume);
      if (awaited.length > 0) return unfinished(group, awaited, this.#parts.settings);
    }
    return null;
  }

  /** Why nobody can say yet what a host has of a volume: it has not confirmed the decision of a group. Null: it can be said. */
  whyAwaited(volume: string, host: string): Error | null {
    const group = this.#groupsOf(volume).find(
      (one) =>
        one.members.some((member) => member.volume === volume && member.host === host) &&
        this.#missing(one).includes(host),
    );
    return group ? unfinished(group, [host], this.#parts.settings) : null;
  }

  /** Volumes that may be held no more, now that this one has another route. */
  heldWith(volume: string): string[] {
    return this.#groupsOf(volume).flatMap(({ members }) => members.map((member) => member.volume));
  }

  #groupsOf(volume: string): GroupRecord[] {
    return [...this.#unfinished.values()].filter(({ members }) =>
      members.some((member) => member.volume === volume),
    );
  }

  /**
   * Whom a volume of the group waits for. One that has lost its place is told too when it is there, which may be never; one that is held back is for
   * an operator, and only its own volumes wait for him.
   */
  async #awaited(group: GroupRecord, volume: string): Promise<string[]> {
    const missing = this.#missing(group);
    if (group.decision === 'open') return missing;
    const { book } = this.#parts;
    const routes = await Promise.all(group.members.map((member) => book.route(member.volume)));
    const isAwaited = await Promise.all(
      missing.map(async (host) => {
        const own = group.members.filter(
          (member, at) => member.host === host && routes[at]?.active.primary === host,
        );
        if (own.length === 0) return false;
        return own.some((member) => member.volume === volume) || !(await isHeldBack(this.#parts, host));
      }),
    );
    return missing.filter((_, at) => isAwaited[at]);
  }

  /** In memory, before anything of it is stored. */
  begin(group: GroupRecord): void {
    this.#unfinished.set(group.id, group);
  }

  /** The decision is told until everybody has confirmed it, whatever has kept its maker from that. */
  goOnWith(group: GroupRecord): void {
    if (this.#unfinished.has(group.id)) this.#finish(group);
  }

  /** Decided, and told once; it goes on by itself for those who have not confirmed it. */
  async conclude(decided: GroupRecord): Promise<{ told: Told; unconfirmed: string[] }> {
    await this.#decide(decided);
    const told = await this.#tell(decided);
    // Before it is forgotten, and with it who has confirmed it.
    const unconfirmed = this.#missing(decided);
    if (unconfirmed.length > 0) this.#finish(decided);
    else await this.#forget(decided);
    return { told, unconfirmed };
  }

  /** Said again it is the same decision, so one of which it is not known whether it was stored is stored again. */
  async #decide(group: GroupRecord): Promise<void> {
    if (this.#unfinished.get(group.id)?.decision === group.decision) return;
    await this.#parts.store.put([changeOf(group)]);
    this.#unfinished.set(group.id, group);
  }

  /** The decision, to whoever has not confirmed it. Gives what became of it now. `believed`: is, although it is held back. */
  async #tell(group: GroupRecord, believed: string | null = null): Promise<Told> {
    const all: Told = { published: [], lost: [] };
    const { groupHosts } = this.#parts;
    const confirmed = this.#confirmed.get(group.id) ?? new Set<string>();
    this.#confirmed.set(group.id, confirmed);
    await Promise.all(
      this.#missing(group).map(async (host) => {
        if (host !== believed && (await isHeldBack(this.#parts, host))) return;
        const answer = await groupHosts.ask(group, host, {
          do: group.decision === 'publish' ? 'publish' : 'drop',
        });
        const told = await groupHosts.madeOf(group, answer);
        if (told === null) return;
        await this.#note(group, host, told.published);
        all.published.push(...told.published);
        all.lost.push(...told.lost);
        confirmed.add(host);
      }),
    );
    return all;
  }

  async #note(
    { members }: GroupRecord,
    host: string,
    published: readonly { volume: string; head: Head }[],
  ): Promise<void> {
    const { book, highest, store, wake } = this.#parts;
    const raised: Change[] = [];
    for (const { volume, head } of published) {
      const { epoch } = members.find((member) => member.volume === volume)!;
      // What a former owner has published is in nobody's lineage but its own: a replica has taken its place meanwhile.
      const isOwner = ({ active }: Route) => active.primary === host && active.epoch === epoch;
      await book.change(volume, (route) =>
        isOwner(route) && (route.lineageHead?.seq ?? 0) < head.seq ? { ...route, lineageHead: head } : null,
      );
      raised.push(...highest.raise(host, [{ id: volume, epoch, head, state: 'ACTIVE' }]));
      wake(volume);
    }
    if (raised.length > 0) await store.put(raised);
  }

  #missing({ id, members }: GroupRecord): string[] {
    const confirmed = this.#confirmed.get(id);
    return [...new Set(members.map(({ host }) => host))].filter((host) => !confirmed?.has(host));
  }

  /** For ever, until all have confirmed. */
  #finish(group: GroupRecord): void {
    if (this.#finishing.has(group.id)) return;
    this.#finishing.set(group.id, () => undefined);
    void this.#tellUntilDone(group).finally(() => {
      this.#finishing.delete(group.id);
      this.#nextOf(group.id);
    });
  }

  /** Whoever has told of it meanwhile has its turn. */
  #nextOf(id: string): void {
    const told = this.#later.get(id);
    this.#later.delete(id);
    // Kept in memory if not in the store: the next leader is told again.
    for (const [host, group] of told ?? [])
      void this.told(host, [group]).catch((error: unknown) =>
        this.#parts.log.warn({ event: 'group-not-stored', host, err: error }, 'a group could not be kept'),
      );
  }

  /** Of a group that another leader has left open: it was decided if anybody has published it, and this coordinator has a state of before. */
  async #foundOut(group: GroupRecord): Promise<GroupRecord> {
    const { book, groupHosts } = this.#parts;
    for (const member of [...group.members, ...(group.elsewhere ?? [])]) {
      const { volume, host } = member;
      const found = await groupHosts.inLineage(member);
      if (found?.head) return this.#asPublished(group, host);
      // One that has lost its place may never answer.
      if (!found && (await book.route(volume))?.active.primary === host)
        throw new Error(`${host} does not say whether it has published its part`);
    }
    return { ...group, decision: 'drop' };
  }

  async #tellUntilDone(begun: GroupRecord): Promise<void> {
    const { term, settings, random, log } = this.#parts;
    let group = begun;
    for (let tries = 1; !term.isOver; tries++) {
      try {
        if (group.decision === 'open') group = await this.#foundOut(group);
        await this.#decide(group);
        await this.#tell(group);
        if (this.#missing(group).length === 0) return await this.#forget(group);
      } catch (error) {
        if (term.isOver) return;
        if (error instanceof PublishedAlready) {
          group = this.#asPublished(group, error.message);
          continue;
        }
        log.warn({ event: 'group-not-finished', group: group.id, err: error }, 'a group is not finished yet');
      }
      const woken = new Promise<void>((resolve) => this.#finishing.set(begun.id, resolve));
      await Promise.race([term.sleep(backoffMs(settings, tries, random)), woken]);
    }
  }

  /** All or none: those that have dropped it are told too, and have lost it. */
  #asPublished(group: GroupRecord, host: string): GroupRecord {
    this.#confirmed.delete(group.id);
    this.#parts.log.error(
      { event: 'group-published-already', group: group.id, host },
      'a group that was to be dropped is published: a host has done so, and the state of this coordinator is older than that',
    );
    return { ...group, decision: 'publish' };
  }

  async #forget({ id, members }: GroupRecord): Promise<void> {
    await this.#parts.store.put([{ kind: 'group', key: id, value: null }]);
    this.#unfinished.delete(id);
    this.#confirmed.delete(id);
    for (const { volume } of members) this.#parts.wake(volume);
  }
}

export const changeOf = (group: GroupRecord): Change => ({ kind: 'group', key: group.id, value: group });

async function isHeldBack({ store }: Pick<Ports, 'store'>, host: string): Promise<boolean> {
  return (await store.get('host', host))?.regressed === true;
}

function unfinished(
  { id }: GroupRecord,
  awaited: readonly string[],
  { retryAfterMs }: Settings,
): CellblockError {
  return new CellblockError(
    'group-unfinished',
    'The volume is part of a group whose hosts have not all confirmed it.',
    {
      hint: `Try again when these answer: ${awaited.join(', ')}. One that is held back has to be readmitted: \`cellblock host readmit\`.`,
      facts: { group: id, retryAfterMs },
    },
  );
}
