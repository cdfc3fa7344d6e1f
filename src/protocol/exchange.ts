// What both ends of a session exchange, as their owners see it.

import { randomBytes } from 'node:crypto';
import { asCellblockError } from '../base/errors.js';
import { asText } from './codec.js';
import type { MessageOf, ReplyBody } from './messages.js';

export type Progress = MessageOf<'progress'>;
export type HostEvent = MessageOf<'event'>;
export type Call = MessageOf<'call'>['call'];
export type PerformedOperation = MessageOf<'perform'>['operation'];
export type VolumeDescription = MessageOf<'description'>['description'];
export type SnapshotFacts = VolumeDescription['snapshots'][number];
export type Pull = MessageOf<'pull'>['pull'];
export type OpenGroup = MessageOf<'hello'>['groups'][number];
export type GroupStep = MessageOf<'group'>['step'];
export type GroupOutcome = MessageOf<'grouped'>['outcome'];
export type Digest = Pick<MessageOf<'digested'>, 'sha256' | 'bytes'>;
export type VolumeLoad = MessageOf<'loads'>['volumes'][number];
export type ProgressReport = Omit<Progress, 'type' | 'seq' | 'ack' | 'of'>;

/** What went wrong with a request, as it is told. */
export function failureOf(id: string, thrown: unknown): ReplyBody & { type: 'failed' } {
  const { code, message, hint } = asCellblockError(thrown);
  return { type: 'failed', id, code, message: asText(message), hint: asText(hint) };
}

export function freshId(): string {
  return randomBytes(16).toString('hex');
}
