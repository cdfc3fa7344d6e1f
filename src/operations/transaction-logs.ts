// Transaction logs of volumes: where they lie, when one is open, what became of it. The data plane writes them.
//
// Invariants: a log lies in the one directory that is configured for them, by a plain name that no other volume has, and is never
// reached through a symbolic link; it is only ever appended to, behind whole records. A log that cannot be opened or written keeps
// no client from its volume: that is logged, and shown.

import { constants } from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import path from 'node:path';

import { CellblockError, systemCode } from '../base/errors.js';
import type { Container } from '../model/entities.js';
import { wholeRecordsIn } from '../model/log-records.js';
import type { Device } from './devices.js';
import type { PlaneClient } from './plane-client.js';
import { errnoName } from './plane-client.js';
import type { Logger } from './types.js';

const READ_BYTES = 1 << 20;

export class TransactionLogs {
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #directory: string | null;
  /** Written by this process alone since it looked at them: they end with whole records. */
  readonly #sound = new Set<string>();
  /** By container: why its log is not written, an errno name. */
  readonly #lost = new Map<number, string>();

  /** `directory` null: no volume may have one. */
  constructor(client: PlaneClient, log: Logger, options: { directory: string | null }) {
    this.#client = client;
    this.#log = log;
    this.#directory = options.directory;
  }

  /** Null: it is written whenever the volume is open. */
  lostOf(container: number): string | null {
    return this.#lost.get(container) ?? null;
  }

  /** Makes the file, or looks whether the one that is there can be appended to. Throws one sentence. */
  async prepare(file: string): Promise<void> {
    if (this.#directory === null) {
      throw new CellblockError('transaction-logs-off', 'No directory for transaction logs is configured.', {
        hint: 'Say nbd.transaction_logs: DIRECTORY in the configuration; another file system than that of the store is best.',
      });
    }
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      if (!this.#sound.has(file)) await this.#appendable(path.join(this.#directory, file));
      this.#sound.add(file);
    } catch (error) {
      if (error instanceof CellblockError) throw error;
      throw unsuitable(file, `it cannot be opened (${systemCode(error) || String(error)})`, error);
    }
  }

  async #appendable(full: string): Promise<void> {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const handle = await open(full, flags, 0o600);
    try {
      const facts = await handle.stat();
      if (!facts.isFile()) throw unsuitable(path.basename(full), 'it is no file', undefined);
      const whole = await wholeRecordsIn(facts.size, (offset) => readAt(handle, offset));
      if (whole === 0 && facts.size > 0)
        throw unsuitable(path.basename(full), 'there is a file that is no transaction log', undefined);
      if (whole === facts.size) return;
      await handle.truncate(whole);
      this.#log.warn(
        { file: full, bytes: facts.size - whole },
        'a transaction log ended in the middle of a record, which is cut off',
      );
    } finally {
      await handle.close();
    }
  }

  /** The log of an open device begins, in place of an earlier one. Throws. */
  async start(device: Device, container: Container): Promise<void> {
    const setting = container.transactionLog!;
    await this.prepare(setting.file);
    await this.#client.setTransactionLog(
      device.handle,
      path.join(this.#directory!, setting.file),
      setting.data,
    );
    this.#lost.delete(container.id);
  }

  /** Resolves when what was logged is written. */
  async end(device: Device): Promise<void> {
    await this.#client.setTransactionLog(device.handle, '', false);
    this.#lost.delete(device.container);
  }

  /** Of a device that was just opened: never throws. */
  async opened(device: Device, container: Container): Promise<void> {
    try {
      await this.start(device, container);
    } catch (error) {
      this.#lost.set(container.id, error instanceof CellblockError ? error.code : systemCode(error) || 'EIO');
      this.#log.error(
        { err: error, volume: container.name },
        'a transaction log could not be opened; the volume is served without it',
      );
    }
  }

  lost(container: Container, error: number): void {
    const errno = errnoName(error);
    this.#lost.set(container.id, errno);
    // How far it was written nobody knows.
    if (container.transactionLog) this.#sound.delete(container.transactionLog.file);
    this.#log.error(
      { volume: container.name, errno },
      'a transaction log could not be written and has ended; the volume goes on without it',
    );
  }
}

async function readAt(handle: FileHandle, offset: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  const { bytesRead } = await handle.read(buffer, 0, READ_BYTES, offset);
  return buffer.subarray(0, bytesRead);
}

function unsuitable(file: string, why: string, cause: unknown): CellblockError {
  return new CellblockError(
    'transaction-log-unsuitable',
    `The transaction log ${JSON.stringify(file)} cannot be appended to: ${why}.`,
    { hint: 'Name another file, or move this one away.', ...(cause === undefined ? {} : { cause }) },
  );
}
