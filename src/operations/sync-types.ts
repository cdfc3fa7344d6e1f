// What a sync is asked to do and what it answers.

import type { Reading, Writing } from '../identity/steps.js';
import type { Container, ContainerKind, Snapshot } from '../model/entities.js';
import type { SyncedConfig, SyncKind, SyncRecord, SyncRule } from '../model/sync.js';

/** One disk of a sync: its container, and the snapshot whose state it takes. */
export interface SyncPair {
  container: Container;
  snapshot: Snapshot;
  /** `VOLUME@SNAPSHOT`, as it was called. */
  from: string;
  /** Why it is a boot disk whatever is on it; null: what is on it decides. */
  boot: string | null;
}

export interface SyncOptions {
  kind: SyncKind;
  /** What is synced, for people: a volume, a file, a VM. */
  target: string;
  /** Clients stay connected and are held. */
  online: boolean;
  /** Clients are disconnected first. */
  force: boolean;
  /** The target takes the size of a larger source. */
  grow: boolean;
  /** How long the undo point is kept; null: there is none. */
  safetyMs: number | null;
  /** Goes with the disks, in the same batch. */
  config: SyncedConfig | null;
  /** For the record. */
  rules: readonly SyncRule[];
}

/** Runs computations over one disk. */
export interface DiskIo {
  readonly bytes: bigint;
  /** A file may have formats that no disk has. */
  readonly kind: ContainerKind;
  run<T>(work: Reading<T> | Writing<T>): Promise<T>;
}

/** What the caller may say about the identity of what is synced. */
export interface IdentityOptions {
  /** In order; the last that matches a field counts. */
  rules: readonly SyncRule[];
  /** The source's key slots of encrypted disks may come along. */
  takeKeys: boolean;
  /** The content is of the target itself: restore and undo. */
  own: boolean;
  /** Of each disk, why it is a boot disk whatever is on it; null: what is on it decides. */
  boots: readonly (string | null)[];
  /** /etc/machine-id, /etc/hostname and the SSH host keys of the target's boot disk survive. */
  guest: boolean;
}

/** What it needs may have to be loaded. */
export type IdentityFactory = (options: IdentityOptions) => SyncIdentity | Promise<SyncIdentity>;

/** The identity of the disks of one sync, in their order. */
export interface SyncIdentity {
  /** Reads it, before anything changes. Throws when it cannot be believed. */
  capture(disks: readonly DiskIo[]): Promise<CapturedIdentity>;
  /** `restored`: what restore() answered, read back from its JSON. Throws when it does not read back from the disks. */
  verify(disks: readonly DiskIo[], restored: unknown): Promise<void>;
}

export interface CapturedIdentity {
  /** JSON, for the record. */
  readonly captured: unknown;
  /** Looks at the content that is there now, and writes what the policy keeps. Answers JSON. */
  restore(disks: readonly DiskIo[]): Promise<unknown>;
}

export interface SyncResult {
  record: SyncRecord;
  /** How long clients were held. */
  heldMs: number;
}
