// What is set of a volume besides its size: limits, and its transaction log. Values, what may be set, and how the record of a
// volume holds them.

import { CellblockError } from '../base/errors.js';

/** Of all clients of a volume together. 0: no such limit; a burst of 0: a tenth of a second's worth. */
export interface Limits {
  /** Requests a second; flushes are not counted. */
  iops: number;
  iopsBurst: number;
  /** Bytes a second of reads and writes. */
  bandwidth: bigint;
  bandwidthBurst: bigint;
}

/** A log of what clients ask, in nbd-server's format, in the agent's directory for such logs. */
export interface TransactionLogSetting {
  file: string;
  /** With the data of writes, so that it can be played back. */
  data: boolean;
}

export const MAX_IOPS = 1_000_000_000;
/** 8 TiB a second: more than memory gives. */
export const MAX_BANDWIDTH = 1n << 43n;

export const NO_LIMITS: Limits = { iops: 0, iopsBurst: 0, bandwidth: 0n, bandwidthBurst: 0n };

/** Throws one sentence for limits nobody could keep. Null: those set no limit at all. */
export function checkLimits(limits: Limits): Limits | null {
  const { iops, iopsBurst, bandwidth, bandwidthBurst } = limits;
  for (const [what, value] of Object.entries({ iops, iopsBurst }))
    if (!Number.isSafeInteger(value) || value < 0 || value > MAX_IOPS)
      throw badLimit(`${what} is ${value}; it is a whole number up to ${MAX_IOPS}.`);
  for (const [what, value] of Object.entries({ bandwidth, bandwidthBurst }))
    if (value < 0n || value > MAX_BANDWIDTH) throw badLimit(`${what} is ${value}; it is at most 8T.`);
  if (iopsBurst > 0 && iops === 0) throw badLimit('A burst of requests needs a limit of requests.');
  if (bandwidthBurst > 0n && bandwidth === 0n) throw badLimit('A burst of bytes needs a limit of bytes.');
  return iops === 0 && bandwidth === 0n ? null : limits;
}

function badLimit(message: string): CellblockError {
  return new CellblockError('limits-invalid', `These limits cannot be set: ${message}`, {
    hint: 'Give requests a second, bytes a second, or both; see `cellblock volume set --help`.',
  });
}

/** Throws one sentence when a log cannot be called so: it stays in the agent's directory, and is not hidden there. */
export function checkLogFile(file: string): void {
  const bytes = Buffer.byteLength(file);
  if (bytes > 0 && bytes <= 128 && /^[A-Za-z0-9_][A-Za-z0-9._-]*$/.test(file)) return;
  throw new CellblockError(
    'transaction-log-name-bad',
    `${JSON.stringify(file)} cannot name a transaction log.`,
    {
      hint: 'Give a file name without a directory: 1 to 128 letters, digits, dots, dashes and underscores, the first no dot and no dash.',
    },
  );
}

type Json = Record<string, unknown>;

export function encodeLimits(limits: Limits | null): Json | null {
  return (
    limits && {
      ...limits,
      bandwidth: limits.bandwidth.toString(),
      bandwidthBurst: limits.bandwidthBurst.toString(),
    }
  );
}

/** Throws an Error for what is damaged. */
export function decodeLimits(value: unknown): Limits {
  const { iops, iopsBurst, bandwidth, bandwidthBurst } = value as Json;
  const limits = {
    iops: iops as number,
    iopsBurst: iopsBurst as number,
    bandwidth: BigInt(bandwidth as string),
    bandwidthBurst: BigInt(bandwidthBurst as string),
  };
  checkLimits(limits);
  return limits;
}

export function decodeTransactionLog(value: unknown): TransactionLogSetting {
  const { file, data } = value as Json;
  if (typeof file !== 'string' || typeof data !== 'boolean') throw new Error('the transaction log is none');
  checkLogFile(file);
  return { file, data };
}
