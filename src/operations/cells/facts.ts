// What a host answers of a volume: its record, and what its data say besides.
//
// Invariant: `dirtySinceHead` errs on one side only: where it cannot be told that nothing was written, something was.

import type { Catalog } from '../../catalog/catalog.js';
import type { HostAnswer } from '../../model/cell/answer.js';
import { NO_RECORD } from '../../model/cell/answer.js';
import type { HostRecord } from '../../model/cell/host-record.js';
import type { Head } from '../../model/cell/route.js';
import type { Container, Line } from '../../model/entities.js';
import type { Devices } from '../devices.js';
import { type WrittenPage, writtenPage } from '../written-windows.js';
import type { Lineages } from './lineages.js';

/** Who this host is, for the coordinator. */
export interface HostIdentity {
  host: string;
  cell: string;
}

export class Facts {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #lineages: Lineages;
  readonly #storeId: string;
  readonly #identity: HostIdentity;

  constructor(
    collaborators: { catalog: Catalog; devices: Devices; lineages: Lineages },
    { storeId, identity: { host, cell } }: { storeId: string; identity: HostIdentity },
  ) {
    this.#catalog = collaborators.catalog;
    this.#devices = collaborators.devices;
    this.#lineages = collaborators.lineages;
    this.#storeId = storeId;
    this.#identity = { host, cell };
  }

  /**
   * Of a record that is durable. `inFlight`: a snapshot that is being taken; `isHeld`: the volume is held for one of several: nobody is
   * made to wait for these.
   */
  async answer(
    volume: string,
    record: HostRecord | null,
    {
      seqs,
      inFlight = null,
      isHeld = false,
    }: { seqs: readonly number[]; inFlight?: string | null; isHeld?: boolean },
  ): Promise<HostAnswer> {
    const common = { ...this.#identity, storeId: this.#storeId };
    if (!record || record.state === 'GONE')
      return { ...common, ...NO_RECORD, state: 'NONE', tombstone: record?.tombstone ?? null, replica: null };
    const { state, epoch, head, sealedHead, activatedFrom, released, move, replica } = record;
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
      inFlight,
      replica: replica ? { completeThrough: head } : null,
      dirtySinceHead: inFlight !== null || isHeld || (await this.#isDirty(volume, head)),
      lineage: this.#lineages.idsOf(volume, seqs),
    };
  }

  async #isDirty(volume: string, head: Head | null): Promise<boolean> {
    const container = this.#lineages.containerOf(volume);
    return container !== null && (await this.isDirtySince(container, head));
  }

  /** Whether the current map may say anything that the snapshot does not. */
  async isDirtySince(container: Container, head: Pick<Head, 'id'> | null): Promise<boolean> {
    const line = this.#catalog.lines.get(container.line)!;
    const after = this.#versionOf(container, head);
    if (after === null || (await this.#saysSomething(line, after))) return true;
    const device = this.#devices.current(container.id);
    if (!device) return false;
    // What the data plane has and LevelDB has not.
    await this.#devices.mutexOf(container.id).run(async () => {
      if (this.#devices.byHandle(device.handle) === device && !device.failed)
        await this.#devices.rounding.run(device);
    });
    return device.failed || container.line !== line.id || (await this.#saysSomething(line, after));
  }

  /** The version the current line has had since then; null: it has not continued it all the time, or has another size. */
  #versionOf(container: Container, head: Pick<Head, 'id'> | null): number | null {
    if (head === null) {
      const lines = this.#catalog.linesOf(container.id);
      return lines.length === 1 && lines[0]!.base === null ? 0 : null;
    }
    const snapshot = this.#catalog.snapshots.get(head.id);
    const isThere = snapshot?.line === container.line && snapshot.sizeBytes === container.sizeBytes;
    return isThere ? snapshot.version : null;
  }

  async #saysSomething(line: Line, after: number): Promise<boolean> {
    if (line.cutOffs.some(({ version }) => version > after)) return true;
    for (const { version } of line.versions.filter((live) => live.version > after))
      if (await this.#hasRecords({ line: line.id, version })) return true;
    return false;
  }

  async #hasRecords(at: { line: number; version: number }): Promise<boolean> {
    for (let first: bigint | null = 0n; first !== null; ) {
      const range: { first: bigint; end: null } = { first, end: null };
      const page: WrittenPage = await this.#catalog.queue.read((level) => writtenPage({ level }, at, range));
      if (page.records.length > 0) return true;
      first = page.next;
    }
    return false;
  }
}
