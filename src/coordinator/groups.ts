// A snapshot of several volumes at several hosts in one instant: all are held, cut while held, let go; and published only if every host held its
// clients until it was let go. So the windows in which they were held overlap, by proof.
//
// Invariants: the decision is durable before any host hears of it, and is told to every host until that has confirmed it, whoever leads by
// then. What another leader has left open is dropped when all hosts say that they have not published it: else it was decided, and the state of
// the coordinator is older than that. What a host says that came back from a backup confirms nothing before an operator readmits it. Until each has confirmed that still has the place it had, nothing else is done to the volumes of a group.

import { CellblockError } from '../base/errors.js';
import type { Head, Route } from '../model/cell/route.js';
import type { GroupOutcome, GroupStep } from '../protocol/exchange.js';
import { askHost } from './asking.js';
import { backoffMs } from './backoff.js';
import type { Highest } from './highest.js';
import type { Locks } from './locks.js';
import type { Operations, Performed } from './operations.js';
import { type Ports, timeOf } from './ports.js';
import type { GroupResult } from './results.js';
import type { RouteBook } from './route-book.js';
import type { Settings } from './settings.js';
import type { Change, GroupRecord } from './store.js';
import type { Term } from './term.js';

export type GroupsParts = Ports & {
  book: RouteBook;
  locks: Locks;
  term: Term;
  highest: Highest;
  operations: Operations;
  wake: (volume: string) => void;
};

type Member = GroupRecord['members'][number];
type Said = Extract<GroupOutcome, { kind: 'done' }>;

/** What hosts have published of a group; `lost`: volumes that do not have the snapshot, and never will. */
interface Told {
  published: { volume: string; head: Head }[];
  lost: string[];
}

/** What one host made of a step; a sentence: why it has not done it, and the code of that if it says so itself. */
type Answer = { host: string; said: Said } | { host: string; because: string; code?: string };

/** A host has published what is dropped here. */
class PublishedAlready extends Error {}

export class Groups {
  readonly #parts: GroupsParts;
  readonly #unfinished = new Map<string, GroupRecord>();
  /** Who has confirmed the decision, by group. */
  readonly #confirmed = new Map<string, Set<string>>();
  /** Those that are being finished, and what ends their rest. */
  readonly #finishing = new Map<string, () => void>();

  constructor(parts: GroupsParts) {
    this.#parts = parts;
  }

  /** What was not decided is dropped; what was is carried out. */
  async takeUp(): Promise<void> {
    for (const group of await this.#parts.store.list('group')) {
      this.#unfinished.set(group.id, group);
      this.#finish(group);
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

  async create(asked: { route: Route; name: string }[], askedBy: string): Promise<GroupResult> {
    const { locks } = this.#parts;
    return locks.runAll(
      asked.map(({ route }) => route.volume),
      () => this.#createHeld(asked, askedBy),
    );
  }

  async #createHeld(asked: { route: Route; name: string }[], askedBy: string): Promise<GroupResult> {
    const { operations, freshId, store, clock } = this.#parts;
    const owners = await Promise.all(
      asked.map(({ route }) => operations.runHeld(route.volume, { kind: 'locate' }, askedBy)),
    );
    const members = asked.map(({ route: { volume }, name }, at): Member => {
      const { host, epoch } = owners[at]!;
      return { volume, host, epoch, snapshot: freshId(), name };
    });
    const group: GroupRecord = { id: freshId(), members, decision: 'open', begun: timeOf(clock) };
    this.#unfinished.set(group.id, group);
    // However it is cut short, it may have been written down, and hosts may hold their clients for it.
    let decided: GroupRecord = { ...group, decision: 'drop' };
    try {
      await store.put([changeOf(group)]);
      const { answers, because } = await this.#hold(group, owners);
      if (because === null) decided = { ...group, decision: 'publish' };
      return await this.#carryOut(decided, answers, because);
    } catch (error) {
      if (this.#unfinished.has(group.id)) this.#finish(decided);
      throw error;
    }
  }

  async #carryOut(
    decided: GroupRecord,
    answers: readonly Answer[],
    because: string | null,
  ): Promise<GroupResult> {
    await this.#decide(decided);
    const told = await this.#tell(decided);
    // Before it is forgotten, and with it who has confirmed it.
    const unconfirmed = this.#missing(decided);
    if (unconfirmed.length > 0) this.#finish(decided);
    else await this.#forget(decided);
    this.#parts.log.info(
      { event: 'group-decided', group: decided.id, decision: decided.decision, because },
      'a group was decided',
    );
    if (because !== null)
      throw new CellblockError('group-dropped', `No snapshot was taken: ${because}.`, {
        hint: 'Nothing is left of it; try again.',
        facts: { group: decided.id },
      });
    return this.#result(decided, { answers, told, unconfirmed });
  }

  /** From the first host that is held to the last that is let go. `because`: why it has failed. */
  async #hold(
    group: GroupRecord,
    owners: readonly Performed[],
  ): Promise<{ answers: Answer[]; because: string | null }> {
    const { settings } = this.#parts;
    const quiesced = await this.#askAll(group, (members) => ({
      do: 'quiesce',
      volumes: members.map(({ volume }) => volume),
      limitMs: settings.holdMs,
    }));
    const parentOf = (volume: string): Head | null =>
      owners.find(({ route }) => route.volume === volume)!.head;
    const cut =
      whyNot(quiesced) === null
        ? await this.#askAll(group, (members) => ({
            do: 'cut',
            members: members.map(({ volume, epoch, snapshot, name }) => ({
              volume,
              epoch,
              parent: parentOf(volume),
              id: snapshot,
              name,
            })),
          }))
        : null;
    // Let go in any case: who is not goes on by itself.
    const answers = await this.#askAll(group, () => ({ do: 'resume' }));
    const because = whyNot(quiesced) ?? whyNot(cut!) ?? whyNot(answers) ?? whyNotHeld(answers);
    return { answers, because };
  }

  #askAll(group: GroupRecord, stepOf: (members: Member[]) => GroupStep): Promise<Answer[]> {
    const hosts = [...new Set(group.members.map(({ host }) => host))];
    return Promise.all(
      hosts.map((host) =>
        this.#ask(group, host, stepOf(group.members.filter((member) => member.host === host))),
      ),
    );
  }

  async #ask({ id }: GroupRecord, host: string, step: GroupStep): Promise<Answer> {
    const { hosts, settings } = this.#parts;
    if (!hosts.isConnected(host)) return { host, because: `${host} is not connected` };
    const asked = await hosts.group(host, { group: id, step }, settings.commandMs);
    if (asked.kind === 'silent') return { host, because: `${host} does not answer` };
    if (asked.kind === 'failed') return { host, because: `${host}: ${asked.message}` };
    const { outcome } = asked.reply;
    return outcome.kind === 'done'
      ? { host, said: outcome }
      : { host, because: `${host}: ${outcome.message}`, code: outcome.code };
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
    const confirmed = this.#confirmed.get(group.id) ?? new Set<string>();
    this.#confirmed.set(group.id, confirmed);
    await Promise.all(
      this.#missing(group).map(async (host) => {
        if (host !== believed && (await isHeldBack(this.#parts, host))) return;
        const answer = await this.#ask(group, host, {
          do: group.decision === 'publish' ? 'publish' : 'drop',
        });
        const told = await this.#madeOf(group, answer);
        if (told === null) return;
        await this.#note(group, host, told.published);
        all.published.push(...told.published);
        all.lost.push(...told.lost);
        confirmed.add(host);
      }),
    );
    return all;
  }

  /** Null: it has to be asked again. */
  async #madeOf(group: GroupRecord, answer: Answer): Promise<Told | null> {
    const code = 'code' in answer ? answer.code : null;
    if (group.decision === 'drop') {
      if (code === 'group-published-already') throw new PublishedAlready(answer.host);
      return 'said' in answer ? NOTHING : null;
    }
    // By a coordinator that knew less.
    if (code === 'group-dropped-already') return this.#published(group, answer.host, { heads: [] });
    return 'said' in answer ? this.#published(group, answer.host, answer.said) : null;
  }

  /** What it has published; what it does not say is looked for in its lineages. Null: it cannot be said yet. */
  async #published(group: GroupRecord, host: string, { heads }: Pick<Said, 'heads'>): Promise<Told | null> {
    const told: Told = { published: [], lost: [] };
    const lost: { member: Member; because: string }[] = [];
    for (const member of group.members.filter((each) => each.host === host)) {
      const { volume } = member;
      const said = heads.find((each) => each.volume === volume)?.head;
      const found = said ? { head: said } : await this.#inLineage(member);
      if (found === null) return null;
      if (found.head) told.published.push({ volume, head: found.head });
      if (!found.head) lost.push({ member, because: 'its host does not have it any more' });
      else if (await this.#isGivenUp(member)) lost.push({ member, because: 'its host has lost its place' });
    }
    for (const { member, because } of lost) {
      const { volume, snapshot } = member;
      told.lost.push(volume);
      this.#parts.log.error(
        { event: 'group-member-lost', group: group.id, host, volume, snapshot, because },
        'a volume does not have its part of a group that was published',
      );
    }
    return told;
  }

  /** Null: the host does not say; without a head: it is not in its lineage. */
  async #inLineage({ volume, host, snapshot }: Member): Promise<{ head: Head | null } | null> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) return null;
    const seq = Object.entries(answer.lineage).find(([, id]) => id === snapshot)?.[0];
    return { head: seq === undefined ? null : { id: snapshot, seq: Number(seq) } };
  }

  /** Whether an operator lets the volume go on elsewhere, without what this host has of it. */
  async #isGivenUp({ volume, host }: Member): Promise<boolean> {
    const alternate = (await this.#parts.book.route(volume))?.alternate;
    return alternate?.primary === host && alternate.needsRepair;
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
    void this.#tellUntilDone(group).finally(() => this.#finishing.delete(group.id));
  }

  /** Of a group that another leader has left open: it was decided if anybody has published it, and this coordinator has a state of before. */
  async #foundOut(group: GroupRecord): Promise<GroupRecord> {
    const { book } = this.#parts;
    for (const member of group.members) {
      const { volume, host } = member;
      const found = await this.#inLineage(member);
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

  async #result(
    group: GroupRecord,
    { answers, told, unconfirmed }: { answers: readonly Answer[]; told: Told; unconfirmed: string[] },
  ): Promise<GroupResult> {
    const names = await Promise.all(group.members.map(({ volume }) => this.#parts.book.route(volume)));
    return {
      group: group.id,
      snapshots: group.members.map(({ volume, host, snapshot, name }, at) => ({
        volume: names[at]?.name ?? volume,
        name,
        id: snapshot,
        seq: told.published.find((each) => each.volume === volume)?.head.seq ?? null,
        host,
        lost: told.lost.includes(volume),
      })),
      held: answers.flatMap((answer) =>
        'said' in answer ? [{ host: answer.host, milliseconds: answer.said.heldMs }] : [],
      ),
      unconfirmed,
    };
  }
}

const NOTHING: Told = { published: [], lost: [] };

const changeOf = (group: GroupRecord): Change => ({ kind: 'group', key: group.id, value: group });

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

function whyNot(answers: readonly Answer[]): string | null {
  const failed = answers.find((answer) => 'because' in answer);
  return failed && 'because' in failed ? failed.because : null;
}

function whyNotHeld(answers: readonly Answer[]): string | null {
  const early = answers.find((answer) => 'said' in answer && answer.said.held !== 'held');
  return early ? `${early.host} let its clients go on before all had been cut` : null;
}
