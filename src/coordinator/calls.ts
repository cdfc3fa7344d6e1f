// The verbs of src/protocol/verbs.ts, each with what carries it out.

import type { Call } from '../protocol/exchange.js';
import type { Arguments, Verb } from '../protocol/verbs.js';
import type { CellVerbs } from './cell-verbs.js';
import type { Claims } from './claims.js';
import type { HostForgetting } from './host-forgetting.js';
import type { HostVerbs } from './host-verbs.js';
import type { MoveVerbs } from './move-verbs.js';
import type { Ports } from './ports.js';
import type { QuarantineVerbs } from './quarantine-verbs.js';
import { hostError, hostSilent } from './refusals.js';
import type { RouteVerbs } from './route-verbs.js';
import type { SnapshotVerbs } from './snapshot-verbs.js';
import type { Strays } from './strays.js';
import type { VolumeVerbs } from './volume-verbs.js';

export interface Verbs {
  cells: CellVerbs;
  hosts: HostVerbs;
  forgetting: HostForgetting;
  strays: Strays;
  volumes: VolumeVerbs;
  snapshots: SnapshotVerbs;
  moves: MoveVerbs;
  routes: RouteVerbs;
  claims: Claims;
  quarantine: QuarantineVerbs;
  ports: Ports;
}

type Carry<V extends Verb> = (verbs: Verbs, given: Arguments<V>, host: string) => Promise<unknown>;

const CALLS: { [V in Verb]: Carry<V> } = {
  'cell-list': ({ cells }) => cells.list(),
  'cell-show': ({ cells }, given) => cells.show(given),
  'cell-create': ({ cells }, given) => cells.create(given),
  'cell-split': ({ cells }, given, host) => cells.split(given, host),
  'cell-rollback': ({ cells }, given) => cells.rollback(given),
  'cell-promote': ({ cells }, given) => cells.promote(given),
  'replica-add': ({ cells }, given) => cells.addReplica(given),
  'replica-remove': ({ cells }, given) => cells.removeReplica(given),
  'host-list': ({ hosts }) => hosts.list(),
  'host-show': ({ hosts }, given) => hosts.show(given),
  'host-drain': ({ hosts }, given, host) => hosts.drain(given, host),
  'host-readmit': ({ hosts }, given) => hosts.readmit(given),
  'host-forget': ({ forgetting }, given) => forgetting.forget(given),
  'host-purge': ({ strays }, given) => strays.purge(given),
  'snapshot-create': ({ volumes }, given, host) => volumes.snapshot(given, host),
  'snapshot-delete': ({ snapshots }, given, host) => snapshots.delete(given, host),
  'volume-resize': ({ volumes }, given, host) => volumes.resize(given, host),
  'volume-delete': ({ volumes }, given, host) => volumes.delete(given, host),
  'move-start': ({ moves }, given, host) => moves.start(given, host),
  'move-status': ({ moves }, given) => moves.status(given),
  'move-cancel': ({ moves }, given) => moves.cancel(given),
  'route-list': ({ routes }, given) => routes.list(given),
  'route-show': ({ routes }, given) => routes.show(given),
  'route-claim': ({ claims }, given) => claims.claim(given),
  'route-forget': ({ routes }, given) => routes.forget(given),
  'copy-digest': ({ ports }, given) => digest(ports, given),
  'quarantine-list': ({ quarantine }) => quarantine.list(),
  'quarantine-adopt': ({ quarantine }, given) => quarantine.adopt(given),
  'quarantine-discard': ({ quarantine }, given) => quarantine.discard(given),
  'quarantine-keep-fork': ({ quarantine }, given) => quarantine.keepFork(given),
};

/** `host`: who has forwarded it. */
export function carryOutCall(verbs: Verbs, host: string, call: Call): Promise<unknown> {
  const carry = CALLS[call.verb as Verb] as Carry<Verb>;
  return carry(verbs, call.arguments as never, host);
}

/** The digest of a snapshot as the host has it that a copy came from. */
async function digest(
  { hosts, settings }: Ports,
  { volume, host, snapshot, since }: Arguments<'copy-digest'>,
): Promise<{ sha256: string; bytes: string }> {
  if (!hosts.isConnected(host)) throw hostSilent(host, settings);
  const asked = await hosts.digest(host, { volume, snapshot, since }, settings.digestMs);
  if (asked.kind === 'silent') throw hostSilent(host, settings);
  if (asked.kind === 'failed') throw hostError(asked.code, `${host}: ${asked.message}`);
  const { sha256, bytes } = asked.reply;
  return { sha256, bytes };
}
