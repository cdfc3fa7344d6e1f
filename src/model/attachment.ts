// The JSON record of a volume or snapshot that is a block device of the kernel. What it is attached as outlives the agent: the device is
// the kernel's, and the next agent gives it new connections.
// Invariant: the key follows from what is attached, and the kernel's device carries it: so either can be found by the other.

import type { Container, Snapshot } from './entities.js';

export interface Attachment {
  key: string;
  container: number;
  /** Id of the snapshot attached; null: the current map. */
  snapshot: string | null;
  /** N of /dev/nbdN; null: it was asked for, and the kernel has not said which it is. */
  index: number | null;
  readOnly: boolean;
  connections: number;
  blockBytes: number;
  ioTimeoutSeconds: number;
  deadTimeoutSeconds: number;
  /** ISO 8601. */
  created: string;
}

export function attachmentKey(container: Container, snapshot: Snapshot | null): string {
  return snapshot ? `snapshot-${snapshot.id}` : `container-${container.id}`;
}

/** Whose device it is, as the kernel keeps it: `/sys/block/nbdN/backend`. */
export function identifierOf(storeId: string, key: string): string {
  return `${identifierPrefix(storeId)}${key}`;
}

/** Of all devices of a store. */
export function identifierPrefix(storeId: string): string {
  return `cellblock:${storeId}:`;
}

export function encodeAttachment(attachment: Attachment): string {
  return JSON.stringify(attachment);
}

/** Throws when it is none. */
export function decodeAttachment(text: string): Attachment {
  const attachment = JSON.parse(text) as Attachment;
  const { key, container, connections, index } = attachment;
  if (typeof key !== 'string' || !Number.isSafeInteger(container) || !Number.isSafeInteger(connections))
    throw new Error('it is no attachment');
  if (index !== null && !Number.isSafeInteger(index)) throw new Error('it names no device');
  return attachment;
}
