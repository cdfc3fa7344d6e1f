// The data plane with promises instead of tickets, and its record stream handed to whom it concerns.
// Invariant: the upcall is total; an exception of a receiver is logged and ends nothing else.

import { constants } from 'node:os';

import { CellblockError } from '../base/errors.js';
import type {
  FaultRecord,
  JournalScan,
  KeptClient,
  KernelBackend,
  KernelDevice,
  Plane,
  PlaneOptions,
  PlaneRecord,
  RebaseTarget,
} from '../plane/treaty.js';
import type { Logger } from './types.js';

export type RoundAnswer = Extract<PlaneRecord, { kind: 'round' }>;
export type CutAnswer = Extract<PlaneRecord, { kind: 'cut' }>;
export type KernelAnswer = Extract<PlaneRecord, { kind: 'kernel' }>;
export type BytesAnswer = Extract<PlaneRecord, { kind: 'bytes' }>;
export type RecordOf<K extends PlaneRecord['kind']> = Extract<PlaneRecord, { kind: K }>;

/** Who gets what the data plane asks or reports of its own accord. */
export interface PlaneListener {
  fault(record: RecordOf<'fault'>): void;
  roundWanted(record: RecordOf<'round-wanted'>): void;
  fileWanted(record: RecordOf<'file-wanted'>): void;
  list(record: RecordOf<'list'>): void;
  describe(record: RecordOf<'describe'>): void;
  open(record: RecordOf<'open'>): void;
  closed(record: RecordOf<'closed'>): void;
  failed(record: RecordOf<'failed'>): void;
  storeFailed(record: RecordOf<'store-failed'>): void;
  transactionLogLost(record: RecordOf<'transaction-log-lost'>): void;
  linkDead(record: RecordOf<'link-dead'>): void;
}

type Answer = Extract<PlaneRecord, { ticket: number; error: number }>;

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** `EIO` for 5. */
export function errnoName(error: number): string {
  return ERRNO_NAMES.get(Math.abs(error)) ?? `errno ${error}`;
}

export const EIO = constants.errno.EIO;
export const ENOENT = constants.errno.ENOENT;
export const EACCES = constants.errno.EACCES;
export const ESHUTDOWN = 108;
/** Node does not name it. */
export const ENOKEY = 126;

export function planeError(doing: string, error: number): CellblockError {
  const name = errnoName(error);
  if (name === 'ENOSPC') {
    return new CellblockError('no-space', `The disk of the store is full: ${doing} did not work.`, {
      hint: 'Make room on the file system of the store, or delete volumes or snapshots.',
      facts: { errno: name },
    });
  }
  return new CellblockError('data-plane-failed', `The data plane could not do this: ${doing} (${name}).`, {
    hint: 'Check the disk and the log of the agent.',
    facts: { errno: name },
  });
}

export class PlaneClient {
  readonly plane: Plane;
  listener: PlaneListener | null = null;
  readonly #log: Logger;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #lastTicket = 0;

  constructor(plane: Plane, log: Logger) {
    this.plane = plane;
    this.#log = log;
  }

  open(options: PlaneOptions): JournalScan {
    return this.plane.open(options, (records) => this.#receive(records));
  }

  takeRound(handle: number): Promise<RoundAnswer> {
    return this.#ask((ticket) => this.plane.takeRound(ticket, handle)) as Promise<RoundAnswer>;
  }

  cut(members: { handle: number; snapshotId: Uint8Array; name: string }[]): Promise<CutAnswer> {
    return this.#ask((ticket) => this.plane.cut(ticket, members)) as Promise<CutAnswer>;
  }

  adopt(handle: number, below: boolean, records: { window: bigint; record: Uint8Array }[]): Promise<void> {
    return this.#done('merging a deleted snapshot', (ticket) =>
      this.plane.adopt(ticket, handle, below, records),
    );
  }

  closeDevice(handle: number): Promise<void> {
    return this.#done('closing a volume', (ticket) => this.plane.closeDevice(ticket, handle));
  }

  dropFile(number: number): Promise<void> {
    return this.#done('removing an extents file', (ticket) => this.plane.dropFile(ticket, number));
  }

  resize(handle: number, sizeBytes: bigint): Promise<void> {
    return this.#done('resizing a volume', (ticket) => this.plane.resize(ticket, handle, sizeBytes));
  }

  flush(handle: number): Promise<void> {
    return this.#done('flushing a volume', (ticket) => this.plane.flush(ticket, handle));
  }

  /** Resolves when no request of a client is under way in it. */
  hold(handle: number): Promise<void> {
    return this.#done('holding a volume', (ticket) => this.plane.hold(ticket, handle));
  }

  rebase(handle: number, to: RebaseTarget): Promise<void> {
    return this.#done('swapping the map of a volume', (ticket) => this.plane.rebase(ticket, handle, to));
  }

  async read(handle: number, offset: bigint, bytes: number): Promise<Uint8Array> {
    const answer = await this.#ask((ticket) => this.plane.read(ticket, handle, offset, bytes));
    if (answer.error !== 0) throw planeError('reading a volume', answer.error);
    return (answer as BytesAnswer).data;
  }

  write(handle: number, offset: bigint, data: Uint8Array): Promise<void> {
    return this.#done('writing to a volume', (ticket) => this.plane.write(ticket, handle, offset, data));
  }

  zero(handle: number, offset: bigint, bytes: bigint): Promise<void> {
    return this.#done('zeroing a part of a volume', (ticket) =>
      this.plane.zero(ticket, handle, offset, bytes),
    );
  }

  grace(): Promise<void> {
    return this.#done('waiting for requests', (ticket) => this.plane.grace(ticket));
  }

  punch(ranges: { file: number; offset: bigint; bytes: bigint }[]): Promise<void> {
    return this.#done('freeing space', (ticket) => this.plane.punch(ticket, ranges));
  }

  disconnect(handle: number): Promise<void> {
    return this.#done('ending connections', (ticket) => this.plane.disconnect(ticket, handle));
  }

  /** An empty path ends the log. */
  setTransactionLog(handle: number, path: string, data: boolean): Promise<void> {
    return this.#done('opening a transaction log', (ticket) =>
      this.plane.setTransactionLog(ticket, handle, path, data),
    );
  }

  kernelConnect(device: KernelDevice, backend: KernelBackend): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.kernelConnect(ticket, device, backend));
  }

  kernelReconfigure(
    device: { index: number; identifier: string; sizeBytes?: bigint },
    backend: KernelBackend,
  ): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.kernelReconfigure(ticket, device, backend));
  }

  kernelDisconnect(index: number): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.kernelDisconnect(ticket, index));
  }

  claimNode(path: string): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.claimNode(ticket, path));
  }

  rereadNode(path: string): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.rereadNode(ticket, path));
  }

  unclaimNode(path: string): Promise<KernelAnswer> {
    return this.#kernel((ticket) => this.plane.unclaimNode(ticket, path));
  }

  async keepClients(deadlineMs: number): Promise<KeptClient[]> {
    const answer = await this.#ask((ticket) => this.plane.keepClients(ticket, deadlineMs));
    return (answer as RecordOf<'clients-kept'>).clients;
  }

  pulse(): Promise<void> {
    return this.#done('asking whether it hangs', (ticket) => this.plane.pulse(ticket));
  }

  stopServing(deadlineMs: number): Promise<void> {
    return this.#done('stopping', (ticket) => this.plane.stopServing(ticket, deadlineMs));
  }

  faultReply(ticket: number, records: FaultRecord[], error: number): void {
    this.plane.faultReply(ticket, records, error);
  }

  #kernel(send: (ticket: number) => void): Promise<KernelAnswer> {
    return this.#ask(send) as Promise<KernelAnswer>;
  }

  async #done(doing: string, send: (ticket: number) => void): Promise<void> {
    const { error } = await this.#ask(send);
    if (error !== 0) throw planeError(doing, error);
  }

  #ask(send: (ticket: number) => void): Promise<Answer> {
    const ticket = ++this.#lastTicket;
    return new Promise((resolve, reject) => {
      this.#waiting.set(ticket, resolve);
      try {
        send(ticket);
      } catch (error) {
        this.#waiting.delete(ticket);
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  }

  #receive(records: PlaneRecord[]): void {
    for (const record of records) {
      try {
        this.#dispatch(record);
      } catch (error) {
        this.#log.error({ err: error, record: record.kind }, 'a record of the data plane was not handled');
      }
    }
  }

  #dispatch(record: PlaneRecord): void {
    switch (record.kind) {
      case 'done':
      case 'bytes':
      case 'clients-kept':
      case 'round':
      case 'cut':
      case 'adopted':
      case 'kernel':
      case 'kernel-status':
        this.#answer(record);
        break;
      case 'log':
        this.#log[record.level](record.fields, record.message);
        break;
      case 'fault':
        this.listener?.fault(record);
        break;
      case 'round-wanted':
        this.listener?.roundWanted(record);
        break;
      case 'file-wanted':
        this.listener?.fileWanted(record);
        break;
      case 'list':
        this.listener?.list(record);
        break;
      case 'describe':
        this.listener?.describe(record);
        break;
      case 'open':
        this.listener?.open(record);
        break;
      case 'closed':
        this.listener?.closed(record);
        break;
      case 'failed':
        this.listener?.failed(record);
        break;
      case 'store-failed':
        this.listener?.storeFailed(record);
        break;
      case 'transaction-log-lost':
        this.listener?.transactionLogLost(record);
        break;
      case 'link-dead':
        this.listener?.linkDead(record);
        break;
    }
  }

  #answer(record: Answer): void {
    const resolve = this.#waiting.get(record.ticket);
    this.#waiting.delete(record.ticket);
    if (resolve) resolve(record);
    else
      this.#log.error(
        { ticket: record.ticket, record: record.kind },
        'the data plane answered a ticket nobody holds',
      );
  }
}
