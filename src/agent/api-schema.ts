// The control API's values: one schema each, which validates what comes in, types the routes and the CLI, serialises what goes
// out and documents it in docs/openapi.json. Byte quantities are JSON integers; they may exceed 2^53.

import { type Static, Type } from '@sinclair/typebox';
import type { ContainerKind } from '../model/entities.js';
import { MODE_BITS } from '../model/file-attributes.js';
import { Bytes, BytesOrNull, closed, Moment, nullable, oneOf, Time, titled } from './schema-parts.js';
import { LimitsInput, settingInputs, settingProperties } from './settings-schema.js';

export const ErrorAnswer = closed(
  {
    error: closed({
      kind: Type.String({
        description: 'Few and stable; decides the HTTP status and the exit code of the CLI.',
      }),
      code: Type.String({ description: 'Stable name of the cause.' }),
      message: Type.String({ description: 'What is wrong, one sentence.' }),
      hint: Type.String({ description: 'What to do, one sentence.' }),
    }),
  },
  { title: 'Refusal', description: 'Why the request was refused.' },
);

export const SizeInput = Type.Union([Type.Integer(), Type.String()], {
  description: 'Bytes, or a number with K, M, G, T, P or E (binary), such as "10G".',
});

export const VolumeParams = closed({
  name: Type.String({ description: 'Name of the volume, percent-encoded.' }),
});
export const SnapshotParams = closed({
  name: Type.String({ description: 'VOLUME@SNAPSHOT, percent-encoded.' }),
});
export const TaskParams = closed({ id: Type.Integer({ minimum: 1, description: 'Number of the task.' }) });

const access = {
  allow: Type.Optional(
    Type.Array(Type.String(), {
      maxItems: 10_000,
      description:
        'Who may open it and its snapshots over NBD: `uid:NUMBER` (over unix sockets), `tls:IDENTITY` (a `*` at its end stands for anything). Empty: everybody who reaches a socket.',
    }),
  ),
  description: Type.Optional(Type.String({ description: 'Text NBD clients are shown. Empty: none.' })),
};
export const CreateVolume = closed({
  name: Type.String(),
  size: SizeInput,
  ...access,
  limits: Type.Optional(LimitsInput),
});
const change = {
  name: Type.Optional(Type.String({ description: 'New name.' })),
  size: Type.Optional(SizeInput),
  force: Type.Optional(Type.Boolean({ description: 'Allow the volume to shrink.' })),
  ...access,
  disconnect: Type.Optional(
    Type.Boolean({
      description:
        'Close all open connections after a change of `allow` or `description`; who may, connects again. Without it they stay.',
    }),
  ),
};
export const ChangeVolume = closed({ ...change, ...settingInputs });
const UserOrGroup = Type.Integer({ minimum: 0, maximum: 2 ** 32 - 2 });
const fileAttributes = {
  owner: UserOrGroup,
  group: UserOrGroup,
  mode: Type.Integer({ minimum: 0, maximum: MODE_BITS, description: 'Permissions, 0 to 4095 (07777).' }),
  xattrs: Type.Record(
    Type.String({ pattern: '^user\\.[^\\0]{1,250}$' }),
    Type.String({ pattern: '^[A-Za-z0-9+/]{0,87384}={0,2}$' }),
    { additionalProperties: false, description: 'Extended attributes `user.*`: base64 by name.' },
  ),
  birth: Moment,
  modified: Moment,
};
export const Attributes = titled('Attributes', { ...fileAttributes, birth: Time, modified: Time });
const AttributesInput = Type.Partial(closed(fileAttributes), {
  description: 'What is not given stays, or is that of a new file; `modified` only advances.',
});
export const CreateFile = closed({
  ...CreateVolume.properties,
  attributes: Type.Optional(AttributesInput),
});
export const ChangeFile = closed({
  ...change,
  attributes: Type.Optional(AttributesInput),
});
export const DeleteVolumeQuery = closed({
  with_snapshots: Type.Optional(Type.Boolean({ description: 'Delete its snapshots too.' })),
  disconnect: Type.Optional(
    Type.Boolean({ description: 'Close the connections of clients instead of refusing.' }),
  ),
});
export const CreateSnapshots = closed({
  targets: Type.Array(Type.String({ description: 'VOLUME@SNAPSHOT' }), {
    minItems: 1,
    description: 'All are taken in one instant, or none is.',
  }),
  expires: Type.Optional(Moment),
  local: Type.Optional(
    Type.Boolean({
      description: 'Volumes of cells too, without their coordinator, if this host serves them.',
    }),
  ),
});
export const DeleteSnapshots = closed({
  targets: Type.Array(Type.String({ description: 'VOLUME@SNAPSHOT' }), { minItems: 1 }),
});
export const SnapshotsQuery = closed({
  volume: Type.Optional(Type.String({ description: 'Only of this volume.' })),
});
export const DiffQuery = closed({
  from: Type.String({ description: 'VOLUME@SNAPSHOT' }),
  to: Type.String({ description: 'VOLUME@SNAPSHOT, or VOLUME for its current state.' }),
  offset: Type.Optional(
    Type.String({ pattern: '^[0-9]{1,19}$', description: 'Where to begin: `next` of the page before.' }),
  ),
});
export const CreateClone = closed({
  source: Type.String({ description: 'VOLUME@SNAPSHOT' }),
  name: Type.String(),
  new_identity: Type.Optional(
    Type.Boolean({ description: 'Give its file systems, partitions and disk ids of their own.' }),
  ),
  expires: Type.Optional(Moment),
});
export const TaskQuery = closed({
  stream: Type.Optional(
    Type.Boolean({ description: 'One JSON line at every change until the task has ended.' }),
  ),
});
export const DebugBusy = closed({ ms: Type.Integer({ minimum: 0, maximum: 60_000 }) });

export const Failure = titled('Failure', {
  at: Time,
  error: Type.String({ description: 'Name of the errno.' }),
});

/** What the answer is of; in types it may be any: one shape for all. */
const kinds = (...values: ContainerKind[]) => Type.Unsafe<ContainerKind>({ type: 'string', enum: values });

export const cellStanding = {
  id: Type.String({ description: 'Of the volume on every host: 32 hexadecimal digits.' }),
  state: oneOf(['ACTIVE', 'OUTGOING', 'STAGED', 'SEALED', 'RECEIVING', 'FAULTED', 'GONE']),
  role: oneOf(['primary', 'replica', 'copy', 'former']),
  epoch: Type.Integer(),
  seq: Type.Integer({ description: 'Of its last snapshot; 0: it has none.' }),
  served: Type.Boolean({ description: 'Clients may open it here.' }),
  continuedBy: Type.Array(Type.String(), {
    description:
      'Of a replica: volumes and files here that go on from its snapshots; they keep what they need when it goes.',
  }),
};
const volumeProperties = {
  name: Type.String(),
  id: Type.Integer({ description: 'Stable; the name may change.' }),
  kind: kinds('volume'),
  sizeBytes: Bytes,
  created: Time,
  clonedFrom: nullable(Type.String({ description: 'VOLUME@SNAPSHOT' })),
  expires: nullable(Time),
  snapshots: Type.Integer(),
  connections: Type.Integer({ description: 'Open NBD connections.' }),
  open: Type.Boolean({ description: 'Opened by the data plane.' }),
  readOnly: Type.Boolean(),
  failed: nullable(Failure),
  allow: Type.Array(Type.String(), { description: 'Who may open it over NBD; empty: everybody.' }),
  description: Type.String(),
  cell: nullable(
    closed(cellStanding, { description: 'Where it stands at this host; null: it belongs to no cell.' }),
  ),
};
export const Volume = titled('Volume', { ...volumeProperties, ...settingProperties });
const fileProperties = { ...volumeProperties, kind: kinds('file'), attributes: nullable(Attributes) };
export const File = titled('File', fileProperties);
export const Clone = titled('Clone', { ...volumeProperties, kind: kinds('volume', 'file') });

export const Snapshot = titled('Snapshot', {
  id: Type.String(),
  volume: Type.String(),
  name: Type.String(),
  fullName: Type.String({ description: 'VOLUME@SNAPSHOT; also the name of the export.' }),
  sizeBytes: Bytes,
  created: Time,
  expires: nullable(Time),
  clones: Type.Array(Type.String()),
  connections: Type.Integer(),
});

const details = {
  snapshotList: Type.Array(Snapshot),
  depth: Type.Integer({ description: 'Live versions below the current one.' }),
  files: Type.Array(Type.String({ description: 'Relative to the store directory.' })),
};
export const VolumeDetails = titled('VolumeDetails', {
  ...volumeProperties,
  ...settingProperties,
  ...details,
});
export const FileDetails = titled('FileDetails', { ...fileProperties, ...details });

export const Task = titled('Task', {
  id: Type.Integer(),
  kind: oneOf(['volume-delete', 'snapshot-delete', 'import', 'export', 'check', 'sweep']),
  subject: Type.String(),
  state: oneOf(['running', 'done', 'failed', 'cancelled']),
  created: Time,
  ended: nullable(Time),
  done: Bytes,
  total: BytesOrNull,
  unit: oneOf(['bytes', 'records']),
  percent: nullable(Type.Number()),
  cancellable: Type.Boolean(),
  error: nullable(closed({ code: Type.String(), message: Type.String(), hint: Type.String() })),
});

export const DeletePlan = titled('DeletePlan', {
  volume: Clone,
  snapshots: Type.Array(Snapshot, { description: 'Would be deleted with it.' }),
  clones: Type.Array(Type.String(), { description: 'Stay as they are.' }),
  connections: Type.Integer(),
});

export const RepairReport = titled('RepairReport', {
  volume: Type.String(),
  failure: Failure,
  warning: Type.String({ description: 'What may be lost.' }),
});

export const Recovery = titled('Recovery', {
  isNew: Type.Boolean({ description: 'The store was made by this start.' }),
  clean: Type.Boolean(),
  powerLoss: Type.Boolean(),
  entriesSeen: Type.Integer(),
  entriesCounted: Type.Integer(),
  cutsCompleted: Type.Integer(),
  failedVolumes: Type.Array(Type.String()),
  milliseconds: Type.Number(),
});

const FreeSpace = titled('FreeSpace', {
  freeBytes: Bytes,
  reserveBytes: Bytes,
  belowReserve: Type.Boolean({
    description: 'Less is free than the reserve: first writes, new volumes and snapshots are refused.',
  }),
});

export const membership = {
  host: Type.String(),
  cell: Type.String(),
  connected: Type.Boolean(),
  coordinator: nullable(Type.String({ description: 'The one that took this host last.' })),
  leader: nullable(Type.String()),
  serving: Type.Boolean({ description: 'Volumes of cells are served: the cold start is over.' }),
};
export const Status = titled('Status', {
  version: Type.String(),
  pid: Type.Integer(),
  uptimeSeconds: Type.Number(),
  listeners: Type.Array(Type.String({ description: 'unix:PATH or tcp:HOST:PORT' })),
  tls: closed({
    mode: oneOf(['off', 'selective', 'forced']),
    clients: oneOf(['none', 'optional', 'required']),
    psk: Type.Boolean({ description: 'Clients may come with a pre-shared key.' }),
    certificate: nullable(closed({ subject: Type.String(), expires: Time })),
    begun: Type.Integer({ description: 'Handshakes of TLS that were completed since the start.' }),
    failed: Type.Integer({ description: 'Handshakes of TLS that failed.' }),
  }),
  store: closed({
    directory: Type.String(),
    id: Type.String(),
    formatVersion: Type.Integer(),
    windowBytes: Bytes,
    journalBytes: Bytes,
    space: Type.Optional(FreeSpace),
    state: oneOf(['running', 'read-only', 'healing', 'stopping']),
    recovery: Recovery,
  }),
  counts: closed({
    volumes: Type.Integer(),
    snapshots: Type.Integer(),
    connections: Type.Integer(),
    openDevices: Type.Integer(),
    pendingDeletes: Type.Integer(),
    pendingPunches: Type.Integer(),
  }),
  coordinator: nullable(closed(membership, { description: 'Null: the host is in no cell.' })),
  failedVolumes: Type.Array(Type.String()),
  engine: Type.String(),
});

export const Difference = titled('Difference', {
  from: Type.String(),
  to: Type.String(),
  extents: Type.Array(closed({ offset: Bytes, lengthBytes: Bytes, kind: oneOf(['data', 'zero']) }), {
    description: 'What may differ, sorted; `zero`: reads as zeros in `to`.',
  }),
  next: Type.Unsafe<bigint | null>({
    type: 'integer',
    nullable: true,
    minimum: 0,
    description: 'Offset to ask for the next page with; null: this was the last.',
  }),
});

const SpaceUse = titled('SpaceUse', {
  name: Type.String({ description: 'VOLUME or VOLUME@SNAPSHOT' }),
  logicalBytes: Bytes,
  allocatedBytes: Type.Unsafe<bigint>({
    type: 'integer',
    minimum: 0,
    description: 'Blocks that read as data, whoever wrote them.',
  }),
  exclusiveBytes: Type.Unsafe<bigint>({
    type: 'integer',
    minimum: 0,
    description: 'Blocks that nobody else reads; of a volume: but it and its snapshots.',
  }),
  reclaimableBytes: Type.Unsafe<bigint>({
    type: 'integer',
    minimum: 0,
    description:
      'What deleting it gives back; of a volume: with all its snapshots. A snapshot that two or more continue stays until one is left, and gives back nothing yet.',
  }),
  unreadBytes: Type.Unsafe<bigint>({
    type: 'integer',
    minimum: 0,
    description:
      'Held in a volume for deleted snapshots and read by nobody; given back in the background, or when only one continues them. Of a snapshot: 0.',
  }),
});
export const StoreSpace = titled('StoreSpace', {
  volumes: Type.Array(SpaceUse),
  snapshots: Type.Array(SpaceUse),
  fileSystem: closed({ sizeBytes: Bytes, freeBytes: Bytes, reserveBytes: Bytes }),
});

export const CheckQuery = closed({
  stream: Type.Optional(
    Type.Boolean({
      description:
        'JSON lines {type: "progress", done, total}, {type: "problem", ...} and at the end {type: "report", ...} or {type: "error", ...}.',
    }),
  ),
});
const CheckProblem = closed({
  severity: oneOf(['error', 'warning']),
  code: Type.String(),
  message: Type.String(),
});
export const CheckReport = titled('CheckReport', {
  clean: Type.Boolean({ description: 'No problem of severity error.' }),
  problems: Type.Array(CheckProblem),
  recordsSeen: Bytes,
});

export type Difference = Static<typeof Difference>;
export type StoreSpace = Static<typeof StoreSpace>;
export type CheckReport = Static<typeof CheckReport>;
export type Status = Static<typeof Status>;
export type Volume = Static<typeof Volume>;
export type VolumeDetails = Static<typeof VolumeDetails>;
export type File = Static<typeof File>;
export type FileDetails = Static<typeof FileDetails>;
export type Attributes = Static<typeof Attributes>;
export type Snapshot = Static<typeof Snapshot>;
export type Task = Static<typeof Task>;
export type DeletePlan = Static<typeof DeletePlan>;
export type RepairReport = Static<typeof RepairReport>;
export type ErrorAnswer = Static<typeof ErrorAnswer>;
