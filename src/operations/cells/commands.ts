// Commands of a coordinator, carried out: judged by the record, then by what is here; done; durable; answered.
//
// Invariants: nothing is done that `judge` refuses, and what it allows is done in the same group as the record that says so; whoever loses
// a volume has let go of its clients before the answer, whoever gets one serves it only after its record is durable.

import type { Catalog } from '../../catalog/catalog.js';
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
import type { HiddenSnapshots } from './hidden-snapshots.js';
import type { Lineages } from './lineages.js';
import { isOwner } from './lineages.js';
import type { Maps } from './maps.js';
import type { Serial } from './serial.js';
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
    return serial.run(volume, () => untilKnown(catalog, () => this.#inTurn(volume, command)));
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
    }
    return { kind: 'done', head: lineages.of(volume)?.record.head ?? null };
  }

  /** What the record cannot know. */
  #refusedByFacts(volume: string, before: HostRecord | null, command: HostCommand): SaidOutcome | null {
    if (command.do === 'snapshot') return refuse('WRONG_STATE', 'a snapshot is an operation, and no command');
    if (command.do === 'staged' && !this.#isHere(command.through))
      return refuse('INCOMPLETE', `the snapshot ${command.through.id} is not here`);
    if (command.do !== 'activate' && command.do !== 'promote') return null;
    if (before && isOwner(before)) return null;
    if (this.#with.lineages.containerOf(volume) === null)
      return refuse('INCOMPLETE', 'nothing of the volume is here');
    const from = command.do === 'activate' ? command.from : (before?.head ?? null);
    return this.#isHere(from) ? null : refuse('INCOMPLETE', `the snapshot ${from?.id} is not here`);
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
      case 'activate':
        return this.#own(next, next.activatedFrom);
      case 'promote':
        return this.#own(next, before?.head ?? null);
      case 'readmit':
        return this.#readmit(next);
      case 'receive':
      case 'replicate':
        return this.#receive(next);
      case 'purge':
      case 'delete':
        return this.#delete(next);
      case 'stay-here':
        await this.#note(next);
        return this.#with.hidden.tidy(next.volume);
      default:
        return this.#note(next);
    }
  }

  async #note(next: HostRecord): Promise<void> {
    const change = this.#with.catalog.change();
    this.#with.lineages.note(change, next);
    await change.commit();
  }

  /** What was written last goes into a hidden snapshot, in one group with the record. */
  async #seal({ id }: Of<'seal'>, next: HostRecord): Promise<void> {
    const { lineages, closing, snapshots, hidden } = this.#with;
    const container = lineages.requireContainer(next.volume);
    hidden.refuseProvisional(next.volume);
    await closing.run(container, () =>
      snapshots.createLocked([{ volume: container.name, snapshot: hiddenName(id), id }], {
        alongside: (change) => {
          lineages.note(change, next);
          lineages.hide(change, next.volume, [id]);
        },
      }),
    );
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
    if (await facts.isDirtySince(container, from)) {
      const snapshot = from && catalog.snapshots.get(from.id)!;
      await maps.goBackTo(container, snapshot, (change) => lineages.note(change, next));
    } else await this.#note(next);
    closing.restore(container);
    await hidden.tidy(next.volume);
  }

  async #readmit(next: HostRecord): Promise<void> {
    await this.#note(next);
    this.#restore(next.volume);
  }

  async #receive(next: HostRecord): Promise<void> {
    await this.#note(next);
    this.#restore(next.volume);
  }

  #restore(volume: string): void {
    const container = this.#with.lineages.containerOf(volume);
    if (container) this.#with.closing.restore(container);
  }

  async #delete(next: HostRecord): Promise<void> {
    const { lineages, volumes, attachments } = this.#with;
    const container = lineages.containerOf(next.volume);
    const nothing = { container: null, hidden: [] };
    if (container) {
      attachments.requireDetached(container);
      await volumes.delete(
        container.name,
        {
          withSnapshots: true,
          disconnect: true,
          alongside: (change) => lineages.note(change, next, nothing),
        },
        container.kind,
      );
    } else {
      const change = this.#with.catalog.change();
      lineages.note(change, next, nothing);
      await change.commit();
    }
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
  return ['purge', 'delete', 'promote', 'activate', 'fault'].includes(command.do);
}

function refuse(refusal: Refusal, because: string): SaidOutcome {
  return { kind: 'refused', refusal, because };
}

export function refusedBy(judged: Judgement): SaidOutcome | null {
  return judged.ok ? null : refuse(judged.refusal, judged.because);
}
