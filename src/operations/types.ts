// What goes into the operations and what comes out: plain values, no ids of LevelDB, byte quantities as bigint.

import type { Level } from '../catalog/level.js';
import type { HostRecord } from '../model/cell/host-record.js';
import type { ContainerKind } from '../model/entities.js';
import type { FileAttributes } from '../model/file-attributes.js';
import type { Limits, TransactionLogSetting } from '../model/volume-settings.js';
import type { KeptClient, Plane, PlaneCounters } from '../plane/treaty.js';
import type { CopyCredentials } from './copy/source.js';
import type { Copies, CopyHost } from './copy/treaty.js';
import type { KernelRoots } from './kernel/kernel-files.js';
import type { IdentityFactory } from './sync-types.js';

/** The part of a pino logger that is used here. */
export interface Logger {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

export interface OperationsOptions {
  /** Store directory; made when it is not there. */
  directory: string;
  plane: Plane;
  log: Logger;
  /** Window size of a store that has to be made: a power of two, 64 KiB to 4 MiB. An existing store keeps its own. */
  windowBytes?: number;
  /** Bytes of the journal of a store that has to be made. */
  journalBytes?: bigint;
  reactors?: number;
  engine?: 'automatic' | 'io_uring' | 'workers';
  direct?: boolean;
  /** Clients are told that the disks below rotate. */
  rotational?: boolean;
  cacheBytes?: bigint;
  /** Free bytes below which first writes and new volumes are refused. */
  reserveBytes?: bigint;
  /** Size of the ballast file that is given up first when LevelDB hits a full disk. */
  ballastBytes?: number;
  roundAfterMs?: number;
  maxConnections?: number;
  /** Of one uid or address; 0: as many as there may be in all. */
  maxConnectionsPerClient?: number;
  handshakeTimeoutMs?: number;
  /** Volumes that are served in TLS only, and told of there only; by name. */
  needsTls?: (name: string) => boolean;
  /** `VOLUME` or `VOLUME@SNAPSHOT` that clients get who ask for no name; null: none. */
  defaultExport?: string | null;
  /** Directory for transaction logs of volumes; not given: none may have one. */
  transactionLogs?: string;
  /** A device without connections is closed after this. */
  idleCloseMs?: number;
  /** Clients are held by a sync at most so long, else it is undone. */
  holdLimitMs?: number;
  /** Treat the start as one after power loss whatever the incarnation says (`store recover --as-power-loss`). */
  asPowerLoss?: boolean;
  /** Tried at the start, since a store needs it: throws with `code`, EOPNOTSUPP where the file system has no holes. Not given: taken for granted. */
  punchHole?: (fd: number, offset: bigint, length: bigint) => void;
  /** Called before a new store is made, and of one that is there when it is known to be held by nobody else: a last look around. */
  beforeMaking?: () => Promise<void>;
  /** Who this host is in a cell; not given: in none, and records of cells that are there are kept. */
  cells?: CellOptions;
  /** Connections of devices of the kernel that an earlier process of this store left. Asked for once; they are taken over. */
  keptConnections?: (storeId: string) => readonly KeptClient[];
  /** Where udev finds what devices of the kernel are of; not given, or null: they have numbers only. */
  deviceNames?: string | null;
  /** Tests only: in place of who brings snapshots from other hosts. */
  copies?: (host: CopyHost) => Copies;
  /** Tests only: handed to the data plane. */
  simulation?: object;
  /** Tests only: in place of the kinds of identity there are. */
  identity?: IdentityFactory;
  /** Tests only: a database in place of LevelDB in the directory. */
  level?: Level;
  /** Tests only: in place of the kernel's boot id. */
  bootId?: string;
  /** Tests only: in place of /sys, /proc and /dev. */
  kernelRoots?: KernelRoots;
  /** Tests only: pauses between attempts to write, instead of real time. */
  pause?: (attempt: number) => Promise<void>;
}

export interface CellOptions {
  host: string;
  cell: string;
  /** How long volumes of cells wait at a start for a coordinator; null: for ever. */
  serveAloneAfterMs?: number | null;
  /** What copies from other hosts may bring together; null: as much as there is. */
  copyBytesPerSecond?: bigint | null;
  /** How copies prove to other hosts who this one is; not given, or null: they go in clear. */
  copyCredentials?: () => CopyCredentials | null;
}

export interface FailureInfo {
  /** ISO 8601. */
  at: string;
  /** errno name, `EIO` say. */
  error: string;
}

/** Who may open the exports of a volume, and what they are told of it. */
export interface Access {
  /** See model/access.ts; empty: everybody who reaches the socket. */
  allow: string[];
  description: string;
}

/** Where a volume of a cell stands at this host: for people. */
export interface CellState {
  /** 32 hexadecimal digits, the same on every host. */
  id: string;
  state: HostRecord['state'];
  role: 'primary' | 'replica' | 'copy' | 'former';
  epoch: number;
  /** Seq of its last snapshot; 0: it has none. */
  seq: number;
  served: boolean;
  /** Of a replica: volumes and files here that go on from its snapshots; they keep what they need of it when it goes. */
  continuedBy: string[];
}

export interface VolumeInfo extends Access {
  name: string;
  /** Stable number of the container; names may change. */
  id: number;
  kind: ContainerKind;
  sizeBytes: bigint;
  /** ISO 8601. */
  created: string;
  /** `VOLUME@SNAPSHOT` it was cloned from, as far as that is still known. */
  clonedFrom: string | null;
  /** ISO 8601: deleted by itself then. */
  expires: string | null;
  snapshots: number;
  /** Open NBD connections. */
  connections: number;
  /** Opened by the data plane right now. */
  open: boolean;
  readOnly: boolean;
  /** Not null: write-back failed; read-only until `volume repair`. */
  failed: FailureInfo | null;
  /** Of a file; null: it is none. */
  attributes: FileAttributes | null;
  /** Null: none. */
  limits: Limits | null;
  /** `lost`: why it is not written, null while it is. */
  transactionLog: (TransactionLogSetting & { lost: string | null }) | null;
  /** Null: it belongs to no cell. */
  cell: CellState | null;
}

export interface VolumeDetails extends VolumeInfo {
  snapshotList: SnapshotInfo[];
  /** Live versions below the current one, over all bases. */
  depth: number;
  /** Extents files, paths relative to the store directory. */
  files: string[];
}

export interface SnapshotInfo {
  /** 32 hexadecimal digits. */
  id: string;
  volume: string;
  name: string;
  /** `VOLUME@SNAPSHOT`. */
  fullName: string;
  sizeBytes: bigint;
  created: string;
  /** ISO 8601: deleted by itself then. */
  expires: string | null;
  /** Volumes whose data continues here. */
  clones: string[];
  connections: number;
}

export type TaskKind = 'volume-delete' | 'snapshot-delete' | 'import' | 'export' | 'check' | 'sweep';
export type TaskState = 'running' | 'done' | 'failed' | 'cancelled';

export interface TaskInfo {
  id: number;
  kind: TaskKind;
  /** What it works on, for people. */
  subject: string;
  state: TaskState;
  created: string;
  ended: string | null;
  /** Units done and to do (bytes or records, as `unit` says); total null: not known yet. */
  done: bigint;
  total: bigint | null;
  unit: 'bytes' | 'records';
  /** 0 to 100, or null while the total is unknown. */
  percent: number | null;
  cancellable: boolean;
  error: { code: string; message: string; hint: string } | null;
}

export interface RepairReport {
  volume: string;
  failure: FailureInfo;
  /** One sentence: what may be lost. */
  warning: string;
}

export interface OperationsStatus {
  directory: string;
  storeId: string;
  formatVersion: number;
  windowBytes: number;
  /** Size of the journal's ring. */
  journalBytes: bigint;
  volumes: number;
  snapshots: number;
  openDevices: number;
  /** Versions that are deleted and still wait to be freed or merged. */
  pendingDeletes: number;
  pendingPunches: number;
  failedVolumes: string[];
  /** Since the start: done, refused or undone, and how long clients were held in all. */
  syncs: { done: number; refused: number; heldMs: number };
  /** Clients that asked for an export they may not use, since the start. */
  accessRefused: number;
  /** `running`; `read-only`: the journal failed; `healing`: LevelDB refuses writes, it is being reopened. */
  state: 'running' | 'read-only' | 'healing' | 'stopping';
  recovery: RecoveryReport;
  plane: PlaneCounters;
}

/** What the start found and did. */
export interface RecoveryReport {
  /** The store was made by this start: nothing was to be recovered. */
  isNew: boolean;
  /** The last stop was a clean one, or there was none yet. */
  clean: boolean;
  powerLoss: boolean;
  entriesSeen: number;
  entriesCounted: number;
  cutsCompleted: number;
  /** Volumes whose last writes did not count because their write-back had failed. */
  failedVolumes: string[];
  milliseconds: number;
}
