// What an agent forwards to the coordinator for its command line: verbs, what each takes, and what it is for.
// Volumes are meant by name; hosts have no say in what a verb does, so each is checked again where it is done.

import { type Static, Type } from '@sinclair/typebox';
import { LIMITS } from './limits.js';
import { Bytes, closed, Id, listOf, Name, nullable, oneOf, PlaceName } from './schema-parts.js';

const volume = { volume: Name };
/** What becomes of snapshots that continue one of another volume which is neither at the destination nor on its way there; `refuse` if it is not said. */
const bases = { bases: Type.Optional(oneOf(['refuse', 'carry', 'unshare'])) };

/** Append only within a version of the protocol. */
export const VERBS = {
  'cell-list': closed({}),
  'cell-show': closed({ cell: PlaceName }),
  'cell-create': closed({ cell: PlaceName }),
  'cell-split': closed({
    cell: PlaceName,
    into: PlaceName,
    /** Null: the busiest ones. */
    volumes: nullable(listOf(Name, LIMITS.members, 1)),
    dryRun: Type.Boolean(),
    ...bases,
  }),
  'cell-rollback': closed({ cell: PlaceName }),
  'cell-promote': closed({ ...volume, host: PlaceName, acceptLoss: Type.Boolean() }),
  /** The host gets a copy of every snapshot of the volume, and may take the place of its primary. */
  'replica-add': closed({ ...volume, host: PlaceName }),
  'replica-remove': closed({ ...volume, host: PlaceName }),
  'host-list': closed({}),
  'host-show': closed({ host: PlaceName }),
  'host-drain': closed({ host: PlaceName, dryRun: Type.Boolean(), ...bases }),
  'host-readmit': closed({ host: PlaceName }),
  /** One that never comes back is dropped from all routes. */
  'host-forget': closed({ host: PlaceName }),
  /** What it has of a volume whose route does not name it is deleted; of one without a route `volume` is the id. */
  'host-purge': closed({ ...volume, host: PlaceName, acceptLoss: Type.Boolean() }),
  /** Several: one instant for all of them. */
  'snapshot-create': closed({
    snapshots: listOf(closed({ ...volume, name: Name }), LIMITS.members, 1),
  }),
  'snapshot-delete': closed({ ...volume, name: Name }),
  'volume-resize': closed({ ...volume, sizeBytes: Bytes }),
  'volume-delete': closed(volume),
  'move-start': closed({ ...volume, cell: PlaceName, withBases: Type.Boolean(), dryRun: Type.Boolean() }),
  'move-status': closed(volume),
  'move-cancel': closed(volume),
  'route-list': closed({ after: nullable(Name) }),
  'route-show': closed({ ...volume, explain: Type.Boolean() }),
  /** An unclaimed volume of a host gets a route. */
  'route-claim': closed({ ...volume, host: PlaceName }),
  'route-forget': closed(volume),
  /** Of a copy's receiver, not of a person: the digest as the host it came from has it. */
  'copy-digest': closed({ volume: Id, host: PlaceName, snapshot: Id, since: nullable(Id) }),
  'quarantine-list': closed({}),
  /** `host`: of two parts in that cell the one to go on with. */
  'quarantine-adopt': closed({ ...volume, cell: PlaceName, host: Type.Optional(PlaceName) }),
  /** What an operator has given up of a volume is thrown away. */
  'quarantine-discard': closed(volume),
  'quarantine-keep-fork': closed({ ...volume, as: Name }),
} as const;

export type Verb = keyof typeof VERBS;

export type Arguments<V extends Verb> = Static<(typeof VERBS)[V]>;
