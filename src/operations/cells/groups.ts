// This host's part of a snapshot of several volumes in one instant, over several hosts: quiesce, cut, resume, publish or drop.
//
// Invariants: a cut is provisional: hidden, in no lineage, not the head. With it goes a record, in one group, so that publish and drop find it
// after a restart too; each step may be asked again and gives the same answer. While a volume has a provisional snapshot it gets no other
// one, so what is published is a child of the head it was cut for. What was decided can be done whatever has become of the volume: one that this
// host has lost to another has it in what is left of it here; one that is gone has left the group with its snapshot.

import { asCellblockError, CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import { type HostRecord, type Judgement, judge, published } from '../../model/cell/host-record.js';
import type { Head } from '../../model/cell/route.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { GroupCut, GroupMember } from '../../model/group-cut.js';
import { checkName, hiddenName } from '../../model/names.js';
import type { GroupOutcome, GroupStep, OpenGroup } from '../../protocol/exchange.js';
import { LIMITS } from '../../protocol/limits.js';
import type { Devices } from '../devices.js';
import type { PlaneClient } from '../plane-client.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import type { Gate } from './gate.js';
import { GroupHold, type HeldUntil } from './group-hold.js';
import type { HiddenSnapshots } from './hidden-snapshots.js';
import type { Lineages } from './lineages.js';
import type { Serial } from './serial.js';
import { untilKnown } from './until-known.js';

/** Groups that are over are answered again for so long: so many others have ended since. */
const KEPT = 256;

type Of<Verb extends GroupStep['do']> = Extract<GroupStep, { do: Verb }>;
type Done = Extract<GroupOutcome, { kind: 'done' }>;

interface Ended {
  how: HeldUntil;
  heldMs: number;
}

export interface GroupCollaborators {
  catalog: Catalog;
  devices: Devices;
  client: PlaneClient;
  snapshots: Snapshots;
  lineages: Lineages;
  gate: Gate;
  hidden: HiddenSnapshots;
  serial: Serial;
  log: Logger;
}

interface Publishable {
  member: GroupMember;
  snapshot: Snapshot;
  next: HostRecord;
}

/** Which member is at fault. */
class MemberFault extends Error {
  readonly volume: string;

  constructor(volume: string, cause: unknown) {
    super('a member of a group', { cause });
    this.volume = volume;
  }
}

export class Groups {
  readonly #with: GroupCollaborators;
  readonly #holdLimitMs: number;
  readonly #holds = new Map<string, GroupHold>();
  /** Lately: how the holds of groups ended. */
  readonly #ended = new Map<string, Ended>();
  readonly #turns: Serial;

  constructor(collaborators: GroupCollaborators, options: { holdLimitMs: number; turns: Serial }) {
    this.#with = collaborators;
    this.#holdLimitMs = options.holdLimitMs;
    this.#turns = options.turns;
  }

  /** The steps of one group in the order in which they come. */
  run(group: string, step: GroupStep): Promise<GroupOutcome> {
    return this.#turns.run(group, async () => {
      try {
        return await this.#step(group, step);
      } catch (error) {
        const volume = error instanceof MemberFault ? error.volume : null;
        const { code, message } = asCellblockError(error instanceof MemberFault ? error.cause : error);
        return { kind: 'failed', code, message, volume };
      }
    });
  }

  isHeld(volume: string): boolean {
    const container = this.#with.lineages.containerOf(volume);
    return [...this.#holds.values()].some(
      ({ containers, ended }) => ended === null && container !== null && containers.includes(container),
    );
  }

  /** Cut, and neither published nor dropped; the oldest first, as many as a hello takes. */
  open(): OpenGroup[] {
    const cuts = [...this.#with.catalog.groupCuts.values()].filter(({ phase }) => phase === 'cut');
    cuts.sort((a, b) => (a.created < b.created ? -1 : 1));
    const open: OpenGroup[] = [];
    let room: number = LIMITS.groupParts;
    for (const { id, parts } of cuts.slice(0, LIMITS.groups)) {
      room -= parts.length;
      if (room < 0) break;
      open.push({ group: id, parts });
    }
    return open;
  }

  /** Clients go on. */
  async stop(): Promise<void> {
    await Promise.all([...this.#holds.values()].map((hold) => hold.end()));
  }

  #step(group: string, step: GroupStep): Promise<GroupOutcome> {
    switch (step.do) {
      case 'quiesce':
        return this.#quiesce(group, step);
      case 'cut':
        return this.#cut(group, step);
      case 'resume':
        return this.#resume(group);
      case 'publish':
        return this.#publish(group);
      case 'drop':
        return this.#drop(group);
    }
  }

  async #quiesce(group: string, { volumes, limitMs }: Of<'quiesce'>): Promise<GroupOutcome> {
    if (this.#holds.has(group) || this.#ended.has(group) || this.#record(group)) return this.#answer(group);
    // One that is named twice is held once.
    const containers = [...new Set(volumes)].map((volume) => this.#servedHere(volume));
    const { devices, client } = this.#with;
    const hold = new GroupHold(devices, client, containers);
    // A client gives up after its own limit, which is above ours.
    const limit = Math.min(limitMs, this.#holdLimitMs);
    await hold.begin({ limitMs: limit, check: () => void volumes.map((volume) => this.#servedHere(volume)) });
    this.#holds.set(group, hold);
    return this.#answer(group);
  }

  #servedHere(volume: string): Container {
    return ofMember(volume, () => {
      const container = this.#with.lineages.requireContainer(volume);
      this.#with.gate.require(container);
      this.#with.hidden.refuseProvisional(volume);
      return container;
    });
  }

  async #cut(group: string, { members, parts }: Of<'cut'>): Promise<GroupOutcome> {
    if (this.#record(group)) return this.#answer(group);
    const hold = this.#holds.get(group);
    if (!hold || hold.ended !== null) throw notHeld(group);
    const wanted = members.map(({ id: snapshot, ...member }): GroupMember => ({ ...member, snapshot }));
    const containers = wanted.map((member) => this.#checked(member, hold));
    const { snapshots } = this.#with;
    const wishes = wanted.map(({ snapshot }, index) => {
      return { volume: containers[index]!.name, snapshot: hiddenName(snapshot), id: snapshot };
    });
    await hold.cut(() =>
      snapshots.createLocked(wishes, {
        alongside: (change) =>
          this.#noteCut(change, { id: group, members: wanted, parts, heldMs: hold.heldMs }),
      }),
    );
    return this.#answer(group);
  }

  /** What is cut could be the next snapshot of its volume, under the name it is to have. */
  #checked(member: GroupMember, hold: GroupHold): Container {
    const { volume, name } = member;
    return ofMember(volume, () => {
      const container = this.#with.lineages.requireContainer(volume);
      if (!hold.containers.includes(container)) throw notHeld(volume);
      checkName(name, 'snapshot');
      if (this.#with.catalog.snapshotNamed(container, name)) throw nameTaken(container, name);
      const record = this.#with.lineages.of(volume)?.record ?? null;
      allowed(judge(volume, record, { do: 'snapshot', ...wishOf(member) }));
      return container;
    });
  }

  #noteCut(change: Change, cut: Pick<GroupCut, 'id' | 'members' | 'parts' | 'heldMs'>): void {
    change.groupCut({ ...cut, phase: 'cut', created: new Date().toISOString() });
    for (const { volume, snapshot } of cut.members) this.#with.lineages.hide(change, volume, [snapshot]);
  }

  async #resume(group: string): Promise<GroupOutcome> {
    await this.#letGo(group);
    return this.#answer(group);
  }

  async #letGo(group: string): Promise<void> {
    const hold = this.#holds.get(group);
    if (!hold) return;
    const how = await hold.end();
    this.#holds.delete(group);
    this.#ended.set(group, { how, heldMs: hold.heldMs });
    for (const old of this.#ended.keys()) {
      if (this.#ended.size <= KEPT) break;
      this.#ended.delete(old);
    }
  }

  async #publish(group: string): Promise<GroupOutcome> {
    await this.#letGo(group);
    const record = this.#record(group);
    if (!record || record.phase === 'published') return this.#answerDurably(group);
    if (record.phase === 'dropped') throw ended(group, 'dropped');
    const { serial, catalog } = this.#with;
    const volumes = record.members.map(({ volume }) => volume);
    await serial.runAll(volumes, () => untilKnown(catalog, () => this.#makeVisible(group)));
    return this.#answer(group);
  }

  async #makeVisible(group: string): Promise<void> {
    const { catalog, lineages } = this.#with;
    await catalog.barrier();
    // A member may have left it until now.
    const record = this.#record(group)!;
    if (record.phase === 'published') return;
    const publishable = record.members.flatMap((member) => this.#publishable(group, member) ?? []);
    const change = catalog.change();
    for (const { member, snapshot, next } of publishable) {
      change.renameSnapshot(snapshot, member.name);
      lineages.note(change, next);
      lineages.append(change, member.volume, next.head!);
    }
    for (const { volume, snapshot } of record.members) lineages.unhide(change, volume, [snapshot]);
    // Nobody is told of a member that is not there.
    this.#over(change, { ...record, members: publishable.map(({ member }) => member) }, 'published');
    await change.commit();
  }

  /** Null: its volume was damaged since. */
  #publishable(group: string, member: GroupMember): Publishable | null {
    const { catalog, lineages, log } = this.#with;
    const { volume, name } = member;
    const snapshot = catalog.snapshots.get(member.snapshot);
    const record = lineages.of(volume)?.record;
    if (!snapshot || !record) {
      log.error({ group, volume, snapshot: member.snapshot }, 'a snapshot that is to be published is gone');
      return null;
    }
    return ofMember(volume, () => {
      const container = catalog.containers.get(snapshot.container)!;
      if (catalog.snapshotNamed(container, name)) throw nameTaken(container, name);
      return { member, snapshot, next: allowed(published(record, wishOf(member))).next };
    });
  }

  async #drop(group: string): Promise<GroupOutcome> {
    await this.#letGo(group);
    const record = this.#record(group);
    if (!record || record.phase === 'dropped') return this.#answerDurably(group);
    if (record.phase === 'published') throw ended(group, 'published');
    const { serial, catalog } = this.#with;
    const volumes = record.members.map(({ volume }) => volume);
    await serial.runAll(volumes, () => untilKnown(catalog, () => this.#remove(group)));
    return this.#answer(group);
  }

  async #remove(group: string): Promise<void> {
    const { catalog, lineages, snapshots } = this.#with;
    await catalog.barrier();
    const record = this.#record(group)!;
    if (record.phase === 'dropped') return;
    const there = record.members.flatMap(({ snapshot }) => catalog.snapshots.get(snapshot) ?? []);
    await snapshots.remove(there, {
      alongside: (change) => {
        for (const { volume, snapshot } of record.members) lineages.unhide(change, volume, [snapshot]);
        this.#over(change, record, 'dropped');
      },
    });
  }

  #over(change: Change, record: GroupCut, phase: 'published' | 'dropped'): void {
    change.groupCut({ ...record, phase });
    const over = [...this.#with.catalog.groupCuts.values()].filter((one) => one.phase !== 'cut');
    over.sort((a, b) => (a.created < b.created ? -1 : 1));
    for (const old of over.slice(0, Math.max(0, over.length - KEPT))) change.removeGroupCut(old);
  }

  #record(group: string): GroupCut | null {
    return this.#with.catalog.groupCuts.get(group) ?? null;
  }

  async #answerDurably(group: string): Promise<Done> {
    await this.#with.catalog.barrier();
    return this.#answer(group);
  }

  #answer(group: string): Done {
    const hold = this.#holds.get(group);
    const ended = this.#ended.get(group);
    const record = this.#record(group);
    const heads = (record?.members ?? []).map((member) => ({ volume: member.volume, head: headOf(member) }));
    // After a restart: clients have gone on, which nobody told them to.
    const afterRestart = record ? ('expired' as const) : ('none' as const);
    const held = hold ? (hold.ended ?? 'held') : (ended?.how ?? afterRestart);
    return { kind: 'done', held, heldMs: hold?.heldMs ?? ended?.heldMs ?? record?.heldMs ?? 0, heads };
  }
}

/** What it is, or will be when it is published. */
function headOf({ parent, snapshot }: GroupMember): Head {
  return { id: snapshot, seq: (parent?.seq ?? 0) + 1 };
}

function wishOf({ epoch, parent, snapshot }: GroupMember): {
  epoch: number;
  id: string;
  parent: string | null;
} {
  return { epoch, id: snapshot, parent: parent?.id ?? null };
}

function allowed(judged: Judgement): Extract<Judgement, { ok: true }> {
  if (judged.ok) return judged;
  throw new CellblockError('group-failed', `${judged.refusal}: ${judged.because}.`, {
    hint: 'Ask the volume again, and take another snapshot.',
  });
}

function ofMember<T>(volume: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw new MemberFault(volume, cause);
  }
}

function notHeld(what: string): CellblockError {
  return new CellblockError('hold-expired', `The clients of ${what} are not held, or not any more.`, {
    hint: 'Begin again with another group.',
  });
}

function nameTaken({ name }: Container, snapshot: string): CellblockError {
  return new CellblockError(
    'snapshot-exists',
    `The volume ${JSON.stringify(name)} already has a snapshot ${JSON.stringify(snapshot)}.`,
    { hint: 'Take another name, or delete that snapshot first.' },
  );
}

function ended(group: string, how: 'published' | 'dropped'): CellblockError {
  return new CellblockError(
    `group-${how}-already`,
    `The snapshot of the group ${group} was ${how} already.`,
    {
      hint: 'Nothing is to be done.',
    },
  );
}
