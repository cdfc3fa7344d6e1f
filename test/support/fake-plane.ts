// A data plane in TypeScript for tests of the operations: the semantics of the treaty (maps, layers, journal, rounds, adoption) on
// a FakeDisk, one block at a time, everything answered in later turns. `connect` is the client's side.

import { constants } from 'node:os';

import type {
  DeviceLimits,
  DeviceOptions,
  ExportDescription,
  ExtentsFile,
  FaultRecord,
  JournalScan,
  KeptClient,
  KernelBackend,
  KernelDevice,
  Peer,
  Plane,
  PlaneCounters,
  PlaneOptions,
  PlaneRecord,
  RebaseTarget,
} from '../../src/plane/treaty.js';
import type { FakeDisk } from './fake-disk.js';
import type { FakeKernel } from './fake-kernel.js';
import { FakeVolume } from './fake-volume.js';

const { EBUSY, ECANCELED, EIO, ENOENT, EPROTONOSUPPORT } = constants.errno;

const NO_KERNEL = { error: EPROTONOSUPPORT, index: 0, taken: [] as number[] };

const BLOCK = 4096;

/** The blocks bytes lie in. */
function blocksOf(offset: bigint, bytes: number): { first: number; count: number } {
  const first = Math.floor(Number(offset) / BLOCK);
  return { first, count: Math.ceil((Number(offset) + bytes) / BLOCK) - first };
}

/** As bytes a block begins with its value, 8 bytes little-endian; the rest is zero. */
function bytesOf(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * BLOCK);
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), index * BLOCK);
  return bytes;
}

function valuesOf(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / BLOCK }, (_, index) =>
    Number(bytes.readBigUInt64LE(index * BLOCK)),
  );
}

/** A step of the plane at which a test may end the world. */
export type Step = string;

interface OpenAnswer {
  lease: { lease: number; handle: number; contexts: { sinceLayer: number }[] } | null;
  error: number;
  refusal: string;
}

/** Who asks in tests. */
export class FakePlane implements Plane {
  readonly disk: FakeDisk;
  readonly volumes = new Map<number, FakeVolume>();
  /** Handles of failed devices whose reads are answered EIO. */
  readonly readsRefused = new Set<number>();
  readonly known = new Set<number>();
  readonly leases = new Map<number, number>();
  readonly limits = new Map<number, DeviceLimits>();
  readonly logs = new Map<number, { path: string; data: boolean }>();
  dead = false;
  /** Called before every step; a test throws the process away here. */
  onStep: (step: Step) => void = () => undefined;
  /** Handles whose next cut fails with EIO. */
  readonly failingCuts = new Set<number>();
  punched = 0;
  #onRecords: (records: PlaneRecord[]) => void = () => undefined;
  #options!: PlaneOptions;
  #faults = new Map<number, (records: FaultRecord[], error: number) => void>();
  #asked = new Map<number, (answer: never) => void>();
  #lastTicket = 1_000_000;

  constructor(disk: FakeDisk) {
    this.disk = disk;
  }

  /** The process is gone: nothing is answered, nothing is done any more. */
  kill(): void {
    this.dead = true;
    for (const lease of this.leases.keys()) this.kernel?.drop(lease);
  }

  #step(step: Step): void {
    if (!this.dead) this.onStep(step);
  }

  emit(...records: PlaneRecord[]): void {
    setImmediate(() => {
      if (!this.dead) this.#onRecords(records);
    });
  }

  #done(ticket: number, error = 0): void {
    this.emit({ kind: 'done', ticket, error });
  }

  open(options: PlaneOptions, onRecords: (records: PlaneRecord[]) => void): JournalScan {
    this.#options = options;
    this.#onRecords = onRecords;
    const { header, entries, nextPosition } = this.disk;
    return {
      created: header === null,
      clean: header?.clean ?? false,
      sameIncarnation: header !== null && header.bootId === options.bootId,
      entries: header === null || header.clean ? [] : [...entries],
      nextPosition,
    };
  }

  startJournal(position: bigint): void {
    this.#step('startJournal');
    if (!this.dead) this.disk.startJournal(position);
    this.#step('startJournal done');
  }

  syncFiles(files: ExtentsFile[]): void {
    if (!this.dead) for (const { number } of files) this.disk.syncFile(number);
  }

  openDevice(options: DeviceOptions): void {
    if (this.dead) return;
    if (this.volumes.has(options.handle)) throw new Error(`handle ${options.handle} is open`);
    for (const { number } of options.files) this.known.add(number);
    const blocks = this.#options.windowBytes / 4096;
    this.volumes.set(
      options.handle,
      new FakeVolume(options, this.disk, blocks, (first, count) => this.#fault(options.handle, first, count)),
    );
  }

  #fault(handle: number, first: bigint, count: number): Promise<FaultRecord[]> {
    const ticket = ++this.#lastTicket;
    return new Promise((resolve, reject) => {
      this.#faults.set(ticket, (records, error) =>
        error ? reject(new Error(`fault failed: ${error}`)) : resolve(records),
      );
      this.emit({ kind: 'fault', ticket, handle, first, count });
    });
  }

  closeDevice(ticket: number, handle: number): void {
    if (this.dead) return;
    if ([...this.leases.values()].includes(handle)) throw new Error('a device with leases is closed');
    if (this.volume(handle).isDirty) throw new Error('a dirty device is closed');
    this.volumes.delete(handle);
    this.#done(ticket);
  }

  addFile(handle: number, file: ExtentsFile): void {
    this.known.add(file.number);
    this.volumes.get(handle)?.files.push(file.number);
  }

  knowFile(file: ExtentsFile): void {
    this.known.add(file.number);
  }

  dropFile(ticket: number, number: number): void {
    this.#step('dropFile');
    if (this.dead) return;
    this.disk.files.delete(number);
    this.known.delete(number);
    this.#done(ticket);
  }

  faultReply(ticket: number, records: FaultRecord[], error: number): void {
    if (this.dead) return;
    for (const { record } of records) if (record) this.#checkKnown(record);
    const reply = this.#faults.get(ticket)!;
    this.#faults.delete(ticket);
    reply(records, error);
  }

  #checkKnown(record: Uint8Array): void {
    const view = Buffer.from(record);
    for (let piece = 0; piece < view.readUInt16LE(2); piece++) {
      const file = Number(view.readBigUInt64LE(8 + piece * 8) >> 24n);
      if (!this.known.has(file)) throw new Error(`a record names file ${file}, which is not known`);
    }
  }

  takeRound(ticket: number, handle: number): void {
    this.#step('takeRound');
    if (this.dead) return;
    const round = this.volume(handle).takeRound();
    this.#step('takeRound flushed');
    this.emit({ kind: 'round', ticket, error: 0, ...round });
  }

  roundDone(handle: number, _position: bigint): void {
    this.#step('roundDone');
    if (!this.dead) this.volume(handle).roundDone();
  }

  roundFailed(handle: number): void {
    if (!this.dead) this.volume(handle).roundFailed();
  }

  reopen(handle: number, _position: bigint): void {
    this.readsRefused.delete(handle);
    if (!this.dead) this.volume(handle).reopen();
  }

  refuseReads(handle: number): void {
    this.readsRefused.add(handle);
  }

  cut(ticket: number, members: { handle: number; snapshotId: Uint8Array; name: string }[]): void {
    this.#step('cut');
    if (this.dead) return;
    const errors = members.map(({ handle }) => (this.failingCuts.delete(handle) ? EIO : 0));
    const cut = members.map(({ handle, snapshotId, name }) => ({
      ...this.volume(handle).raise(),
      snapshotId,
      name,
    }));
    const good = cut.filter((_, index) => errors[index] === 0);
    const position =
      good.length > 0 ? this.disk.append({ kind: 'cut', members: good }) : this.disk.nextPosition;
    for (const { handle } of members) this.volume(handle).noteCut(position);
    this.disk.syncJournal();
    this.#step('cut durable');
    this.emit({ kind: 'cut', ticket, error: 0, position, errors, members: good });
  }

  adopt(
    ticket: number,
    handle: number,
    below: boolean,
    records: { window: bigint; record: Uint8Array }[],
  ): void {
    this.#step('adopt');
    if (this.dead) return;
    for (const { record } of records) this.#checkKnown(record);
    this.volume(handle)
      .adopt(below, records)
      .then(
        () => this.emit({ kind: 'adopted', ticket, error: 0 }),
        () => this.emit({ kind: 'adopted', ticket, error: EIO }),
      );
  }

  removeLayer(handle: number, layer: number): void {
    if (!this.dead) this.volumes.get(handle)?.removeLayer(layer);
  }

  resize(ticket: number, handle: number, sizeBytes: bigint): void {
    this.#step('resize');
    if (this.dead) return;
    void this.volume(handle)
      .resize(sizeBytes)
      .then(() => {
        this.#step('resize done');
        this.#done(ticket);
      });
  }

  setReadOnly(handle: number, readOnly: boolean): void {
    this.volume(handle).readOnly = readOnly;
  }

  hold(ticket: number, handle: number): void {
    this.#step('hold');
    if (!this.dead) this.volume(handle).hold((error) => this.#done(ticket, error));
  }

  release(handle: number): void {
    if (!this.dead) this.volumes.get(handle)?.release(ECANCELED);
  }

  rebase(ticket: number, handle: number, to: RebaseTarget): void {
    this.#step('rebase');
    if (this.dead) return;
    this.#done(ticket, this.volume(handle).rebase(to) ? 0 : EBUSY);
    this.#step('rebase done');
  }

  read(ticket: number, handle: number, offset: bigint, bytes: number): void {
    if (this.dead) return;
    const { first, count } = blocksOf(offset, bytes);
    this.volume(handle)
      .ownRead(first, count)
      .then(
        (values) => {
          const start = Number(offset) - first * BLOCK;
          this.emit({
            kind: 'bytes',
            ticket,
            error: 0,
            data: bytesOf(values).subarray(start, start + bytes),
          });
        },
        () => this.emit({ kind: 'bytes', ticket, error: EIO, data: new Uint8Array(0) }),
      );
  }

  write(ticket: number, handle: number, offset: bigint, data: Uint8Array): void {
    this.#step('write');
    if (!this.dead) this.#answer(ticket, this.#overwrite(handle, offset, data));
  }

  zero(ticket: number, handle: number, offset: bigint, bytes: bigint): void {
    this.#step('zero');
    if (!this.dead) this.#answer(ticket, this.#overwrite(handle, offset, Buffer.alloc(Number(bytes))));
  }

  async #overwrite(handle: number, offset: bigint, data: Uint8Array): Promise<void> {
    const { first, count } = blocksOf(offset, data.length);
    const whole = bytesOf(await this.volume(handle).ownRead(first, count));
    whole.set(data, Number(offset) - first * BLOCK);
    await this.volume(handle).ownWrite(first, valuesOf(whole));
    this.#step('written');
  }

  #answer(ticket: number, work: Promise<void>): void {
    work.then(
      () => this.#done(ticket),
      () => this.#done(ticket, EIO),
    );
  }

  flush(ticket: number, handle: number): void {
    this.volume(handle).flush();
    this.#done(ticket);
  }

  /** What was begun before has ended: reads are done in one turn here, faults take longer. */
  grace(ticket: number): void {
    const begun = [...this.#faults.keys()];
    const wait = (): void => {
      if (this.dead) return;
      if (begun.some((fault) => this.#faults.has(fault))) setImmediate(wait);
      else this.#done(ticket);
    };
    wait();
  }

  punch(ticket: number, ranges: { file: number; offset: bigint; bytes: bigint }[]): void {
    this.#step('punch');
    if (this.dead) return;
    const windowBytes = BigInt(this.#options.windowBytes);
    for (const { file, offset, bytes } of ranges) {
      const slot = (BigInt(file) << 24n) | (offset / windowBytes);
      const first = Number((offset % windowBytes) / 4096n);
      for (let block = first; block < first + Number(bytes / 4096n); block++) this.disk.punch(slot, block);
      this.punched += Number(bytes / 4096n);
    }
    this.#step('punch done');
    this.#done(ticket);
  }

  evict(handle: number): void {
    this.volume(handle).evict();
  }

  limit(handle: number, limits: DeviceLimits): void {
    this.limits.set(handle, limits);
  }

  /** What is open is noted, nothing is written. */
  setTransactionLog(ticket: number, handle: number, path: string, data: boolean): void {
    if (path === '') this.logs.delete(handle);
    else this.logs.set(handle, { path, data });
    this.#done(ticket);
  }

  /** The kernel of this world; none: there is no nbd driver. */
  kernel: FakeKernel | null = null;

  kernelConnect(ticket: number, device: KernelDevice, backend: KernelBackend): void {
    if (this.dead) return;
    this.#step('kernelConnect');
    if (this.dead) return;
    for (const lease of backend.leases) this.leases.set(lease, backend.handle);
    const { error, index, taken } = this.kernel?.connect(device, backend) ?? NO_KERNEL;
    for (const lease of backend.leases) if (!taken.includes(lease)) this.#endLease(lease);
    this.emit({ kind: 'kernel', ticket, error, index, sentence: '' });
    this.#step('kernelConnect done');
  }

  kernelReconfigure(
    ticket: number,
    device: { index: number; identifier: string; sizeBytes?: bigint },
    backend: KernelBackend,
  ): void {
    if (this.dead) return;
    for (const lease of backend.leases) this.leases.set(lease, backend.handle);
    const { error, index, taken } = this.kernel?.reconfigure(device, backend) ?? NO_KERNEL;
    for (const lease of backend.leases) if (!taken.includes(lease)) this.#endLease(lease);
    this.emit({ kind: 'kernel', ticket, error, index, sentence: '' });
  }

  kernelDisconnect(ticket: number, index: number): void {
    this.#step('kernelDisconnect');
    if (this.dead) return;
    const { error, ended } = this.kernel?.disconnect(index) ?? { error: EPROTONOSUPPORT, ended: [] };
    for (const lease of ended) if (this.leases.has(lease)) this.#endLease(lease);
    this.emit({ kind: 'kernel', ticket, error, index, sentence: '' });
    this.#step('kernelDisconnect done');
  }

  kernelStatus(ticket: number): void {
    const connected = this.kernel?.connected() ?? [];
    this.emit({ kind: 'kernel-status', ticket, error: this.kernel ? 0 : EPROTONOSUPPORT, connected });
  }

  claimNode(ticket: number, path: string): void {
    const error = this.kernel?.claim(path) ?? ENOENT;
    this.emit({ kind: 'kernel', ticket, error, index: 0, sentence: '' });
  }

  rereadNode(ticket: number, path: string): void {
    this.kernel?.reread(path);
    this.emit({ kind: 'kernel', ticket, error: 0, index: 0, sentence: '' });
  }

  unclaimNode(ticket: number, path: string): void {
    this.kernel?.unclaim(path);
    this.emit({ kind: 'kernel', ticket, error: 0, index: 0, sentence: '' });
  }

  /** A connection of a device of the kernel ends, as when the kernel gave it up. */
  dropLease(lease: number): void {
    this.kernel?.drop(lease);
    if (this.leases.has(lease)) this.#endLease(lease);
  }

  disconnect(ticket: number, handle: number): void {
    for (const [lease, leased] of this.leases) if (leased === handle) this.dropLease(lease);
    this.#done(ticket);
  }

  listReply(ticket: number, exports: { name: string; description: string }[]): void {
    this.#reply(ticket, exports);
  }

  describeReply(ticket: number, description: ExportDescription | null, refusal: string, error: number): void {
    this.#reply(ticket, { description, refusal, error });
  }

  openReply(ticket: number, lease: OpenAnswer['lease'], error: number, refusal: string): void {
    this.#reply(ticket, { lease, error, refusal });
  }

  #reply(ticket: number, answer: unknown): void {
    const reply = this.#asked.get(ticket);
    this.#asked.delete(ticket);
    if (!this.dead) reply?.(answer as never);
  }

  listen(address: string | number): string {
    return String(address);
  }

  setTls(): void {}

  counters(): PlaneCounters {
    return {
      engine: 'fake',
      connections: this.leases.size,
      connectionsRefused: 0n,
      tlsBegun: 0n,
      tlsFailed: 0n,
      connectionsRefusedPerClient: 0n,
      handshakesTimedOut: 0n,
      journalCells: 0n,
      journalUsedCells: BigInt(this.disk.entries.length),
      journalSyncs: 0n,
      residentBytes: 0n,
      inFlightBytes: 0n,
      faults: 0n,
      faultedWindows: 0n,
      evictedWindows: 0n,
      punches: BigInt(this.punched),
      devices: [],
    };
  }

  resumeClient(): void {
    throw new Error('nobody has left a client here');
  }

  pulse(ticket: number): void {
    this.#done(ticket);
  }

  /** Those of the kernel only. */
  keepClients(ticket: number): void {
    const clients = [...this.leases.keys()].flatMap((lease) => this.kernel?.keep(lease) ?? []);
    for (const lease of [...this.leases.keys()]) this.dropLease(lease);
    this.emit({ kind: 'clients-kept', ticket, error: 0, clients });
  }

  resumeKernel(client: KeptClient, handle: number, lease: number): void {
    this.leases.set(lease, handle);
    if (!this.kernel?.goOn(client, lease)) this.#endLease(lease);
  }

  stopServing(ticket: number): void {
    for (const lease of [...this.leases.keys()]) this.dropLease(lease);
    this.#done(ticket);
  }

  close(clean: boolean): void {
    if (this.dead) return;
    if (clean) this.disk.finishJournal();
    this.dead = true;
  }

  volume(handle: number): FakeVolume {
    const volume = this.volumes.get(handle);
    if (!volume) throw new Error(`handle ${handle} is not open`);
    return volume;
  }

  #endLease(lease: number): void {
    this.leases.delete(lease);
    this.emit({ kind: 'closed', lease });
  }

  // ---- the client's side ----

  #ask<T>(make: (ticket: number) => PlaneRecord): Promise<T> {
    const ticket = ++this.#lastTicket;
    return new Promise((resolve) => {
      this.#asked.set(ticket, resolve as (answer: never) => void);
      this.emit(make(ticket));
    });
  }

  /** Who asks from now on. */
  peer: Peer = { name: 'test', uid: -1, identity: '', tls: false, host: '' };

  list(): Promise<{ name: string; description: string }[]> {
    return this.#ask((ticket) => ({ kind: 'list', ticket, peer: this.peer }));
  }

  describe(name: string): Promise<{ description: ExportDescription | null; refusal: string; error: number }> {
    return this.#ask((ticket) => ({ kind: 'describe', ticket, peer: this.peer, name }));
  }

  async connect(name: string, changedSince: string[] = []): Promise<Session> {
    const answer = await this.#ask<OpenAnswer>((ticket) => ({
      kind: 'open',
      ticket,
      peer: this.peer,
      name,
      changedSince,
    }));
    if (!answer.lease) throw Object.assign(new Error(answer.refusal), { errno: answer.error || ENOENT });
    const { lease, handle, contexts } = answer.lease;
    this.leases.set(lease, handle);
    return new Session(this, { handle, contexts, lease }, () => {
      if (this.leases.has(lease)) this.#endLease(lease);
    });
  }

  /** Asks for a round as a volume with old changes does. */
  wantRound(handle: number): void {
    this.emit({ kind: 'round-wanted', handle, urgent: false });
  }
}

/** One connection. Blocks are counted from 0; a block's contents are one number. */
export class Session {
  readonly plane: FakePlane;
  readonly handle: number;
  readonly contexts: { sinceLayer: number }[];
  readonly close: () => void;
  readonly #lease: number;

  constructor(
    plane: FakePlane,
    { handle, contexts, lease }: { handle: number; contexts: { sinceLayer: number }[]; lease: number },
    close: () => void,
  ) {
    this.plane = plane;
    this.handle = handle;
    this.contexts = contexts;
    this.close = close;
    this.#lease = lease;
  }

  /** Neither side has ended it. */
  get isOpen(): boolean {
    return !this.plane.dead && this.plane.leases.has(this.#lease);
  }

  get volume(): FakeVolume {
    return this.plane.volume(this.handle);
  }

  write(block: number, values: number[]): Promise<void> {
    return this.volume.write(block, values);
  }

  trim(block: number, count: number): Promise<void> {
    return this.volume.zero(block, count);
  }

  read(block: number, count: number): Promise<number[]> {
    return this.volume.read(block, count);
  }

  changed(context: number, block: number, count: number): Promise<boolean[]> {
    return this.volume.changed(this.contexts[context]!.sinceLayer, block, count);
  }

  flush(): void {
    this.volume.flush();
  }
}
