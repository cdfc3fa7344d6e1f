// What the verbs of the command line give: plain JSON, for programs as it is and for people as `cellblock` prints it. Bytes are decimal text, times
// ISO 8601, ids 32 hexadecimal digits.

import type { CellAnswer } from '../model/cell/answer.js';
import type { Trial } from '../model/cell/decide.js';
import type { Head, Route } from '../model/cell/route.js';
import type { CellState } from '../model/cell/states.js';
import type { CarriedBase } from './base-plan.js';
import type { DecisionRecord, EvidenceRecord, OperationRecord } from './store.js';
import type { Trouble } from './troubles.js';

export interface CellSummary {
  cell: string;
  hosts: { host: string; connected: boolean; draining: boolean; regressed: boolean }[];
  /** Volumes it is the active cell of. */
  volumes: number;
}

export interface CellDetails extends CellSummary {
  names: string[];
  /** On their way here, and away from here. */
  arriving: string[];
  leaving: string[];
}

export interface HostSummary {
  host: string;
  cell: string;
  connected: boolean;
  regressed: boolean;
  draining: boolean;
  storeId: string;
  boot: number;
  nbd: string[];
  /** Volumes it is the primary of; replicas and copies of others. */
  primaryOf: number;
  copies: number;
}

export interface HostDetails extends HostSummary {
  volumes: { name: string; id: string; part: 'primary' | 'replica' | 'alternate'; epoch: number }[];
  bases: BaseAtHost[];
  /** What it has said in its hello to hold, and no route names: a volume without one, or what is left of a move. */
  strays: { id: string; name: string | null; state: string; epoch: number }[];
}

/** A beginning of a volume that the host has, and serves to nobody, because moves of other volumes continue it there. */
export interface BaseAtHost {
  name: string;
  id: string;
  /** The last snapshot of it that is needed. */
  seq: number;
  /** Whether it has come that far. */
  complete: boolean;
  /** Volumes it was brought for. */
  for: string[];
  /** It is purged then; null: a move needs it, or it is being purged. */
  keptUntil: string | null;
}

export interface SnapshotResult {
  volume: string;
  name: string;
  id: string;
  seq: number;
  cell: string;
  host: string;
  rule: string;
  afterwards: string;
}

export interface GroupResult {
  group: string;
  /** `seq` null: its host has not confirmed yet, and is asked until it does; or it is `lost`: the volume does not have it, and never will. */
  snapshots: {
    volume: string;
    name: string;
    id: string;
    seq: number | null;
    host: string;
    lost: boolean;
  }[];
  /** For how long the clients of each host were held. */
  held: { host: string; milliseconds: number }[];
  unconfirmed: string[];
}

export interface OperationResult {
  volume: string;
  cell: string;
  host: string;
  rule: string;
  afterwards: string;
}

export interface DeleteResult extends OperationResult {
  /** Hosts that are asked until they have confirmed; the name is free when they have. */
  unconfirmed: string[];
}

export interface SnapshotDeleteResult extends OperationResult {
  name: string;
  id: string;
  /** Hosts with a copy of it that are asked until they have confirmed. */
  unconfirmed: string[];
}

/** What a move would send, or sends. */
export interface MovePreview {
  volume: string;
  from: string;
  fromHost: string;
  to: string;
  toHost: string;
  sizeBytes: string;
  /** Snapshots that are to be sent, and those that the destination has already. */
  snapshots: number;
  present: number;
  /** Snapshots that share data with another volume which the destination does not have: they arrive without sharing it. */
  unshared: { snapshot: string; base: string; sizeBytes: string }[];
  /** What is brought along of other volumes, so that the snapshots that continue it go on sharing. */
  carried: CarriedBase[];
  /** Volumes that are on their way to the destination, and that it waits for: its snapshots continue some of theirs. */
  awaited: string[];
  /** Snapshots that go on sharing, because what they continue is at the destination, or comes there first. */
  shared: number;
}

export interface MoveStarted extends MovePreview {
  /** Null: nothing was begun, it was only asked what would be. */
  move: string | null;
}

export interface MoveStatus {
  volume: string;
  move: string;
  from: string;
  fromHost: string;
  to: string;
  toHost: string;
  direction: 'forward' | 'rollback';
  /** A phase of the journal; null: it is over. */
  phase: string | null;
  begun: string;
  ended: string | null;
  result: string | null;
  copy: { stage: string; done: number; total: number | null; failed: string | null } | null;
  /** How many deltas were carried after the snapshots. */
  deltas: number;
  /** What is left at the source is kept until then; null: nothing is. */
  keptUntil: string | null;
  /** What stands in its way. */
  troubles: Trouble[];
}

/** One of several moves that were asked for together. */
export type MoveOfMany =
  | MoveStarted
  /** It was under way already. */
  | { volume: string; move: string; to: string; toHost: string; phase: string }
  /** Why it was not begun. */
  | { volume: string; problem: string };

export interface SplitResult {
  cell: string;
  into: string;
  /** In the order they were begun: what others continue comes first. */
  moves: MoveOfMany[];
  /** Bytes written a second when it was looked, of the volumes that were chosen by it. */
  rates: { volume: string; bytesPerSecond: number }[] | null;
}

export interface DrainResult {
  host: string;
  moves: MoveOfMany[];
}

export interface RollbackResult {
  volumes: { volume: string; turned: boolean; because: string }[];
}

export interface PromoteResult {
  volume: string;
  host: string;
  epoch: number;
  loss: Loss;
}

export interface Loss {
  /** What the new primary is complete through; null: it has no snapshot. */
  completeThrough: Head | null;
  /** Snapshots after that are lost, and everything written since. */
  snapshots: number;
}

export interface ForgetHostResult {
  host: string;
  /** Whose routes have named it until now. */
  volumes: string[];
}

export interface PurgeResult {
  volume: string;
  host: string;
  /** What the owner is not known to have; null: it has everything. */
  loss: { lastSnapshot: Head | null; ownerHasIt: boolean; written: boolean } | null;
}

export interface ReadmitResult {
  host: string;
  readmitted: string[];
  /** Of which others have more: they stay as they are until somebody decides. */
  faulted: { volume: string; because: string }[];
  /** That the host is to have and does not. */
  missing: string[];
}

export interface RouteSummary {
  name: string;
  volume: string;
  status: Route['status'];
  cell: string;
  host: string;
  epoch: number;
  seq: number;
  /** Where it is going to, or has a copy of before. */
  alternate: string | null;
  phase: string | null;
}

export interface RouteList {
  routes: RouteSummary[];
  /** To be given as `after`, for more; null: these were all. */
  next: string | null;
}

export interface RouteDetails {
  route: Route;
  /** What a majority of the volume's hosts in its cell has. */
  completeThrough: Head | null;
  replicas: { host: string; completeThrough: Head | null }[];
  unfinished: OperationRecord[];
  /** What stands in the way of what is to be done about it. */
  troubles: Trouble[];
  explained: Explained | null;
}

/** What the coordinator would decide now, and what it has decided. */
export interface Explained {
  x: CellAnswer;
  y: CellAnswer;
  rule: string;
  outcome: string;
  trials: Trial[];
  steps: string[];
  afterwards: string;
  decisions: DecisionRecord[];
  evidence: EvidenceRecord | null;
  elsewhere: Elsewhere[];
}

/** A host that holds a part of a volume, and that its route does not name. */
export interface Elsewhere {
  host: string;
  cell: string;
  state: string;
  epoch: number;
  /** Of its last snapshot; 0: it has none. */
  seq: number;
  /** It serves nobody: a replica, or what copies of other volumes continue. */
  isReplica: boolean;
}

export type Quarantined = EvidenceRecord & { name: string; elsewhere: Elsewhere[] };

export interface ClaimResult {
  volume: string;
  name: string;
  host: string;
  cell: string;
  /** Of the volume at the host. */
  state: CellState;
  snapshots: number;
}

export interface AdoptResult {
  volume: string;
  cell: string;
  host: string;
  epoch: number;
  /** Holds what was given up, until it is kept as a new volume or forgotten. */
  left: string | null;
}
