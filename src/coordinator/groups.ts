// A snapshot of several volumes at several hosts in one instant: all are held, cut while held, let go; and published only if every host held its
// clients until it was let go. So the windows in which they were held overlap, by proof. What was decided is carried out elsewhere
// (unfinished-groups.ts).
//
// Invariant: before any host is asked it is written down that there is a group.

import { CellblockError } from '../base/errors.js';
import type { Head, Route } from '../model/cell/route.js';
import type { GroupStep } from '../protocol/exchange.js';
import type { Answer, GroupHosts, Member, Told } from './group-hosts.js';
import type { Locks } from './locks.js';
import type { Operations, Performed } from './operations.js';
import { type Ports, timeOf } from './ports.js';
import type { GroupResult } from './results.js';
import type { RouteBook } from './route-book.js';
import type { GroupRecord } from './store.js';
import { changeOf, type UnfinishedGroups } from './unfinished-groups.js';

export type GroupsParts = Ports & {
  book: RouteBook;
  locks: Locks;
  operations: Operations;
  groupHosts: GroupHosts;
  unfinished: UnfinishedGroups;
};

export class Groups {
  readonly #parts: GroupsParts;

  constructor(parts: GroupsParts) {
    this.#parts = parts;
  }

  async create(asked: { route: Route; name: string }[], askedBy: string): Promise<GroupResult> {
    const { locks } = this.#parts;
    return locks.runAll(
      asked.map(({ route }) => route.volume),
      () => this.#createHeld(asked, askedBy),
    );
  }

  async #createHeld(asked: { route: Route; name: string }[], askedBy: string): Promise<GroupResult> {
    const { operations, freshId, store, clock, unfinished } = this.#parts;
    const owners = await Promise.all(
      asked.map(({ route }) => operations.runHeld(route.volume, { kind: 'locate' }, askedBy)),
    );
    const members = asked.map(({ route: { volume }, name }, at): Member => {
      const { host, epoch } = owners[at]!;
      return { volume, host, epoch, snapshot: freshId(), name };
    });
    const group: GroupRecord = { id: freshId(), members, decision: 'open', begun: timeOf(clock) };
    unfinished.begin(group);
    // However it is cut short, it may have been written down, and hosts may hold their clients for it.
    let decided: GroupRecord = { ...group, decision: 'drop' };
    try {
      await store.put([changeOf(group)]);
      const { answers, because } = await this.#hold(group, owners);
      if (because === null) decided = { ...group, decision: 'publish' };
      return await this.#carryOut(decided, answers, because);
    } catch (error) {
      unfinished.goOnWith(decided);
      throw error;
    }
  }

  async #carryOut(
    decided: GroupRecord,
    answers: readonly Answer[],
    because: string | null,
  ): Promise<GroupResult> {
    const { told, unconfirmed } = await this.#parts.unfinished.conclude(decided);
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
            parts: group.members,
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
        this.#parts.groupHosts.ask(
          group,
          host,
          stepOf(group.members.filter((member) => member.host === host)),
        ),
      ),
    );
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

function whyNot(answers: readonly Answer[]): string | null {
  const failed = answers.find((answer) => 'because' in answer);
  return failed && 'because' in failed ? failed.because : null;
}

function whyNotHeld(answers: readonly Answer[]): string | null {
  const early = answers.find((answer) => 'said' in answer && answer.said.held !== 'held');
  return early ? `${early.host} let its clients go on before all had been cut` : null;
}
