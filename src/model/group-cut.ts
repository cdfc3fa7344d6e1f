// The JSON record of a snapshot of several volumes that a coordinator takes over several hosts: the part of this host, from the cut until
// it is published or dropped. Its snapshots are provisional until then: hidden, and in no lineage.
//
// Invariant: stored in the same group as the snapshots it names, so each is known by it or by a lineage.

import type { Head } from './cell/route.js';
import { count, head, id, object, oneOf } from './lineage.js';

export interface GroupMember {
  /** Id of the volume. */
  volume: string;
  /** Under which the snapshot is taken, and what it continues. */
  epoch: number;
  parent: Head | null;
  /** The snapshot: its id, and what it is called when it is published. */
  snapshot: string;
  name: string;
}

/** Of the whole group, at whatever host. */
export interface GroupPart {
  volume: string;
  host: string;
  epoch: number;
  snapshot: string;
  name: string;
}

export interface GroupCut {
  id: string;
  /** `cut`: to be published or dropped. The others are kept for a while, to be answered again. */
  phase: 'cut' | 'published' | 'dropped';
  /** ISO 8601. */
  created: string;
  /** For how long clients were held until the cut. */
  heldMs: number;
  members: GroupMember[];
  /** What a coordinator needs to know that has lost it. */
  parts: GroupPart[];
}

export function encodeGroupCut(group: GroupCut): string {
  return JSON.stringify(group);
}

/** Throws when it is none. */
export function decodeGroupCut(text: string): GroupCut {
  const json = object(JSON.parse(text), 'a group');
  const { created, heldMs, members, parts } = json;
  if (typeof created !== 'string') throw new Error('it does not say when it was made');
  if (typeof heldMs !== 'number' || !(heldMs >= 0)) throw new Error('the time of its hold is no number');
  if (!Array.isArray(members)) throw new Error('its members are no list');
  if (!Array.isArray(parts)) throw new Error('its parts are no list');
  return {
    id: id(json['id'], 'the group'),
    phase: oneOf(json['phase'], ['cut', 'published', 'dropped'], 'the phase') as GroupCut['phase'],
    created,
    heldMs,
    members: members.map((one) => {
      const member = object(one, 'a member');
      if (typeof member['name'] !== 'string') throw new Error('a member has no name');
      return {
        volume: id(member['volume'], 'a volume'),
        epoch: count(member['epoch'], 'an epoch'),
        parent: head(member['parent'], 'a parent'),
        snapshot: id(member['snapshot'], 'a snapshot'),
        name: member['name'],
      };
    }),
    parts: parts.map((one) => {
      const part = object(one, 'a part');
      const { host, name } = part;
      if (typeof host !== 'string') throw new Error('a part has no host');
      if (typeof name !== 'string') throw new Error('a part has no name');
      return {
        volume: id(part['volume'], 'a volume'),
        host,
        epoch: count(part['epoch'], 'an epoch'),
        snapshot: id(part['snapshot'], 'a snapshot'),
        name,
      };
    }),
  };
}
