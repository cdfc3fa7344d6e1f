// What a coordinator keeps, behind one small interface: LevelDB for one coordinator, etcd for several. Every implementation passes the same
// contract tests.
//
// Invariants: what a promise says is stored survives the loss of power of a minority. A route is only ever replaced by compare-and-set on `gen`.
// Nobody writes who does not lead: a coordinator that was cut off finds its writes refused (`not-leader`), whatever it believes.
// What a write throws says what became of it: after `coordinator-state-uncertain` it may have been stored, and whoever reads next sees which, for good
// (no late copy of it is stored behind that reading); after every other code nothing was stored. Routes that are
// read are frozen, with all that is in them: everybody reads the same ones. Order is that of the bytes of UTF-8.

import type { CellAnswer } from '../model/cell/answer.js';
import type { Operation } from '../model/cell/operation.js';
import type { Head, Route } from '../model/cell/route.js';
import type { GroupPart } from '../model/group-cut.js';

/** An operation that was asked for and has not ended: written before anything of it is sent, so that whoever leads next ends it. */
export interface OperationRecord {
  /** 32 hexadecimal digits: of the call, so that asking again is the same operation. */
  id: string;
  volume: string;
  operation: Operation;
  /** ISO 8601, for people. */
  begun: string;
  /** Who asked: a host, or `coordinator` for what it settles by itself. */
  askedBy: string;
}

/** A snapshot of several volumes in one instant: published or dropped everywhere, whoever leads by then. */
export interface GroupRecord {
  id: string;
  members: GroupPart[];
  /** Of one that only its hosts know: at others, where nothing is to be done. */
  elsewhere?: GroupPart[];
  /** `open`: nothing is decided, so it is dropped by whoever finds it; the others are carried out until all have confirmed. */
  decision: 'open' | 'publish' | 'drop';
  begun: string;
}

/** The highest that was ever seen of a host and of what it holds: lower is an old backup (see docs). */
export interface HostRecord {
  host: string;
  cell: string;
  storeId: string;
  boot: number;
  /** It came back older than it was; nothing of it is served until an operator readmits it. */
  regressed: boolean;
  /** New copies go elsewhere, and what it holds is to be moved away. */
  draining: boolean;
  nbd: string[];
  /** ISO 8601: an operator has given it up then. It is held back when it comes back. */
  forgotten?: string;
  /** It was forgotten, has come back, and is held back since. */
  returned?: boolean;
}

export interface HighestRecord {
  host: string;
  volume: string;
  epoch: number;
  seq: number;
}

export interface CellRecord {
  cell: string;
  created: string;
}

/** Why a volume is in quarantine: both answers and what was known then, kept for whoever has to decide. */
export interface EvidenceRecord {
  volume: string;
  at: string;
  route: Route;
  x: CellAnswer;
  y: CellAnswer;
  trials: { rule: string; holds: boolean; because: string }[];
}

/** The last decisions of a volume, for `route show --explain`. */
export interface DecisionRecord {
  volume: string;
  /** Counts the decisions of the volume. */
  number: number;
  at: string;
  operation: string;
  rule: string;
  trials: { rule: string; holds: boolean; because: string }[];
  x: CellAnswer;
  y: CellAnswer;
  steps: string[];
  result: string;
}

/** The last move of a volume, under way or over. How far one is stands in the journal of its route. */
export interface MoveRecord {
  volume: string;
  move: string;
  from: string;
  fromHost: string;
  to: string;
  toHost: string;
  askedBy: string;
  begun: string;
  /** Null: it is under way. */
  ended: string | null;
  result: 'moved' | 'rolled-back' | 'given-up' | null;
  /** Other volumes whose snapshots the copy continues at its destination: they are not deleted before it has ended. */
  bases: string[];
}

/** A snapshot that its volume's owner has deleted, and these hosts have not. */
export interface SnapshotDeletionRecord {
  volume: string;
  snapshot: string;
  name: string;
  /** ISO 8601. */
  begun: string;
  hosts: string[];
}

/** A beginning of a volume that a host gets because copies of other volumes continue it there. */
export interface BaseRecord {
  volume: string;
  /** Of the volume, for people. */
  name: string;
  host: string;
  from: { host: string; cell: string };
  through: Head;
  complete: boolean;
  /** Volumes that are brought to the same host before, since this one continues them. */
  behind: string[];
  /** The moves it was brought for. */
  needed: { volume: string; move: string }[];
}

/** The kinds of plain records: key by key, without a condition but that of leadership. */
export interface Records {
  operation: OperationRecord;
  group: GroupRecord;
  host: HostRecord;
  highest: HighestRecord;
  cell: CellRecord;
  evidence: EvidenceRecord;
  decision: DecisionRecord;
  move: MoveRecord;
  'snapshot-deletion': SnapshotDeletionRecord;
  base: BaseRecord;
}

export type RecordKind = keyof Records;

export type Replaced = { stored: true; route: Route } | { stored: false; route: Route | null };

export interface CoordinatorStore {
  /** Null: there is none. */
  route(volume: string): Promise<Route | null>;
  routeNamed(name: string): Promise<Route | null>;
  /** All of them, by name; a page at a time. `after`: the last name of the page before. What is being written may be missing from it. */
  routes(after: string | null, limit: number): Promise<Route[]>;
  /** Its `gen` becomes 1, whatever it was. `exists`: the volume has one, or the name is another's. */
  createRoute(route: Route): Promise<'stored' | 'exists'>;
  /**
   * Stored as `gen + 1` if the one that is there has the `gen` of this one; else answers the one that is there. Throws `volume-exists` when
   * the name has changed to one that is another's.
   */
  replaceRoute(route: Route): Promise<Replaced>;
  /** False: it has another `gen` by now, or is gone. */
  removeRoute(volume: string, gen: number): Promise<boolean>;

  /** `key`: an id, a host, a cell, `HOST/VOLUME` of a highest, `VOLUME/NUMBER` of a decision, `VOLUME/SNAPSHOT` of a deletion, `VOLUME/HOST` of a base, the volume of a move or of evidence. */
  get<K extends RecordKind>(kind: K, key: string): Promise<Records[K] | null>;
  /** All whose key begins so, in the order of their keys. */
  list<K extends RecordKind>(kind: K, prefix?: string): Promise<Records[K][]>;
  /**
   * Several at once are stored together or not at all, at most MOST_CHANGES and MOST_BYTES of them (`coordinator-state-too-large`). Null deletes. Of two
   * of one key the later holds.
   */
  put(changes: readonly Change[]): Promise<void>;

  close(): Promise<void>;
}

/** In one put(): what etcd takes in one transaction, with the limits it has when nobody sets them. */
export const MOST_CHANGES = 2_000;
export const MOST_BYTES = 1 << 20;

export type Change = { [K in RecordKind]: { kind: K; key: string; value: Records[K] | null } }[RecordKind];

export interface Leader {
  coordinator: string;
  /** Where agents reach it. */
  address: string;
}

/** Who decides. With one coordinator it is always that one. */
export interface Leadership {
  /** Null: nobody is known to lead. */
  readonly leader: Leader | null;
  /** Ends by this machine's own clock before another one can begin. */
  readonly isLeader: boolean;
  /** Called at every change, and once at the beginning: before this returns. */
  onChange(listener: () => void): void;
  /** Steps down if it leads, so that another one may at once. */
  resign(): Promise<void>;
  /** Resigns, and never leads again. */
  close(): Promise<void>;
}
