// The durable record of a sync: what it does to which containers, how far it is. Written before the maps change, so that a start
// undoes what a stop had interrupted, before anything is served (D6).
//
// Phases: `captured`: nothing has changed yet; `rebased`: the containers have their new lines, whose identity may be half written; the
// old lines are as they were; `restored`: the identity is stable in the new lines, and still to be read back; `done`; `undone`: the old
// lines count again. A start undoes whatever is not done: until then no client has written into a new line.

import type { Base } from './entities.js';

export type SyncPhase = 'captured' | 'rebased' | 'restored' | 'done' | 'undone';
/** `restore`: to one's own snapshot. `undo`: to the safety snapshot of an earlier sync. */
export type SyncKind = 'sync' | 'restore' | 'undo';

export interface SyncMember {
  container: number;
  /** `VOLUME@SNAPSHOT` as it was called. */
  from: string;
  base: Base;
  oldLine: number;
  newLine: number;
  oldSizeBytes: bigint;
  newSizeBytes: bigint;
  /** The undo point: a snapshot of the old line, listed when the sync is done. */
  safety: { id: string; name: string; expires: string | null } | null;
}

/** The configuration of a VM that is synced with its disks. */
export interface SyncedConfig {
  vm: number;
  before: string;
  after: string;
  /** JSON: what became of its identity. */
  report: unknown;
}

export interface SyncRule {
  field: string;
  policy: 'keep' | 'take' | 'new';
}

export interface SyncRecord {
  id: number;
  kind: SyncKind;
  phase: SyncPhase;
  /** What was synced, as it was called: a volume, a file or a VM. */
  target: string;
  /** ISO 8601. */
  created: string;
  ended: string | null;
  members: SyncMember[];
  /** Null: no VM, or its configuration stays. */
  config: SyncedConfig | null;
  /** What was asked about the identity. */
  rules: SyncRule[];
  /** Why it was undone. */
  error: string | null;
  /** What was captured and what became of it: JSON of the identity's report and plan. */
  identity: unknown;
}

/** Not `done` or `undone`: a start has to look at it. */
export function isUnfinished({ phase }: SyncRecord): boolean {
  return phase !== 'done' && phase !== 'undone';
}

export function encodeSync(record: SyncRecord): string {
  return JSON.stringify({
    ...record,
    members: record.members.map((member) => ({
      ...member,
      oldSizeBytes: member.oldSizeBytes.toString(),
      newSizeBytes: member.newSizeBytes.toString(),
    })),
  });
}

type StoredMember = Omit<SyncMember, 'oldSizeBytes' | 'newSizeBytes'> & {
  oldSizeBytes: string;
  newSizeBytes: string;
};
type StoredRecord = Omit<SyncRecord, 'members'> & { members: StoredMember[] };

const PHASES: readonly SyncPhase[] = ['captured', 'rebased', 'restored', 'done', 'undone'];

/** Throws when it is none. */
export function decodeSync(text: string): SyncRecord {
  const stored = JSON.parse(text) as StoredRecord;
  if (!PHASES.includes(stored.phase))
    throw new Error(`the phase of a sync is ${JSON.stringify(stored.phase)}`);
  return {
    ...stored,
    config: stored.config ?? null,
    rules: stored.rules ?? [],
    members: stored.members.map((member) => ({
      ...member,
      oldSizeBytes: BigInt(member.oldSizeBytes),
      newSizeBytes: BigInt(member.newSizeBytes),
    })),
  };
}
