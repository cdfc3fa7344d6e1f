// Commands of a coordinator, carried out: judged by the record, then by what is here; done; durable; answered.
//
// Invariants: nothing is done that `judge` refuses, and what it allows is done in the same group as the record that says so; whoever loses
// a volume has let go of its clients before the answer, whoever gets one serves it only after its record is durable.

import type { Catalog, Change } from '../../catalog/catalog.js';
import type { HostCommand, HostRecord, Judgement, Refusal } from '../../model/cell/host-record.js';
import { judge } from '../../model/cell/host-record.js';
import type { Head } from '../../model/cell/route.js';
import { hiddenName } from '../../model/names.js';
import type { SaidOutcome } from '../../protocol/client.js';
import type { Copies } from '../copy/treaty.js';
import type { Attachments } from '../kernel/attachments.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import type { Volumes } from '../volumes.js';
import type { Closing } from './closing.js';
import type { Facts } from './facts.js';
import type { Forks } from './forks.js';
import type { HiddenSnapshots } from './hidden-snapshots.js';
import type { Lineages } from './lineages.js';
import { isOwner } from './lineages.js';
import type { Maps } from './maps.js';
import type { Serial } from './serial.js';
import type { SnapshotDeletes } from './snapshot-deletes.js';
import { untilKnown } from './until-known.js';

export interface CommandCollaborators {
  catalog: Catalog;
  snapshots: Snapshots;
  volumes: Volumes;
  attachments: Attachments;
  lineages: Lineages;
  closing: Closing;
  maps: Maps;
  facts: Facts;
  hidden: HiddenSnapshots;
  forks: Forks;
  deletes: SnapshotDeletes;
  serial: Serial;
  log: Logger;
}

type Of<Verb extends HostCommand['do']> = Extract<HostCommand, { do: Verb }>;

/** Ids are given up in so many at a time. */
const IDS_AT_ONCE = 5000;

export class Commands {
  readonly #with: CommandCollaborators;
  /** What stops before a volume is deleted or served: set when the parts are put together. */
  copies: Pick<Copies, 'stop'> = { stop: async () => undefined };

  constructor(collaborators: CommandCollaborators) {
    this.#with = collaborators;
  }

  async run(volume: string, command: HostCommand): Promise<SaidOutcome> {
    const { catalog, lineages, serial } = this.#with;
    // A copy under way reports in turn with the commands: it is stopped before this one takes its turn.
    if (stopsCopies(command) && judge(volume, lineages.of(volume)?.record ?? null, command).ok)
      await this.copies.stop(volume);
    // A fork becomes another volume, which nobody else may make meanwhile.
    const volumes = command.do === 'keep-fork' ? [volume, command.volume] : [volume];
    return serial.runAll(volumes, () => untilKnown(catalog, () => this.#inTurn(volume, command)));
  }

  async #inTurn(volume: string, command: HostCommand): Promise<SaidOutcome> {
    const { catalog, lineages, log } = this.#with;
    // What an earlier command could not make durable is, before anything is built on it.
    await catalog.barrier();
    const before = lineages.of(volume)?.record ?? null;
    const judged = judge(volume, before, command);
    const refused = refusedBy(judged) ?? this.#refusedByFacts(volume, before, command);
    if (refused) return refused;
    const { already, next } = judged as Extract<Judgement, { ok: true }>;
    if (!already) {
      await this.#carryOut(before, command, next);
      log.info({ volume, command: command.do, state: next.state, epoch: next.epoch }, 'a command was done');
    } else await this.#again(volume, command);
    return { kind: 'done', head: lineages.of(volume)?.record.head ?? null };
  }

  /** What the record cannot know. */
  #refusedByFacts(volume: string, before: HostRecord | null, command: HostCommand): SaidOutcome | null {
    if (command.do === 'snapshot') return refuse('WRONG_STATE', 'a snapshot is an operation, and no command');
    if (command.do === 'staged' && !this.#isHere(command.through))
      return refuse('INCOMPLETE', `the snapshot ${command.through.id} is not here`);
    if (command.do === 'forget-snapshot') {
      const why = this.#with.deletes.whyNot(volume, command.id);
      return why === null ? null : refuse('WRONG_STATE', why);
    }
    if (command.do === 'keep-fork') return this.#with.forks.refused(before!, command);
    if (command.do !== 'activate' && command.do !== 'promote' && command.do !== 'adopt') return null;
    if (before && isOwner(before)) return null;
    if (this.#with.lineages.containerOf(volume) === null)
      return refuse('INCOMPLETE', 'nothing of the volume is here');
    const from = this.#startOf(before!, command);
    return this.#isHere(from) ? null : refuse('INCOMPLETE', `the snapshot ${from?.id} is not here`);
  }

  /** The snapshot that a copy goes on from; null: it goes on from what it has. */
  #startOf(before: HostRecord, command: Of<'activate' | 'promote' | 'adopt'>): Head | null {
    if (command.do === 'activate') return command.from;
    if (command.do === 'promote' || before.replica) return before.head;
    return isCopy(before) ? (before.move?.completeThrough ?? null) : null;
  }

  #isHere(head: Head | null): boolean {
    return head === null || this.#with.catalog.snapshots.has(head.id);
  }

  async #carryOut(before: HostRecord | null, command: HostCommand, next: HostRecord): Promise<void> {
    switch (command.do) {
      case 'seal':
        return this.#seal(command, next);
      case 'fence':
      case 'fault':
        return this.#end(before, next);
      case 'carry':
        return this.#carry(command, next);
      case 'activate':
      case 'promote':
        return this.#own(next, this.#startOf(before!, command));
      case 'adopt':
        return this.#adopt(before!, command, next);
      case 'keep-fork':
        return this.#keepFork(command, next);
      case 'readmit':
      case 'receive':
      case 'replicate':
        await this.#noteAnew(next);
        return this.#restore(next.volume);
      case 'purge':
      case 'delete':
        return this.#delete(next);
      case 'stay-here':
        await this.#note(next);
        return this.#with.hidden.tidy(next.volume);
      case 'outgoing':
      case 'release':
      case 'staged':
      case 'demote':
        return this.#note(next);
      case 'snapshot':
      case 'forget-snapshot':
        throw new Error(`\`${command.do}\` changes no record`);
      default:
        return command satisfies never;
    }
  }

  #note(next: HostRecord): Promise<void> {
    return this.#commit((change) => this.#with.lineages.note(change, next));
  }

  /** What it is from now on has nothing to do with a group of before: nobody may know of that any more, and whoever does has waited for it. */
  #noteAnew(next: HostRecord): Promise<void> {
    return this.#with.hidden.forsake(next.volume, (change) => this.#with.lineages.note(change, next));
  }

  #commit(note: (change: Change) => void): Promise<void> {
    const change = this.#with.catalog.change();
    note(change);
    return change.commit();
  }

  /** What was written last goes into a hidden snapshot, in one group with the record. */
  async #seal({ id }: Of<'seal'>, next: HostRecord): Promise<void> {
    const { lineages, closing, snapshots, hidden } = this.#with;
    const container = lineages.requireContainer(next.volume);
    await closing.run(container, async () => {
      // Only now: a group that held the volume until now may have cut it meanwhile.
      hidden.refuseProvisional(next.volume);
      await snapshots.createLocked([{ volume: container.name, snapshot: hiddenName(id), id }], {
        alongside: (change) => {
          lineages.note(change, next);
          lineages.hide(change, next.volume, [id]);
        },
      });
    });
  }

  /** The next delta of a move, in one group with the record that names it. The one before it is what its changes are told since. */
  async #carry({ id }: Of<'carry'>, next: HostRecord): Promise<void> {
    const { lineages, snapshots, hidden } = this.#with;
    const container = lineages.requireContainer(next.volume);
    await snapshots.create([{ volume: container.name, snapshot: hiddenName(id), id }], {
      check: () => hidden.refuseProvisional(next.volume),
      alongside: (change) => {
        lineages.note(change, next);
        lineages.hide(change, next.volume, [id]);
      },
    });
    await hidden.tidy(next.volume);
  }

  /** The volume is served here no more. */
  async #end(before: HostRecord | null, next: HostRecord): Promise<void> {
    const container = this.#with.lineages.containerOf(next.volume);
    if (!container || !before || !isOwner(before)) return this.#note(next);
    await this.#with.closing.run(container, () => this.#note(next), { mustEnd: true });
  }

  /** It is served from here on, as it was when `from` was taken. */
  async #own(next: HostRecord, from: Head | null): Promise<void> {
    const { catalog, lineages, facts, maps, closing, hidden } = this.#with;
    const container = lineages.requireContainer(next.volume);
    // What was begun to be copied behind it is given up, and is not gone on with later.
    const note = (change: Change): void => lineages.note(change.removeCopy(next.volume), next);
    if (await facts.isDirtySince(container, from)) {
      const snapshot = from && catalog.snapshots.get(from.id)!;
      await maps.goBackTo(container, snapshot, note);
    } else await this.#commit(note);
    closing.restore(container);
    await hidden.tidy(next.volume);
  }

  /** An operator's word: what an owner has, or had, is what it goes on with. Only a copy may have half a delta behind what is complete. */
  async #adopt(before: HostRecord, command: Of<'adopt'>, next: HostRecord): Promise<void> {
    if (isCopy(before)) return this.#own(next, this.#startOf(before, command));
    await this.#noteAnew(next);
    this.#restore(next.volume);
    await this.#with.hidden.tidy(next.volume);
  }

  async #keepFork(command: Of<'keep-fork'>, next: HostRecord): Promise<void> {
    const { attachments, lineages, hidden, forks } = this.#with;
    const container = lineages.requireContainer(next.volume);
    attachments.requireDetached(container);
    // They get other ids, by which attachments name them.
    for (const snapshot of this.#with.catalog.snapshotsOf(container)) attachments.requireDetached(snapshot);
    hidden.refuseProvisional(next.volume);
    await forks.keep(container, next, command);
    this.#restore(command.volume);
    await hidden.tidy(command.volume);
    await this.forgetIds(next.volume);
  }

  /** Of the record nothing is to be done. It may have been interrupted before its clients could come back, or before a snapshot was deleted. */
  async #again(volume: string, command: HostCommand): Promise<void> {
    if (command.do === 'forget-snapshot') return this.#with.deletes.byOthers(volume, command.id);
    if (['activate', 'promote', 'adopt'].includes(command.do)) this.#restore(volume);
    if (command.do === 'keep-fork') this.#restore(command.volume);
  }

  #restore(volume: string): void {
    const container = this.#with.lineages.containerOf(volume);
    if (container) this.#with.closing.restore(container);
  }

  async #delete(next: HostRecord): Promise<void> {
    const { lineages, volumes, attachments, hidden } = this.#with;
    const container = lineages.containerOf(next.volume);
    const note = (change: Change): void => {
      lineages.note(change.removeCopy(next.volume), next, { container: null, hidden: [] });
      hidden.leaveGroups(change, next.volume);
    };
    if (container) {
      attachments.requireDetached(container);
      await volumes.delete(
        container.name,
        {
          withSnapshots: true,
          disconnect: true,
          alongside: note,
        },
        container.kind,
      );
    } else await this.#commit(note);
    await this.forgetIds(next.volume);
  }

  /** Of a volume that is gone. What a stop leaves of them, the next start takes. */
  async forgetIds(volume: string): Promise<void> {
    const { catalog } = this.#with;
    const seqs = catalog.lineages.seqsOf(volume);
    for (let at = 0; at < seqs.length; at += IDS_AT_ONCE) {
      const change = catalog.change();
      for (const seq of seqs.slice(at, at + IDS_AT_ONCE)) change.removeLineageId(volume, seq);
      await change.commit();
    }
  }

  /** For who finds by itself that a volume may not be served here. Takes its turn. */
  fault(volume: string): Promise<SaidOutcome> {
    return this.run(volume, { do: 'fault' });
  }
}

function stopsCopies(command: HostCommand): boolean {
  return ['purge', 'delete', 'promote', 'activate', 'adopt', 'fault'].includes(command.do);
}

/** Whether what is here is a copy of what another host has, and may end in the middle of a delta. */
function isCopy({ state, faultedFrom }: HostRecord): boolean {
  return ['STAGED', 'RECEIVING'].includes(faultedFrom ?? state);
}

function refuse(refusal: Refusal, because: string): SaidOutcome {
  return { kind: 'refused', refusal, because };
}

export function refusedBy(judged: Judgement): SaidOutcome | null {
  return judged.ok ? null : refuse(judged.refusal, judged.because);
}
