// Schemas of what hosts and a coordinator say of volumes: the types of src/model/cell as they go over the wire. Held to those types when
// they are compiled.

import { Type } from '@sinclair/typebox';
import type { HostAnswer } from '../model/cell/answer.js';
import type { HostCommand } from '../model/cell/host-record.js';
import type { Operation } from '../model/cell/operation.js';
import type { CommandOutcome } from '../model/cell/resolution.js';
import type { Head as ModelHead } from '../model/cell/route.js';
import { CELL_STATES } from '../model/cell/states.js';
import { LIMITS } from './limits.js';
import {
  Address,
  Bytes,
  Code,
  Count,
  closed,
  Id,
  listOf,
  Name,
  nullable,
  oneOf,
  PlaceName,
  Positive,
  type Same,
  Text,
} from './schema-parts.js';

/** The lists of the model, without the states that nobody says of itself. */
const ANSWERED = CELL_STATES.filter((state) => state !== 'UNKNOWN');
const RECORDED = ANSWERED.filter((state) => state !== 'NONE');

export const Head = closed(
  { id: Id, seq: Count },
  { description: 'The end of a lineage. Hidden snapshots have the seq of the visible one before them.' },
);
export const HeadOrNull = nullable(Head);

export const RecordState = oneOf([...RECORDED, 'GONE'] as const);

export const MovePart = closed({
  id: Id,
  role: oneOf(['source', 'destination']),
  phase: Code,
  peerCell: PlaceName,
  completeThrough: HeadOrNull,
});

export const Tombstone = closed({ epoch: Count, why: oneOf(['delete', 'purge']) });

/** A record of the ids of visible snapshots by seq; JSON has only strings as keys. */
const Lineage = Type.Unsafe<HostAnswer['lineage']>(
  Type.Record(Type.String({ pattern: '^[1-9][0-9]{0,15}$' }), Id, {
    maxProperties: LIMITS.lineage,
    additionalProperties: false,
    description: 'Ids of visible snapshots by seq: those that were asked for and the latest ones.',
  }),
);

export const Answer = closed({
  host: PlaceName,
  cell: PlaceName,
  storeId: Id,
  state: oneOf(ANSWERED),
  epoch: Count,
  lineageHead: HeadOrNull,
  sealedHead: HeadOrNull,
  activatedFrom: HeadOrNull,
  dirtySinceHead: Type.Boolean(),
  released: nullable(Count),
  move: nullable(MovePart),
  tombstone: nullable(Tombstone),
  inFlight: nullable(Id),
  replica: nullable(closed({ completeThrough: HeadOrNull })),
  lineage: Lineage,
});

const verb = <const Verb extends string, Properties extends Parameters<typeof closed>[0]>(
  name: Verb,
  properties: Properties,
) => closed({ do: Type.Literal(name), ...properties });

export const Command = Type.Union([
  verb('snapshot', { epoch: Count, id: Id, parent: nullable(Id) }),
  verb('outgoing', { epoch: Count, move: Id, peerCell: PlaceName }),
  verb('stay-here', { epoch: Count, move: Id }),
  verb('carry', { epoch: Count, move: Id, id: Id, after: nullable(Id) }),
  verb('seal', { epoch: Count, id: Id }),
  verb('fence', { releasedTo: Count }),
  verb('release', { releasedTo: Count }),
  verb('receive', { move: Id, peerCell: PlaceName }),
  verb('staged', { move: Id, through: Head, lineageHead: HeadOrNull }),
  verb('demote', { move: Id, through: nullable(Id) }),
  verb('activate', { epoch: Count, from: HeadOrNull }),
  verb('replicate', { epoch: Count }),
  verb('promote', { epoch: Count }),
  verb('adopt', { epoch: Count }),
  verb('keep-fork', { volume: Id, name: Name }),
  verb('purge', {}),
  verb('delete', { epoch: Count }),
  verb('forget-snapshot', { id: Id }),
  verb('fault', {}),
  verb('readmit', {}),
]);

/** The operations that are performed at a host. */
export const PerformedOperation = Type.Union([
  closed({ kind: Type.Literal('snapshot'), id: Id, name: Name }),
  closed({ kind: Type.Literal('resize'), sizeBytes: Bytes }),
  closed({ kind: Type.Literal('delete') }),
  closed({ kind: Type.Literal('snapshot-delete'), id: Id, name: Name }),
]);

/** What became of a command or an operation; whoever hears nothing in time takes it as silent. */
export const Outcome = Type.Union([
  closed({ kind: Type.Literal('done'), head: Type.Optional(HeadOrNull) }),
  closed({
    kind: Type.Literal('refused'),
    refusal: oneOf([
      'STALE_EPOCH',
      'LINEAGE_MISMATCH',
      'WRONG_STATE',
      'RELEASED',
      'OTHER_MOVE',
      'INCOMPLETE',
    ]),
    because: Text,
  }),
  closed({ kind: Type.Literal('failed'), code: Code, message: Text }),
]);

/** A snapshot as its lineage has it, hidden ones included. */
export const SnapshotFacts = closed({
  id: Id,
  seq: Count,
  /** Made to carry a delta of a move: has the seq of the visible one before it. */
  hidden: Type.Boolean(),
  /** As it is exported where it is: VOLUME@NAME. */
  name: Name,
  sizeBytes: Bytes,
  /** ISO 8601. */
  created: Text,
  expires: nullable(Text),
  /** Where its map continues: the snapshot, and the volume it belongs to; null: nowhere, or nobody knows that volume by an id. */
  base: nullable(closed({ volume: Id, snapshot: Id })),
  /** Visible ones between the one before it and this one that were deleted: their ids stay in the lineage, wherever it goes. */
  deletedBefore: Type.Optional(listOf(closed({ id: Id, seq: Positive }), LIMITS.lineage)),
});

/** What there is of a volume at a host: what a copy of it has to be like. */
export const Description = closed({
  name: Name,
  kind: oneOf(['volume', 'file']),
  sizeBytes: Bytes,
  /** Of a file: as the control API has them. */
  attributes: nullable(Type.Record(Type.String({ maxLength: 64 }), Type.Unknown(), { maxProperties: 16 })),
  description: Text,
  /** Where its current map continues, if that is a snapshot of another volume that has an id. */
  base: nullable(closed({ volume: Id, snapshot: Id })),
  /** Who may open its exports; empty: everybody who reaches the host. */
  allow: listOf(Type.String({ maxLength: 1100 }), LIMITS.allowed),
  /** Oldest first, behind the one that was asked for. */
  snapshots: listOf(SnapshotFacts, LIMITS.lineage),
  /** There are more behind these. */
  more: Type.Boolean(),
});

/** What a copy is to be, and where it is to be had. */
export const Pull = closed({
  /** Null: a replica of the same cell. */
  move: nullable(Id),
  /** Tried in order; NBD addresses as the host's hello has them. */
  from: closed({ host: PlaceName, cell: PlaceName, addresses: listOf(Address, LIMITS.addresses, 1) }),
  description: Description,
  /** Complete when this one is here; null: it goes on until it is told otherwise. */
  through: HeadOrNull,
  /** Null: as fast as it goes. */
  bytesPerSecond: nullable(Positive),
});

/** A volume of a snapshot of several in one instant, the host that has it, and the snapshot it gets. */
const GroupPart = closed({ volume: Id, host: PlaceName, epoch: Count, snapshot: Id, name: Name });

/** What was cut, and neither published nor dropped: with all its parts, wherever they are. */
export const OpenGroup = closed({ group: Id, parts: listOf(GroupPart, LIMITS.members, 1) });

/** One step of a snapshot of several volumes in one instant; each is taken once, and may be asked again. */
export const GroupStep = Type.Union([
  /** Holds the clients of all of them; they go on by themselves after `limitMs`, whatever becomes of the coordinator. */
  verb('quiesce', { volumes: listOf(Id, LIMITS.members, 1), limitMs: Positive }),
  /** Provisional snapshots of what is held: in no lineage and in no list. */
  verb('cut', {
    members: listOf(
      closed({ volume: Id, epoch: Count, parent: HeadOrNull, id: Id, name: Name }),
      LIMITS.members,
      1,
    ),
    /** Of all hosts: kept with the cut, and told in a hello. */
    parts: listOf(GroupPart, LIMITS.members, 1),
  }),
  /** Clients go on; says whether they were held until now. */
  verb('resume', {}),
  verb('publish', {}),
  verb('drop', {}),
]);

export const GroupOutcome = Type.Union([
  closed({
    kind: Type.Literal('done'),
    /** `expired`: clients went on by themselves; `none`: nothing of this group is known here. */
    held: oneOf(['held', 'expired', 'none']),
    /** For how long in all, up to now. */
    heldMs: Type.Number({ minimum: 0 }),
    heads: listOf(closed({ volume: Id, head: Head }), LIMITS.members),
  }),
  closed({ kind: Type.Literal('failed'), code: Code, message: Text, volume: nullable(Id) }),
]);

/** How much was written to a volume since the agent began. */
export const VolumeLoad = closed({ id: Id, writtenBytes: Bytes });

/** A volume as a host has it on record. */
export const VolumeFacts = closed({ id: Id, epoch: Count, head: HeadOrNull, state: RecordState });

/** The highest a coordinator has ever seen of it at this host. */
export const VolumeHighest = closed({ id: Id, epoch: Count, seq: Count });

export const BootCounter = Positive;

type Told<Kind extends Operation['kind']> = Extract<Operation, { kind: Kind }>;

/** Fails to compile when a schema and its type of the model have gone apart. */
export const HELD_TO_THE_MODEL: readonly true[] = [
  true satisfies Same<typeof Head, ModelHead>,
  true satisfies Same<typeof Answer, HostAnswer>,
  true satisfies Same<typeof Command, HostCommand>,
  true satisfies Same<typeof Outcome, Exclude<CommandOutcome, { kind: 'silent' }>>,
  true satisfies Same<typeof PerformedOperation, Told<'snapshot' | 'resize' | 'delete' | 'snapshot-delete'>>,
];
