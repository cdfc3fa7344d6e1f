// A host in memory: its records are judged by the product's own rules. The content of a volume is the number of its last write.

import type { HostAnswer } from '../../src/model/cell/answer.js';
import {
  type HostCommand,
  type HostRecord,
  judge,
  newRecord,
  published,
} from '../../src/model/cell/host-record.js';
import type { CommandOutcome } from '../../src/model/cell/resolution.js';
import type { Head } from '../../src/model/cell/route.js';
import type { GroupPart } from '../../src/model/group-cut.js';
import type {
  GroupOutcome,
  GroupStep,
  PerformedOperation,
  Pull,
  SnapshotFacts,
  VolumeDescription,
} from '../../src/protocol/exchange.js';
import type { Hello } from '../../src/protocol/messages.js';

interface Held {
  record: HostRecord;
  name: string;
  content: number;
  writes: number;
  sizeBytes: string;
  /** Hidden ones too, oldest first. */
  snapshots: (SnapshotFacts & { content: number })[];
  /** What it continues, of another volume. */
  base: VolumeDescription['base'];
  /** What a pull has brought so far. */
  replicaThrough: Head | null;
}

interface Group {
  held: boolean;
  expired: boolean;
  cuts: { volume: string; epoch: number; parent: Head | null; id: string; name: string; content: number }[];
  /** As it was told of all hosts. */
  parts: GroupPart[];
  published: { volume: string; head: Head }[] | null;
}

const idOf = (text: string) => Buffer.from(text).toString('hex').padEnd(32, '0').slice(0, 32);

function already(group: string, how: 'published' | 'dropped'): GroupOutcome {
  return {
    kind: 'failed',
    code: `group-${how}-already`,
    message: `${group} was ${how} already`,
    volume: null,
  };
}

export class CellHost {
  readonly name: string;
  readonly cell: string;
  storeId: string;
  boot = 1;
  volumes = new Map<string, Held>();
  /** By name: volumes that no cell knows. */
  locals = new Map<string, { content: number; snapshots: string[] }>();
  groups = new Map<string, Group>();
  /** Ids of groups it has dropped. */
  readonly dropped = new Set<string>();
  /** It does not answer. */
  isSilent = false;
  /** What it has served from its last welcome on. */
  opened: string[] = [];
  /** Commands it was sent, in order. */
  heard: string[] = [];
  /** False: what it pulls does not come. */
  copies = true;
  failing: { code: string; message: string } | null = null;

  constructor(name: string, cell: string) {
    this.name = name;
    this.cell = cell;
    this.storeId = idOf(`store ${name}`);
  }

  /** A backup of it, to be restored. */
  backup(): Pick<CellHost, 'volumes' | 'boot'> {
    return { volumes: structuredClone(this.volumes), boot: this.boot };
  }

  restore({ volumes, boot }: Pick<CellHost, 'volumes' | 'boot'>): void {
    this.volumes = structuredClone(volumes);
    this.boot = boot + 1;
    this.groups.clear();
  }

  facts(): Omit<Hello, 'type' | 'resume'> {
    const volumes = [...this.volumes].map(([id, { record }]) => ({
      id,
      epoch: record.epoch,
      head: record.head,
      state: record.state,
    }));
    const { name, cell, storeId, boot } = this;
    return {
      host: name,
      cell,
      storeId,
      boot,
      nbd: [`tcp:${name}:10809`],
      program: 'test',
      versions: [1],
      volumes,
      groups: [...this.groups].flatMap(([group, { cuts, parts, published }]) =>
        cuts.length > 0 && !published ? { group, parts } : [],
      ),
    };
  }

  /** What an agent does with a welcome: what others are further with is not served. */
  welcomed({
    regressed,
    highest,
  }: {
    regressed: boolean;
    highest: { id: string; epoch: number; seq: number }[];
  }): void {
    for (const [id, held] of this.volumes) {
      const mark = highest.find((each) => each.id === id);
      const { epoch, head, state } = held.record;
      const owns = state === 'ACTIVE' || state === 'OUTGOING';
      const seq = head?.seq ?? 0;
      const isBehind = owns && mark && (mark.epoch > epoch || (mark.epoch === epoch && mark.seq > seq));
      if (regressed || isBehind) this.#judged(id, held, { do: 'fault' });
    }
    this.opened = [...this.volumes.keys()].filter((id) => this.owns(id));
  }

  owns(volume: string): boolean {
    const state = this.volumes.get(volume)?.record.state;
    return state === 'ACTIVE' || state === 'OUTGOING';
  }

  isHeld(volume: string): boolean {
    return [...this.groups.values()].some(
      ({ held, cuts }) => held && cuts.some((cut) => cut.volume === volume),
    );
  }

  /** Whether the write was taken. */
  write(volume: string, number: number): boolean {
    if (!this.owns(volume)) return false;
    const held = this.volumes.get(volume)!;
    held.content = number;
    held.writes += 1;
    return true;
  }

  /** Visible snapshots, oldest first. */
  lineage(volume: string): Held['snapshots'] {
    return (this.volumes.get(volume)?.snapshots ?? []).filter(({ hidden }) => !hidden);
  }

  answer(volume: string): HostAnswer {
    const held = this.volumes.get(volume);
    const common = { host: this.name, cell: this.cell, storeId: this.storeId, inFlight: null };
    if (!held || held.record.state === 'GONE')
      return {
        ...common,
        state: 'NONE',
        epoch: 0,
        lineageHead: null,
        sealedHead: null,
        activatedFrom: null,
        dirtySinceHead: false,
        released: null,
        move: null,
        tombstone: held?.record.tombstone ?? null,
        replica: null,
        lineage: {},
      };
    const { state, epoch, head, sealedHead, activatedFrom, released, move, replica } = held.record;
    return {
      ...common,
      state,
      epoch,
      lineageHead: head,
      sealedHead,
      activatedFrom,
      released,
      move,
      tombstone: null,
      dirtySinceHead: held.content !== (held.snapshots.find(({ id }) => id === head?.id)?.content ?? 0),
      replica: replica ? { completeThrough: held.replicaThrough } : null,
      lineage: Object.fromEntries(this.lineage(volume).map(({ id, seq }) => [seq, id])),
    };
  }

  command(volume: string, command: HostCommand): CommandOutcome {
    this.heard.push(command.do);
    const held = this.volumes.get(volume);
    const judged = judge(volume, held?.record ?? null, command);
    if (!judged.ok) return { kind: 'refused', refusal: judged.refusal, because: judged.because };
    if (command.do === 'forget-snapshot' && held) this.#forget(held, command.id);
    if (judged.already) return { kind: 'done', head: judged.next.head };
    const now: Held = held ?? {
      record: judged.next,
      name: '',
      content: 0,
      writes: 0,
      sizeBytes: '1048576',
      snapshots: [],
      base: null,
      replicaThrough: null,
    };
    if (command.do === 'seal' || command.do === 'carry') this.#hide(now, command.id);
    if (command.do === 'activate' && held?.record.state === 'STAGED' && command.from)
      now.content = now.snapshots.find(({ id }) => id === command.from!.id)!.content;
    if (command.do === 'promote' || (command.do === 'adopt' && held?.record.replica))
      now.content = now.snapshots.at(-1)?.content ?? 0;
    if (command.do === 'keep-fork') this.#keepFork(now, command);
    // As the members of a group leave it with their volume.
    if (['GONE', 'RECEIVING'].includes(judged.next.state))
      for (const group of this.groups.values())
        if (!group.published) group.cuts = group.cuts.filter((cut) => cut.volume !== volume);
    if (judged.next.state === 'GONE') {
      now.snapshots = [];
      now.content = 0;
    }
    now.record = judged.next;
    this.volumes.set(volume, now);
    return { kind: 'done', head: judged.next.head };
  }

  perform(
    volume: string,
    { epoch, parent, operation }: { epoch: number; parent: Head | null; operation: PerformedOperation },
  ): CommandOutcome {
    this.heard.push(operation.kind);
    if (this.failing) return { kind: 'failed', ...this.failing };
    if (operation.kind === 'delete') return this.command(volume, { do: 'delete', epoch });
    const held = this.volumes.get(volume);
    if (operation.kind === 'resize') {
      if (!held || !this.owns(volume))
        return { kind: 'refused', refusal: 'WRONG_STATE', because: 'not the owner' };
      if (held.record.epoch !== epoch)
        return { kind: 'refused', refusal: 'STALE_EPOCH', because: 'another epoch' };
      held.sizeBytes = operation.sizeBytes;
      return { kind: 'done', head: held.record.head };
    }
    if (operation.kind === 'snapshot-delete') {
      if (!held || !this.owns(volume) || held.record.move)
        return { kind: 'refused', refusal: 'WRONG_STATE', because: 'not the owner, or on the move' };
      if (held.record.epoch !== epoch)
        return { kind: 'refused', refusal: 'STALE_EPOCH', because: 'another epoch' };
      if (held.record.head?.id === operation.id)
        return { kind: 'failed', code: 'snapshot-pinned', message: 'It is the last one.' };
      this.#forget(held, operation.id);
      return { kind: 'done', head: held.record.head };
    }
    const { id, name } = operation;
    const judged = judge(volume, held?.record ?? null, {
      do: 'snapshot',
      epoch,
      id,
      parent: parent?.id ?? null,
    });
    if (!judged.ok) return { kind: 'refused', refusal: judged.refusal, because: judged.because };
    if (judged.already) return { kind: 'done', head: judged.next.head };
    if (held!.snapshots.some((each) => each.name === name))
      return { kind: 'failed', code: 'snapshot-exists', message: `Snapshot ${name} exists.` };
    this.#take(held!, { id, name, content: held!.content }, judged.next);
    return { kind: 'done', head: judged.next.head };
  }

  /** Under the id it has, if it has one. */
  claim(volume: string, name: string): { volume: string; answer: HostAnswer } | null {
    const local = this.locals.get(name);
    if (local) {
      this.locals.delete(name);
      const held = this.#newVolume(volume, name, local.content);
      local.snapshots.forEach((id, at) => {
        const head = { id, seq: at + 1 };
        this.#take(held, { id, name: `s${at}`, content: local.content }, { ...held.record, head });
      });
    }
    const its = [...this.volumes].find(([, held]) => held.name === name && held.record.state !== 'GONE')?.[0];
    return its === undefined ? null : { volume: its, answer: this.answer(its) };
  }

  describe(volume: string, after: string | null): VolumeDescription | null {
    const held = this.volumes.get(volume);
    if (!held || held.record.state === 'GONE') return null;
    const from = after === null ? 0 : held.snapshots.findIndex(({ id }) => id === after) + 1;
    if (after !== null && from === 0) return null;
    return {
      name: held.name,
      kind: 'volume',
      sizeBytes: held.sizeBytes,
      attributes: null,
      base: held.base,
      allow: [],
      description: '',
      snapshots: held.snapshots.slice(from).map(({ content: _content, ...facts }) => facts),
      more: false,
    };
  }

  /** Brings everything that the source has; false: it cannot now. */
  pulled(volume: string, { move, through, description }: Pull, source: CellHost): Head | null {
    const held = this.volumes.get(volume);
    const there = source.volumes.get(volume);
    if (!held || !there || through === null || (held.record.move?.id ?? null) !== move) return null;
    const wanted = new Set([...held.snapshots, ...description.snapshots].map(({ id }) => id));
    const brought = there.snapshots.filter(({ id }) => wanted.has(id));
    const upTo = brought.findIndex(({ id }) => id === through.id);
    if (upTo < 0) return null;
    held.snapshots = structuredClone(brought.slice(0, upTo + 1));
    held.name = description.name;
    held.sizeBytes = description.sizeBytes;
    const last = held.snapshots.findLast(({ hidden }) => !hidden);
    const head = last ? { id: last.id, seq: last.seq } : null;
    if (move === null) {
      held.replicaThrough = through;
      held.record = { ...held.record, head };
      return through;
    }
    const judged = judge(volume, held.record, { do: 'staged', move, through, lineageHead: head });
    if (!judged.ok) return null;
    held.record = judged.next;
    return through;
  }

  group(id: string, step: GroupStep): GroupOutcome {
    this.heard.push(step.do);
    const done = (group: Group | undefined): GroupOutcome => ({
      kind: 'done',
      held: !group ? 'none' : group.expired ? 'expired' : 'held',
      heldMs: 1,
      heads: group?.published ?? [],
    });
    const group = this.groups.get(id);
    if (step.do === 'quiesce') {
      const begun: Group = group ?? { held: true, expired: false, cuts: [], parts: [], published: null };
      this.groups.set(id, begun);
      return done(begun);
    }
    if (step.do === 'publish' && this.dropped.has(id)) return already(id, 'dropped');
    if (!group) return done(undefined);
    if (step.do === 'drop' && group.published) return already(id, 'published');
    if (step.do === 'cut') {
      group.parts = step.parts;
      for (const cut of step.members) {
        const held = this.volumes.get(cut.volume);
        const command: HostCommand = {
          do: 'snapshot',
          epoch: cut.epoch,
          id: cut.id,
          parent: cut.parent?.id ?? null,
        };
        const judged = judge(cut.volume, held?.record ?? null, command);
        if (held?.snapshots.some(({ name, id: taken }) => name === cut.name && taken !== cut.id))
          return {
            kind: 'failed',
            code: 'snapshot-exists',
            message: `${cut.name} exists`,
            volume: cut.volume,
          };
        if (!judged.ok)
          return { kind: 'failed', code: judged.refusal, message: judged.because, volume: cut.volume };
        if (!group.cuts.some((each) => each.id === cut.id))
          group.cuts.push({ ...cut, content: held!.content });
      }
      return done(group);
    }
    if (step.do === 'resume') {
      group.held = false;
      return done(group);
    }
    if (step.do === 'publish' && !group.published) {
      group.published = group.cuts.map(({ volume, id: snapshot, epoch, parent, name, content }) => {
        const held = this.volumes.get(volume)!;
        const judged = published(held.record, { epoch, id: snapshot, parent: parent?.id ?? null });
        if (!judged.ok) throw new Error(`${this.name} cannot publish: ${judged.because}`);
        this.#take(held, { id: snapshot, name, content }, judged.next);
        return { volume, head: judged.next.head! };
      });
    }
    const answer = done(group);
    if (step.do === 'drop') {
      this.groups.delete(id);
      this.dropped.add(id);
    }
    return answer;
  }

  #judged(volume: string, held: Held, command: HostCommand): void {
    const judged = judge(volume, held.record, command);
    if (judged.ok) held.record = judged.next;
  }

  #newVolume(volume: string, name: string, content: number): Held {
    const held: Held = {
      record: newRecord(volume),
      name,
      content,
      writes: 0,
      sizeBytes: '1048576',
      snapshots: [],
      base: null,
      replicaThrough: null,
    };
    this.volumes.set(volume, held);
    return held;
  }

  #take(
    held: Held,
    { id, name, content }: { id: string; name: string; content: number },
    next: HostRecord,
  ): void {
    held.record = next;
    held.snapshots.push({
      id,
      seq: next.head!.seq,
      hidden: false,
      name,
      sizeBytes: held.sizeBytes,
      created: '2027-01-01T00:00:00.000Z',
      expires: null,
      base: null,
      content,
    });
  }

  #hide(held: Held, id: string): void {
    held.snapshots.push({
      id,
      seq: held.record.head?.seq ?? 0,
      hidden: true,
      name: `.carry-${id.slice(0, 16)}`,
      sizeBytes: held.sizeBytes,
      created: '2027-01-01T00:00:00.000Z',
      expires: null,
      base: null,
      content: held.content,
    });
  }

  #forget(held: Held, id: string): void {
    held.snapshots = held.snapshots.filter((each) => each.id !== id);
  }

  #keepFork(held: Held, { volume, name }: { volume: string; name: string }): void {
    const kept = this.#newVolume(volume, name, held.content);
    kept.snapshots = held.snapshots
      .filter(({ hidden }) => !hidden)
      // One snapshot belongs to one volume.
      .map((each) => ({ ...structuredClone(each), id: [...each.id].reverse().join('') }));
    const last = kept.snapshots.at(-1);
    kept.record = { ...kept.record, head: last ? { id: last.id, seq: last.seq } : null };
  }
}
