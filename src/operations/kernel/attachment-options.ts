// How something is attached: what was asked for, checked, with what it is by default.

import { CellblockError } from '../../base/errors.js';

export interface AttachWishes {
  readOnly?: boolean;
  connections?: number;
  /** `/dev/nbdN`, `nbdN` or `N`. */
  device?: string;
  blockBytes?: number;
  ioTimeoutSeconds?: number;
  deadTimeoutSeconds?: number;
}

export interface AttachOptions {
  readOnly: boolean;
  connections: number;
  index: number | null;
  blockBytes: number;
  ioTimeoutSeconds: number;
  deadTimeoutSeconds: number;
}

const MAX_CONNECTIONS = 16;
const MAX_SECONDS = 86_400;
/** The kernel has 20 bits for its minors, and partitions take some. */
const MAX_INDEX = 65_535;

/** `option-invalid` */
export function checkAttachOptions(wishes: AttachWishes): AttachOptions {
  const { readOnly = false, connections = 2, device, blockBytes = 512 } = wishes;
  const { ioTimeoutSeconds = 10, deadTimeoutSeconds = 300 } = wishes;
  requireWithin('The number of connections', connections, [1, MAX_CONNECTIONS]);
  requireWithin('The I/O timeout in seconds', ioTimeoutSeconds, [1, MAX_SECONDS]);
  requireWithin('The timeout without connections in seconds', deadTimeoutSeconds, [1, MAX_SECONDS]);
  if (![512, 1024, 2048, 4096].includes(blockBytes))
    throw invalid(
      `A block of ${blockBytes} bytes is none the kernel takes.`,
      'Give 512, 1024, 2048 or 4096.',
    );
  const index = device === undefined ? null : requireIndex(device);
  return { readOnly, connections, index, blockBytes, ioTimeoutSeconds, deadTimeoutSeconds };
}

/** N of `/dev/nbdN`, `nbdN` or `N`; null: it names no device. */
export function indexIn(text: string): number | null {
  const digits = /^(?:(?:\/dev\/)?nbd)?(\d{1,5})$/.exec(text)?.[1];
  return digits === undefined || Number(digits) > MAX_INDEX ? null : Number(digits);
}

function requireIndex(text: string): number {
  const index = indexIn(text);
  if (index !== null) return index;
  throw invalid(
    `${JSON.stringify(text)} is no device of the nbd driver.`,
    'Write it as /dev/nbd0, or leave it out: the kernel takes a free one.',
  );
}

function requireWithin(what: string, value: number, [low, high]: [number, number]): void {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return;
  throw invalid(`${what} is ${value}.`, `Give ${low} to ${high}.`);
}

function invalid(message: string, hint: string): CellblockError {
  return new CellblockError('option-invalid', message, { hint });
}
