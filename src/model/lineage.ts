// The JSON records of lineages: what this host has on record of a volume of a cell, in which container it has it, and the ids of its
// visible snapshots by seq. The ids are records of their own, kept when their snapshots are deleted: so a snapshot adds one and
// rewrites none.
//
// Invariant: a volume whose record is GONE has no container; a hidden snapshot is one that a record names, and nothing else is.

import type { MovePart, Tombstone } from './cell/answer.js';
import type { HostRecord } from './cell/host-record.js';
import { isPlaceName } from './cell/names.js';
import type { Head } from './cell/route.js';
import { CELL_STATES } from './cell/states.js';

export interface Lineage {
  record: HostRecord;
  /** Null: nothing of it is here (any more, or yet). */
  container: number | null;
  /** Ids of snapshots here that carry a delta, hold what was written before a seal, or are provisional. */
  hidden: readonly string[];
}

export const VOLUME_ID = /^[0-9a-f]{32}$/;

const SEQ_DIGITS = 16;

/** Of the record of one id: in order of the seqs. */
export function lineageIdKey(volume: string, seq: number): string {
  return `${volume}/${String(seq).padStart(SEQ_DIGITS, '0')}`;
}

/** Null when the text is no such key (a damaged store). */
export function parseLineageIdKey(key: string): { volume: string; seq: number } | null {
  const match = /^([0-9a-f]{32})\/(\d{16})$/.exec(key);
  const seq = Number(match?.[2]);
  return match && seq > 0 && Number.isSafeInteger(seq) ? { volume: match[1]!, seq } : null;
}

export function encodeLineage(lineage: Lineage): string {
  return JSON.stringify(lineage);
}

export function encodeLineageId(id: string): string {
  return JSON.stringify(id);
}

/** Throws when it is none. */
export function decodeLineageId(text: string): string {
  return id(JSON.parse(text), 'the snapshot');
}

type Json = Record<string, unknown>;

const RECORD_STATES = [...CELL_STATES.filter((state) => state !== 'NONE' && state !== 'UNKNOWN'), 'GONE'];

/** Throws when it is none. Every part is looked at: what a host believes of its ownership may not rest on a guess. */
export function decodeLineage(text: string): Lineage {
  const json = object(JSON.parse(text), 'a lineage');
  const record = decodeRecord(object(json['record'], 'the record'));
  const container = json['container'] === null ? null : count(json['container'], 'the container');
  if (record.state === 'GONE' && container !== null) throw new Error('it is gone, and has a container');
  const { hidden } = json;
  if (!Array.isArray(hidden)) throw new Error('the hidden snapshots are no list');
  return { record, container, hidden: hidden.map((one) => id(one, 'a hidden snapshot')) };
}

function decodeRecord(json: Json): HostRecord {
  return {
    volume: id(json['volume'], 'the volume'),
    state: oneOf(json['state'], RECORD_STATES, 'the state') as HostRecord['state'],
    epoch: count(json['epoch'], 'the epoch'),
    head: head(json['head'], 'the head'),
    sealedHead: head(json['sealedHead'], 'the sealed head'),
    activatedFrom: head(json['activatedFrom'], 'what it was activated from'),
    released: json['released'] === null ? null : count(json['released'], 'the release'),
    move: json['move'] === null ? null : movePart(object(json['move'], 'the move')),
    tombstone: json['tombstone'] === null ? null : tombstone(object(json['tombstone'], 'the tombstone')),
    replica: flag(json['replica'], 'the mark of a replica'),
    faultedFrom:
      json['faultedFrom'] === null
        ? null
        : (oneOf(json['faultedFrom'], RECORD_STATES, 'the state of before') as HostRecord['faultedFrom']),
  };
}

function movePart(json: Json): MovePart {
  const { phase, peerCell } = json;
  if (typeof phase !== 'string' || phase === '') throw new Error('the phase of the move is no text');
  if (typeof peerCell !== 'string' || !isPlaceName(peerCell)) throw new Error('the move names no cell');
  return {
    id: id(json['id'], 'the move'),
    role: oneOf(json['role'], ['source', 'destination'], 'the role') as MovePart['role'],
    phase,
    peerCell,
    completeThrough: head(json['completeThrough'], 'what is complete'),
  };
}

function tombstone(json: Json): Tombstone {
  return {
    epoch: count(json['epoch'], 'the epoch of the tombstone'),
    why: oneOf(json['why'], ['delete', 'purge'], 'the reason') as Tombstone['why'],
  };
}

export function head(value: unknown, what: string): Head | null {
  if (value === null) return null;
  const json = object(value, what);
  return { id: id(json['id'], what), seq: count(json['seq'], `the seq of ${what}`) };
}

export function object(value: unknown, what: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${what} is no object`);
  return value as Json;
}

export function id(value: unknown, what: string): string {
  if (typeof value !== 'string' || !VOLUME_ID.test(value)) throw new Error(`${what} has no id`);
  return value;
}

export function count(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error(`${what} is no number`);
  return value as number;
}

export function oneOf(value: unknown, allowed: readonly string[], what: string): string {
  if (typeof value !== 'string' || !allowed.includes(value))
    throw new Error(`${what} is ${JSON.stringify(value)}`);
  return value;
}

function flag(value: unknown, what: string): boolean {
  if (typeof value !== 'boolean') throw new Error(`${what} is neither true nor false`);
  return value;
}
