// Operations on a volume by its owner: snapshots, those a coordinator asks for and those somebody takes here; resizes and deletes.
//
// Invariant: a snapshot is a child of the head the record has, under the record's epoch (I2), and becomes the head in the same group that
// lists it; asked for again under the same id it is the same snapshot, however many were taken since, and also when it was deleted.

import { CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import type { HostRecord, Judgement } from '../../model/cell/host-record.js';
import { judge } from '../../model/cell/host-record.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';
import type { Performed, SaidOutcome } from '../../protocol/client.js';
import type { PerformedOperation } from '../../protocol/exchange.js';
import { requireContainer } from '../lookup.js';
import type { Snapshots, SnapshotWish } from '../snapshots.js';
import { type Commands, refusedBy } from './commands.js';
import type { Gate } from './gate.js';
import type { HiddenSnapshots } from './hidden-snapshots.js';
import { isOwner, type Lineages } from './lineages.js';
import type { Serial } from './serial.js';
import type { SnapshotDeletes } from './snapshot-deletes.js';
import { untilKnown } from './until-known.js';

interface Asked<Kind extends PerformedOperation['kind']> extends Omit<Performed, 'operation'> {
  operation: Extract<PerformedOperation, { kind: Kind }>;
}

/** A snapshot that is being taken, and the record that counts until it is durable. */
interface InFlight {
  id: string;
  record: HostRecord;
}

export type Resize = (container: Container, sizeBytes: bigint) => Promise<void>;

export class Performing {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #lineages: Lineages;
  readonly #gate: Gate;
  readonly #hidden: HiddenSnapshots;
  readonly #commands: Commands;
  readonly #deletes: SnapshotDeletes;
  readonly #serial: Serial;
  readonly #inFlight = new Map<string, InFlight>();
  /** With what hangs on a volume's size: set when the parts are put together. */
  resize: Resize = async () => undefined;
  /** Told of snapshots that no coordinator has asked for. */
  onLocal: (record: HostRecord) => void = () => undefined;

  constructor(collaborators: {
    catalog: Catalog;
    snapshots: Snapshots;
    lineages: Lineages;
    gate: Gate;
    hidden: HiddenSnapshots;
    commands: Commands;
    deletes: SnapshotDeletes;
    serial: Serial;
  }) {
    this.#catalog = collaborators.catalog;
    this.#snapshots = collaborators.snapshots;
    this.#lineages = collaborators.lineages;
    this.#gate = collaborators.gate;
    this.#hidden = collaborators.hidden;
    this.#commands = collaborators.commands;
    this.#deletes = collaborators.deletes;
    this.#serial = collaborators.serial;
  }

  inFlight(volume: string): InFlight | null {
    return this.#inFlight.get(volume) ?? null;
  }

  async run(asked: Performed): Promise<SaidOutcome> {
    const { volume, epoch, operation } = asked;
    if (operation.kind === 'delete') return this.#commands.run(volume, { do: 'delete', epoch });
    return this.#serial.run(volume, () =>
      untilKnown(this.#catalog, () => {
        if (operation.kind === 'snapshot') return this.#snapshot({ ...asked, operation });
        return operation.kind === 'resize'
          ? this.#resized({ ...asked, operation })
          : this.#deleted({ ...asked, operation });
      }),
    );
  }

  async #snapshot({ volume, epoch, parent, operation }: Asked<'snapshot'>): Promise<SaidOutcome> {
    await this.#catalog.barrier();
    const before = this.#lineages.of(volume)?.record ?? null;
    const { id, name } = operation;
    const judged = judge(volume, before, { do: 'snapshot', epoch, id, parent: parent?.id ?? null });
    const refused = refusedBy(judged);
    if (refused) return refused;
    const { already, next } = judged as Extract<Judgement, { ok: true }>;
    if (already) return { kind: 'done', head: next.head };
    // Taken before, and others since, here or by the owner of then: never again under this id, also when it was deleted.
    const seq = this.#lineages.seqOf(volume, id);
    if (seq !== null) return { kind: 'done', head: { id, seq } };
    const container = this.#lineages.requireContainer(volume);
    await this.#take([{ wish: { volume: container.name, snapshot: name, id }, before: before!, next }], null);
    return { kind: 'done', head: next.head };
  }

  /** All in one instant. */
  async #take(
    members: readonly { wish: SnapshotWish; before: HostRecord | null; next: HostRecord | null }[],
    expires: string | null,
  ): Promise<Snapshot[]> {
    for (const { wish, before, next } of members)
      if (before && next) this.#inFlight.set(next.volume, { id: wish.id!, record: before });
    try {
      return await this.#snapshots.create(
        members.map(({ wish }) => wish),
        {
          expires,
          // Only now: a group that held the volume until now may have cut it meanwhile.
          check: () => {
            for (const { wish } of members) this.#refuseProvisional(wish);
          },
          // Those of volumes that are in no cell wait for nothing.
          alongside: (change) => {
            const heads = members.flatMap(({ wish, next }) => next ?? this.#claimedMeanwhile(wish) ?? []);
            for (const head of heads) this.#noteHead(change, head);
            return heads.length > 0;
          },
        },
      );
    } finally {
      for (const { next } of members) if (next) this.#inFlight.delete(next.volume);
    }
  }

  #refuseProvisional({ volume }: SnapshotWish): void {
    const lineage = this.#routed(volume);
    if (lineage) this.#hidden.refuseProvisional(lineage.record.volume);
  }

  #noteHead(change: Change, next: HostRecord): void {
    this.#lineages.note(change, next);
    this.#lineages.append(change, next.volume, next.head!);
  }

  /** It belonged to no cell when the snapshot was asked for. */
  #claimedMeanwhile({ volume, id }: SnapshotWish): HostRecord | null {
    const record = this.#routed(volume)?.record;
    if (!record) return null;
    return { ...record, head: { id: id!, seq: (record.head?.seq ?? 0) + 1 } };
  }

  /** As its owner and without a coordinator: the seq goes on, and it is told when there is one again. `volume-not-served`, `volume-busy`. */
  async local(
    references: readonly { volume: string; snapshot: string }[],
    { expires = null }: { expires?: string | null },
  ): Promise<Snapshot[]> {
    const routed = references.flatMap(({ volume }) => this.#routed(volume)?.record.volume ?? []);
    return this.#serial.runAll(routed, async () => {
      if (routed.length > 0) await this.#catalog.barrier();
      const members = references.map((reference) => this.#localMember(reference));
      const snapshots = await this.#take(members, expires);
      for (const { next } of members) if (next) this.onLocal(next);
      return snapshots;
    });
  }

  #routed(name: string): Lineage | null {
    const container = this.#catalog.containerNamed(name);
    return container ? this.#lineages.ofContainer(container.id) : null;
  }

  #localMember({ volume, snapshot }: { volume: string; snapshot: string }) {
    const wish = { volume, snapshot, id: this.#snapshots.newId().toString('hex') };
    const before = this.#routed(volume)?.record ?? null;
    if (!before) return { wish, before, next: null };
    this.#gate.require(requireContainer(this.#catalog, volume));
    const { epoch, head } = before;
    const judged = judge(before.volume, before, {
      do: 'snapshot',
      epoch,
      id: wish.id,
      parent: head?.id ?? null,
    });
    if (judged.ok) return { wish, before, next: judged.next };
    throw new CellblockError('volume-not-served', `No snapshot of it can be taken here: ${judged.because}.`, {
      hint: 'See `cellblock volume show`.',
    });
  }

  async #resized({ volume, epoch, operation }: Asked<'resize'>): Promise<SaidOutcome> {
    const owned = await this.#owned(volume, epoch);
    if (!owned.ok) return owned.outcome;
    await this.resize(this.#lineages.requireContainer(volume), BigInt(operation.sizeBytes));
    return { kind: 'done', head: owned.record.head };
  }

  async #deleted({ volume, epoch, operation }: Asked<'snapshot-delete'>): Promise<SaidOutcome> {
    const owned = await this.#owned(volume, epoch);
    if (!owned.ok) return owned.outcome;
    await this.#deletes.byOwner(volume, operation.id);
    return { kind: 'done', head: owned.record.head };
  }

  /** By its owner under this epoch only. */
  async #owned(
    volume: string,
    epoch: number,
  ): Promise<{ ok: true; record: HostRecord } | { ok: false; outcome: SaidOutcome }> {
    await this.#catalog.barrier();
    const record = this.#lineages.of(volume)?.record ?? null;
    const refused = (refusal: 'WRONG_STATE' | 'STALE_EPOCH', because: string) =>
      ({ ok: false, outcome: { kind: 'refused', refusal, because } }) as const;
    if (!record || !isOwner(record))
      return refused('WRONG_STATE', `a volume that is ${record?.state ?? 'NONE'} here is not owned`);
    if (record.epoch !== epoch)
      return refused('STALE_EPOCH', `the epoch here is ${record.epoch}, the operation's ${epoch}`);
    return { ok: true, record };
  }
}
