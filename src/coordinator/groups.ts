// A snapshot of several volumes at several hosts in one instant: all are held, cut while held, let go; and published only if every host held its
// clients until it was let go. So the windows in which they were held overlap, by proof.
//
// Invariants: the decision is durable before any host hears of it, and is told to every host until that has confirmed it, whoever leads by
// then. What was not decided is dropped. While a group is unfinished nothing else is done to its volumes.

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

/** What one host made of a step; a sentence: why it has not done it. */
type Answer = { host: string; said: Said } | { host: string; because: string };

export class Groups {
  readonly #parts: GroupsParts;
  readonly #unfinished = new Map<string, GroupRecord>();
  /** Who has confirmed the decision, by group. */
  readonly #confirmed = new Map<string, Set<string>>();
  readonly #finishing = new Set<string>();

  constructor(parts: GroupsParts) {
    this.#parts = parts;
  }

  /** What was not decided is dropped; what was is carried out. */
  async takeUp(): Promise<void> {
    for (const group of await this.#parts.store.list('group')) {
      const decided: GroupRecord = group.decision === 'open' ? { ...group, decision: 'drop' } : group;
      if (decided !== group) await this.#parts.store.put([changeOf(decided)]);
      this.#unfinished.set(decided.id, decided);
      this.#finish(decided);
    }
  }

  /** Why nothing may be done to the volume. */
  whyHeld(volume: string): Error | null {
    const group = [...this.#unfinished.values()].find(({ members }) =>
      members.some((member) => member.volume === volume),
    );
    if (!group) return null;
    return new CellblockError(
      'group-unfinished',
      'The volume is part of a group whose hosts have not all confirmed it.',
      {
        hint: `Try again when these answer: ${this.#missing(group).join(', ')}.`,
        facts: { group: group.id, retryAfterMs: this.#parts.settings.retryAfterMs },
      },
    );
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
    const heads = await this.#tell(decided);
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
    return this.#result(decided, { answers, heads, unconfirmed });
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
      : { host, because: `${host}: ${outcome.message}` };
  }

  /** Said again it is the same decision, so one of which it is not known whether it was stored is stored again. */
  async #decide(group: GroupRecord): Promise<void> {
    if (this.#unfinished.get(group.id)?.decision === group.decision) return;
    await this.#parts.store.put([changeOf(group)]);
    this.#unfinished.set(group.id, group);
  }

  /** The decision, to whoever has not confirmed it. Gives the heads of what was published now. */
  async #tell(group: GroupRecord): Promise<Map<string, Head>> {
    const heads = new Map<string, Head>();
    const confirmed = this.#confirmed.get(group.id) ?? new Set<string>();
    this.#confirmed.set(group.id, confirmed);
    await Promise.all(
      this.#missing(group).map(async (host) => {
        const answer = await this.#ask(group, host, {
          do: group.decision === 'publish' ? 'publish' : 'drop',
        });
        if (!('said' in answer)) return;
        const published = group.decision === 'publish' ? await this.#published(group, host, answer.said) : [];
        if (published === null) return;
        await this.#note(group, host, published);
        for (const { volume, head } of published) heads.set(volume, head);
        confirmed.add(host);
      }),
    );
    return heads;
  }

  /** What it has published; of a host that knows nothing of the group, what is in its lineages. Null: it cannot be said yet. */
  async #published(
    group: GroupRecord,
    host: string,
    { held, heads }: Said,
  ): Promise<{ volume: string; head: Head }[] | null> {
    if (held !== 'none') return heads;
    const found: { volume: string; head: Head }[] = [];
    for (const { volume, snapshot } of group.members.filter((member) => member.host === host)) {
      const answer = await askHost(this.#parts, host, { volume, seqs: [] });
      if (!answer) return null;
      const seq = Object.entries(answer.lineage).find(([, id]) => id === snapshot)?.[0];
      if (seq !== undefined) found.push({ volume, head: { id: snapshot, seq: Number(seq) } });
      else
        this.#parts.log.error(
          { event: 'group-member-lost', group: group.id, host, volume, snapshot },
          'a host has lost its part of a group that was published elsewhere',
        );
    }
    return found;
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
    this.#finishing.add(group.id);
    void this.#tellUntilDone(group).finally(() => this.#finishing.delete(group.id));
  }

  async #tellUntilDone(group: GroupRecord): Promise<void> {
    const { term, settings, random, log } = this.#parts;
    for (let tries = 1; !term.isOver; tries++) {
      try {
        await this.#decide(group);
        await this.#tell(group);
        if (this.#missing(group).length === 0) return await this.#forget(group);
      } catch (error) {
        if (term.isOver) return;
        log.warn({ event: 'group-not-finished', group: group.id, err: error }, 'a group is not finished yet');
      }
      await term.sleep(backoffMs(settings, tries, random));
    }
  }

  async #forget({ id, members }: GroupRecord): Promise<void> {
    await this.#parts.store.put([{ kind: 'group', key: id, value: null }]);
    this.#unfinished.delete(id);
    this.#confirmed.delete(id);
    for (const { volume } of members) this.#parts.wake(volume);
  }

  async #result(
    group: GroupRecord,
    {
      answers,
      heads,
      unconfirmed,
    }: { answers: readonly Answer[]; heads: ReadonlyMap<string, Head>; unconfirmed: string[] },
  ): Promise<GroupResult> {
    const names = await Promise.all(group.members.map(({ volume }) => this.#parts.book.route(volume)));
    return {
      group: group.id,
      snapshots: group.members.map(({ volume, host, snapshot, name }, at) => ({
        volume: names[at]?.name ?? volume,
        name,
        id: snapshot,
        // Null: its host has not confirmed yet; it will.
        seq: heads.get(volume)?.seq ?? null,
        host,
      })),
      held: answers.flatMap((answer) =>
        'said' in answer ? [{ host: answer.host, milliseconds: answer.said.heldMs }] : [],
      ),
      unconfirmed,
    };
  }
}

const changeOf = (group: GroupRecord): Change => ({ kind: 'group', key: group.id, value: group });

function whyNot(answers: readonly Answer[]): string | null {
  const failed = answers.find((answer) => 'because' in answer);
  return failed && 'because' in failed ? failed.because : null;
}

function whyNotHeld(answers: readonly Answer[]): string | null {
  const early = answers.find((answer) => 'said' in answer && answer.said.held !== 'held');
  return early ? `${early.host} let its clients go on before all had been cut` : null;
}
