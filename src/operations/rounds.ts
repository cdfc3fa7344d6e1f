// Rounds: bring what the data plane has changed into LevelDB. One at a time per container, under its mutex.
//
// Invariants: a round's records go out in order of versions, in batches of which the last stores `applied`; a window's new record
// and the pending punches of what its stored record named are in one batch; nothing of a window's own slot is ever punched from
// here, as it may be written again at any time. A round that failed comes again as a whole.

import { CellblockError } from '../base/errors.js';
import type { Catalog, Change } from '../catalog/catalog.js';
import { hasBelow } from '../model/chain.js';
import { addCutOffs, newestCutOff } from '../model/cut-offs.js';
import type { Container, Line } from '../model/entities.js';
import { windowKey } from '../model/keys.js';
import type { BlockRange } from '../model/punch.js';
import { droppedPlaces, placesOf, slotSet } from '../model/runs.js';
import { fileOfSlot } from '../model/slot.js';
import type { WindowRecord } from '../model/window-record.js';
import { decodeWindowRecord } from '../model/window-record.js';
import type { RoundCutOff, RoundRecord } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RoundAnswer } from './plane-client.js';
import { planeError } from './plane-client.js';
import type { Punches } from './punches.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';
import type { WrittenPage } from './written-windows.js';
import { writtenPage } from './written-windows.js';

const RECORDS_AT_ONCE = 256;
const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 30_000;

/** Records of a deleted version the data plane has just taken over: they go in the round that carries what became of them. */
export interface Adopted {
  line: number;
  version: number;
  windows: Map<bigint, WindowRecord>;
}

export class Rounds {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #punches: Punches;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;
  readonly #wanted = new Map<number, { attempts: number; timer: NodeJS.Timeout | null }>();
  #stopped = false;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    punches: Punches,
    log: Logger,
    options: { blocksPerWindow: number },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#punches = punches;
    this.#log = log;
    this.#blocksPerWindow = options.blocksPerWindow;
  }

  /** The data plane asks for a round of a device. Failures are tried again, later and later. */
  wanted(handle: number): void {
    const device = this.#devices.byHandle(handle);
    if (!device || device.failed || this.#stopped || this.#wanted.has(handle)) return;
    this.#wanted.set(handle, { attempts: 0, timer: null });
    void this.#try(handle);
  }

  stop(): void {
    this.#stopped = true;
    for (const { timer } of this.#wanted.values()) if (timer) clearTimeout(timer);
    this.#wanted.clear();
  }

  async #try(handle: number): Promise<void> {
    const device = this.#devices.byHandle(handle);
    const state = this.#wanted.get(handle);
    if (!device || !state) return void this.#wanted.delete(handle);
    try {
      await this.#devices.mutexOf(device.container).run(async () => {
        // Asked for again while this one runs: a new one.
        this.#wanted.delete(handle);
        if (this.#devices.byHandle(handle) === device && !device.failed) await this.run(device);
      });
    } catch (error) {
      if (this.#stopped || device.failed) return;
      const pause = Math.min(FIRST_RETRY_MS * 2 ** state.attempts, LONGEST_RETRY_MS);
      this.#log.warn(
        { ...trouble(error, state.attempts + 1), container: device.container, retryMs: pause },
        'a round did not pass; it is tried again',
      );
      const timer = setTimeout(() => void this.#try(handle), pause);
      timer.unref();
      this.#wanted.set(handle, { attempts: state.attempts + 1, timer });
    }
  }

  /** One round of an open device; the caller holds its container's mutex. Throws when it did not pass. */
  async run(device: Device, adopted?: Adopted): Promise<void> {
    const version = device.version;
    const answer = await this.#client.takeRound(device.handle);
    try {
      if (answer.error !== 0) throw planeError('making changes stable', answer.error);
      await this.#store(device, answer, adopted);
    } catch (error) {
      this.#client.plane.roundFailed(device.handle);
      throw error;
    }
    this.#client.plane.roundDone(device.handle, answer.position);
    device.settledBelow = Math.max(device.settledBelow, version);
    this.#punches.kick();
  }

  async #store(device: Device, answer: RoundAnswer, adopted: Adopted | undefined): Promise<void> {
    const line = this.#catalog.lines.get(device.line)!;
    const batches = new RoundBatches(this.#catalog);
    this.#noteCutOffs(line, answer.cutOffs, batches);
    const inRound = new Map(answer.records.map((record) => [placeOf(record.version, record.window), record]));
    for (const cutOff of answer.cutOffs) await this.#dropCutOff(line, cutOff, inRound, batches);
    const cut = ({ window, version }: RoundRecord): boolean =>
      newestCutOff(answer.cutOffs, window, version, version - 1) !== 0;
    for (let at = 0; at < answer.records.length; at += RECORDS_AT_ONCE) {
      await this.#putRecords(line, answer.records.slice(at, at + RECORDS_AT_ONCE), {
        device,
        cut,
        adopted,
        batches,
      });
    }
    if (adopted) await this.#dropAdopted(line, adopted, { device, inRound, batches });
    const before = this.#catalog.applied.get(line.id) ?? -1n;
    if (answer.position > before) batches.change.applied(line.id, answer.position);
    await batches.finish();
    if (answer.position > before) this.#catalog.applied.set(line.id, answer.position);
  }

  /** Cut-offs over which nothing older lies say nothing. */
  #noteCutOffs(line: Line, cutOffs: readonly RoundCutOff[], batches: RoundBatches): void {
    const telling = cutOffs.filter(({ version }) => hasBelow(line, version));
    if (telling.length === 0) return;
    line.cutOffs = addCutOffs(line.cutOffs, telling);
    batches.change.lastingLine(line);
  }

  /** Stored records of the cut-off's own version in its range go, but for those the round brings itself. */
  async #dropCutOff(
    line: Line,
    cutOff: RoundCutOff,
    inRound: ReadonlyMap<string, RoundRecord>,
    batches: RoundBatches,
  ): Promise<void> {
    const at = { line: line.id, version: cutOff.version };
    for (let first: bigint | null = cutOff.first; first !== null; ) {
      const range: { first: bigint; end: bigint | null } = { first, end: cutOff.end };
      const page: WrittenPage = await this.#catalog.queue.read((level) => writtenPage({ level }, at, range));
      for (const { window, stored } of page.records) {
        if (inRound.has(placeOf(cutOff.version, window))) continue;
        batches.change
          .removeWindow(line.id, window, cutOff.version)
          .punch(placesOf(this.#decode(stored).runs));
        await batches.endOfUnit();
      }
      first = page.next;
    }
  }

  async #putRecords(
    line: Line,
    records: RoundRecord[],
    round: {
      device: Device;
      cut(record: RoundRecord): boolean;
      adopted: Adopted | undefined;
      batches: RoundBatches;
    },
  ): Promise<void> {
    const { device, adopted, batches } = round;
    const compared = records.filter((record) => record.compare || round.cut(record));
    const keys = compared.map(({ window, version }) => windowKey(line.id, window, version));
    const stored = keys.length > 0 ? await this.#catalog.queue.read((level) => level.getMany(keys)) : [];
    const before = new Map(compared.map((record, index) => [record, stored[index]]));
    for (const record of records) {
      const now =
        record.record.length > 0 && (record.compare || adopted) ? this.#decode(record.record) : null;
      if (record.record.length === 0) batches.change.removeWindow(line.id, record.window, record.version);
      else batches.change.window(line, record.window, record.version, Buffer.from(record.record));
      if (now) nameFiles(batches.change, now, device.container);
      const old = before.get(record);
      if (old) batches.change.punch(this.#dropped(this.#decode(old), this.#now(record), round.cut(record)));
      const taken =
        adopted && record.version === device.version ? adopted.windows.get(record.window) : undefined;
      if (adopted && taken) {
        this.#dropTaken(adopted, record.window, { taken, now, batches });
        adopted.windows.delete(record.window);
      }
      await batches.endOfUnit();
    }
  }

  /**
   * What the stored record named and the new one does not. Own slots are the data plane's, which punches them itself and may
   * write them again; but a cut-off takes a window's own slot away for good. A round that failed may have stored the slot that
   * came after the cut-off, which is not named while nothing lies in it: without an own slot of now the stored one is left alone.
   */
  #dropped(old: WindowRecord, now: WindowRecord | null, cut: boolean): BlockRange[] {
    const gone = cut && now !== null && now.ownSlot !== null;
    return droppedPlaces(old.runs, now?.runs ?? [], slotSet(gone ? null : old.ownSlot, now?.ownSlot));
  }

  #now(record: RoundRecord): WindowRecord | null {
    return record.record.length > 0 ? this.#decode(record.record) : null;
  }

  /** Adopted windows the round says nothing about: everything of theirs was covered already. */
  async #dropAdopted(
    line: Line,
    adopted: Adopted,
    round: { device: Device; inRound: ReadonlyMap<string, RoundRecord>; batches: RoundBatches },
  ): Promise<void> {
    const windows = [...adopted.windows.keys()];
    if (windows.length === 0) return;
    const keys = windows.map((window) => windowKey(line.id, window, round.device.version));
    const stored = await this.#catalog.queue.read((level) => level.getMany(keys));
    for (const [index, window] of windows.entries()) {
      const mine = stored[index];
      const now = mine ? this.#decode(mine) : null;
      this.#dropTaken(adopted, window, { taken: adopted.windows.get(window)!, now, batches: round.batches });
      await round.batches.endOfUnit();
    }
  }

  #dropTaken(
    adopted: Adopted,
    window: bigint,
    of: { taken: WindowRecord; now: WindowRecord | null; batches: RoundBatches },
  ): void {
    const freed = droppedPlaces(of.taken.runs, of.now?.runs ?? [], slotSet(of.now?.ownSlot));
    of.batches.change.removeWindow(adopted.line, window, adopted.version).punch(freed);
  }

  #decode(stored: Uint8Array): WindowRecord {
    return decodeWindowRecord(stored, this.#blocksPerWindow);
  }
}

/** Files whose places a record of this container names may not go with their own container. */
export function nameFiles(change: Change, record: WindowRecord, container: number): void {
  for (const { slot } of record.runs) if (slot !== null) change.names(fileOfSlot(slot), container);
}

/** Fills one yielding group after the other; units are never torn. */
class RoundBatches {
  readonly #catalog: Catalog;
  change: Change;

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
    this.change = catalog.change();
  }

  async endOfUnit(): Promise<void> {
    if (this.change.isHalfFull) await this.finish();
  }

  async finish(): Promise<void> {
    const change = this.change;
    this.change = this.#catalog.change();
    if (change.isEmpty) return;
    await change.commit({ yielding: true });
  }
}

function placeOf(version: number, window: bigint): string {
  return `${version}/${window}`;
}

export function failedVolume({ name, kind }: Pick<Container, 'name' | 'kind'>): CellblockError {
  return new CellblockError(
    'volume-failed',
    `The ${kind} ${JSON.stringify(name)} has failed: its data could not be written back.`,
    {
      hint: `Check the disk, then run \`cellblock ${kind} repair ${name}\`.`,
    },
  );
}
