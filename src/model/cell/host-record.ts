// What a host knows of its part in the lineage of a volume, and which commands it takes: the last defence of the lineage, on facts of its own.
//
// Invariants: a snapshot is taken only by an owner, under its own epoch and as a child of its own head (I2), so even a wrong coordinator
// cannot fork a lineage; epochs only rise (I1); what was released is never owned again below the epoch it was released to (I4). A record is
// durable before anybody hears of it.

import type { MovePart, Tombstone } from './answer.js';
import type { Head } from './route.js';
import { sameHead } from './route.js';
import type { CellState } from './states.js';

export type RecordState = Exclude<CellState, 'NONE' | 'UNKNOWN'>;

export interface HostRecord {
  /** Id of the volume everywhere: 32 hexadecimal digits. */
  volume: string;
  /** `GONE`: only the tombstone is left. */
  state: RecordState | 'GONE';
  epoch: number;
  /** The last visible snapshot; null: none yet. */
  head: Head | null;
  sealedHead: Head | null;
  activatedFrom: Head | null;
  released: number | null;
  move: MovePart | null;
  tombstone: Tombstone | null;
  /** Holds complete snapshots for a primary of its own cell; it serves nobody. */
  replica: boolean;
  /** While FAULTED because the host came back older than it was: what it is again when an operator readmits it. */
  faultedFrom: RecordState | null;
}

export type HostCommand =
  | { do: 'snapshot'; epoch: number; id: string; parent: string | null }
  | { do: 'outgoing'; epoch: number; move: string; peerCell: string }
  | { do: 'stay-here'; epoch: number; move: string }
  /** A hidden snapshot that carries what was written since `after`, the one that was carried before; it has no seq. */
  | { do: 'carry'; epoch: number; move: string; id: string; after: string | null }
  /** `id` is that of the hidden snapshot that holds what was written last. */
  | { do: 'seal'; epoch: number; id: string }
  /** A newer owner is known: ends this one's ownership for good. */
  | { do: 'fence'; releasedTo: number }
  | { do: 'release'; releasedTo: number }
  | { do: 'receive'; move: string; peerCell: string }
  /** Says the puller: everything through `through` is here and stable. */
  | { do: 'staged'; move: string; through: Head; lineageHead: Head | null }
  /** `through` is what it was complete through when that was found not to be enough: one that has come late does no harm. */
  | { do: 'demote'; move: string; through: string | null }
  | { do: 'activate'; epoch: number; from: Head | null }
  | { do: 'replicate'; epoch: number }
  | { do: 'promote'; epoch: number }
  /** An operator's word, and nothing of the rules: it goes on as the owner from what it has, whatever it was. */
  | { do: 'adopt'; epoch: number }
  /** An operator's word: what is here goes on as another volume, and is no part of this one any more. */
  | { do: 'keep-fork'; volume: string; name: string }
  | { do: 'purge' }
  | { do: 'delete'; epoch: number }
  /** The owner has deleted this snapshot: it goes here too. */
  | { do: 'forget-snapshot'; id: string }
  | { do: 'fault' }
  | { do: 'readmit' };

export type Refusal =
  | 'STALE_EPOCH'
  | 'LINEAGE_MISMATCH'
  | 'WRONG_STATE'
  | 'RELEASED'
  | 'OTHER_MOVE'
  | 'INCOMPLETE';

/** `already`: it was done before, by the same command; nothing has to be written. */
export type Judgement =
  | { ok: true; already: boolean; next: HostRecord }
  | { ok: false; refusal: Refusal; because: string };

type State = HostRecord['state'] | 'NONE';
type Verb = HostCommand['do'];

/** In which states a command is looked at; everything else is WRONG_STATE. */
export const LEGAL: Readonly<Record<Verb, readonly State[]>> = {
  snapshot: ['ACTIVE', 'OUTGOING'],
  outgoing: ['ACTIVE', 'OUTGOING'],
  'stay-here': ['OUTGOING', 'ACTIVE'],
  carry: ['OUTGOING'],
  seal: ['OUTGOING', 'SEALED'],
  fence: ['ACTIVE', 'OUTGOING', 'SEALED', 'FAULTED'],
  release: ['SEALED'],
  receive: ['NONE', 'GONE', 'RECEIVING', 'STAGED', 'SEALED'],
  staged: ['RECEIVING', 'STAGED'],
  demote: ['STAGED', 'RECEIVING'],
  activate: ['STAGED', 'SEALED', 'ACTIVE', 'OUTGOING'],
  replicate: ['NONE', 'GONE', 'RECEIVING', 'STAGED', 'SEALED'],
  promote: ['RECEIVING', 'STAGED', 'ACTIVE'],
  // Of what is incomplete a replica only, which has whole snapshots.
  adopt: ['ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED', 'FAULTED'],
  'keep-fork': ['SEALED', 'FAULTED', 'GONE'],
  purge: ['RECEIVING', 'STAGED', 'SEALED', 'FAULTED', 'GONE'],
  // Where nothing is too: what was sent before, and comes later, finds the tombstone.
  delete: ['NONE', 'ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED', 'FAULTED', 'GONE'],
  // Not of what is held back: an operator may want to see it.
  'forget-snapshot': ['NONE', 'GONE', 'ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED'],
  fault: ['ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED', 'FAULTED'],
  readmit: ['FAULTED', 'ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED'],
};

/** A volume that was made here, under epoch 1. */
export function newRecord(volume: string): HostRecord {
  return { ...EMPTY, volume, state: 'ACTIVE', epoch: 1 };
}

const EMPTY: Omit<HostRecord, 'volume' | 'state'> = {
  epoch: 0,
  head: null,
  sealedHead: null,
  activatedFrom: null,
  released: null,
  move: null,
  tombstone: null,
  replica: false,
  faultedFrom: null,
};

/** What the host makes of a command. `record` null: it has none of this volume. */
export function judge(volume: string, record: HostRecord | null, command: HostCommand): Judgement {
  const state: State = record?.state ?? 'NONE';
  if (!LEGAL[command.do].includes(state))
    return refuse('WRONG_STATE', `a volume that is ${state} here takes no \`${command.do}\``);
  const before: HostRecord = record ?? { ...EMPTY, volume, state: 'GONE' };
  return JUDGES[command.do](before, command as never);
}

type Judge<V extends Verb> = (record: HostRecord, command: Extract<HostCommand, { do: V }>) => Judgement;

const JUDGES: { [V in Verb]: Judge<V> } = {
  snapshot: (record, { epoch, id, parent }) => {
    if (epoch !== record.epoch) return staleEpoch(record, epoch);
    if (record.head?.id === id) return done(record);
    if ((record.head?.id ?? null) !== parent) return otherParent(record, parent);
    return change(record, { head: { id, seq: (record.head?.seq ?? 0) + 1 } });
  },
  outgoing: (record, { epoch, move, peerCell }) => {
    if (epoch !== record.epoch) return staleEpoch(record, epoch);
    if (record.move?.id === move) return done(record);
    if (record.move) return refuse('OTHER_MOVE', `move ${record.move.id} is under way`);
    return change(record, {
      state: 'OUTGOING',
      move: { id: move, role: 'source', phase: 'COPYING', peerCell, completeThrough: null },
    });
  },
  'stay-here': (record, { epoch, move }) => {
    if (epoch !== record.epoch) return staleEpoch(record, epoch);
    if (record.state === 'ACTIVE') return done(record);
    if (record.move?.id !== move) return refuse('OTHER_MOVE', `move ${record.move?.id} is under way`);
    return change(record, { state: 'ACTIVE', move: null });
  },
  carry: (record, { epoch, move, id, after }) => {
    if (epoch !== record.epoch) return staleEpoch(record, epoch);
    if (record.move?.id !== move)
      return refuse('OTHER_MOVE', `move ${record.move?.id ?? 'none'} is under way`);
    const carried = record.move.completeThrough?.id ?? null;
    if (carried === id) return done(record);
    // One that has come late: what it was to carry was carried by another.
    if (carried !== after)
      return refuse(
        'LINEAGE_MISMATCH',
        `the last one carried is ${carried ?? 'none'}, not ${after ?? 'none'}`,
      );
    return change(record, {
      move: { ...record.move, completeThrough: { id, seq: record.head?.seq ?? 0 } },
    });
  },
  seal: (record, { epoch, id }) => {
    if (epoch !== record.epoch) return staleEpoch(record, epoch);
    if (record.state === 'SEALED')
      return record.sealedHead?.id === id
        ? done(record)
        : refuse('LINEAGE_MISMATCH', `it was sealed at ${record.sealedHead?.id}, not at ${id}`);
    // Copies may be complete through that one, and not through what was written after it was reopened.
    if (record.activatedFrom?.id === id) return refuse('LINEAGE_MISMATCH', 'it was reopened from that seal');
    return change(record, { state: 'SEALED', sealedHead: { id, seq: record.head?.seq ?? 0 } });
  },
  fence: (record, { releasedTo }) => {
    if (record.released !== null && record.released >= releasedTo) return done(record);
    if (releasedTo <= record.epoch) return staleEpoch(record, releasedTo);
    const { state, faultedFrom } = record;
    if (faultedFrom === 'RECEIVING' || faultedFrom === 'STAGED')
      return refuse('WRONG_STATE', 'it was never the owner');
    return change(record, {
      // What cannot be served stays so; readmitted, it is sealed.
      ...(state === 'FAULTED' ? { faultedFrom: 'SEALED' } : { state: 'SEALED' }),
      sealedHead: record.sealedHead ?? record.head,
      released: releasedTo,
      move: null,
    });
  },
  release: (record, { releasedTo }) => {
    if (record.released === releasedTo) return done(record);
    if (record.released !== null && record.released > releasedTo)
      return refuse('RELEASED', `it was released to epoch ${record.released}`);
    if (releasedTo <= record.epoch) return staleEpoch(record, releasedTo);
    // The copy has everything: the source has no part in the move any more.
    return change(record, { released: releasedTo, move: null });
  },
  receive: (record, { move, peerCell }) => {
    if (record.tombstone?.why === 'delete') return refuse('WRONG_STATE', 'the volume was deleted');
    if (record.state === 'SEALED' && record.released === null)
      return refuse('WRONG_STATE', 'it is sealed here and was never released: it may still be the owner');
    // A finished copy too: it is for `demote` to say that it is none any more.
    if (record.move?.id === move && record.state !== 'SEALED') return done(record);
    return change(record, {
      state: 'RECEIVING',
      sealedHead: null,
      tombstone: null,
      replica: false,
      move: { id: move, role: 'destination', phase: 'COPYING', peerCell, completeThrough: null },
    });
  },
  staged: (record, { move, through, lineageHead }) => {
    if (record.move?.id !== move)
      return refuse('OTHER_MOVE', `move ${record.move?.id ?? 'none'} is under way`);
    if (record.state === 'STAGED' && sameHead(record.move.completeThrough, through)) return done(record);
    return change(record, {
      state: 'STAGED',
      head: lineageHead,
      move: { ...record.move, phase: 'STAGED', completeThrough: through },
    });
  },
  demote: (record, { move, through }) => {
    if (record.move?.id !== move)
      return refuse('OTHER_MOVE', `move ${record.move?.id ?? 'none'} is under way`);
    if (record.state === 'RECEIVING' || (record.move.completeThrough?.id ?? null) !== through)
      return done(record);
    return change(record, { state: 'RECEIVING', move: { ...record.move, phase: 'COPYING' } });
  },
  activate: (record, { epoch, from }) => {
    if (record.state === 'ACTIVE' || record.state === 'OUTGOING')
      return record.epoch === epoch ? done(record) : staleEpoch(record, epoch);
    if (epoch <= record.epoch) return staleEpoch(record, epoch);
    if (record.state === 'SEALED' && record.released !== null)
      return refuse(
        'RELEASED',
        `it was released to epoch ${record.released}: it lacks what was written since`,
      );
    const here = record.state === 'SEALED' ? record.sealedHead : (record.move?.completeThrough ?? null);
    if (!sameHead(here, from))
      return refuse(
        'INCOMPLETE',
        `it is complete through ${here?.id ?? 'nothing'}, not through ${from?.id ?? 'nothing'}`,
      );
    return own(record, epoch, here);
  },
  replicate: (record, { epoch }) => {
    if (record.tombstone?.why === 'delete') return refuse('WRONG_STATE', 'the volume was deleted');
    if (record.state === 'SEALED' && record.released === null)
      return refuse('WRONG_STATE', 'it is sealed here and was never released: it may still be the owner');
    if (record.replica && record.epoch >= epoch) return done(record);
    return change(record, {
      state: 'RECEIVING',
      replica: true,
      epoch: Math.max(record.epoch, epoch),
      sealedHead: null,
      tombstone: null,
      move: null,
    });
  },
  promote: (record, { epoch }) => {
    if (record.state === 'ACTIVE') return record.epoch === epoch ? done(record) : staleEpoch(record, epoch);
    if (!record.replica) return refuse('WRONG_STATE', 'it is no replica');
    if (epoch <= record.epoch) return staleEpoch(record, epoch);
    return own(record, epoch, record.head);
  },
  adopt: (record, { epoch }) => {
    if (record.state === 'ACTIVE' && record.epoch === epoch) return done(record);
    if (epoch <= Math.max(record.epoch, record.released ?? 0)) return staleEpoch(record, epoch);
    const { sealedHead, move, head, replica } = record;
    if (replica)
      return head
        ? own(record, epoch, head)
        : refuse('INCOMPLETE', 'the replica that is here has no complete snapshot');
    const state = record.faultedFrom ?? record.state;
    if (state === 'RECEIVING') return refuse('INCOMPLETE', 'the copy that is here was not complete');
    return own(
      record,
      epoch,
      state === 'SEALED' ? sealedHead : state === 'STAGED' ? move!.completeThrough : head,
    );
  },
  'keep-fork': (record) => {
    if (record.state === 'GONE') return done(record);
    if (record.released === null) return refuse('WRONG_STATE', 'it was never released: it may be the owner');
    if (record.faultedFrom === 'RECEIVING' || record.faultedFrom === 'STAGED')
      return refuse('WRONG_STATE', 'it is a copy of what another host has, and no fork');
    return change(record, { ...gone(record.epoch), tombstone: { epoch: record.epoch, why: 'purge' } });
  },
  purge: (record) => {
    if (record.state === 'GONE') return done(record);
    if (record.state === 'SEALED' && record.released === null)
      return refuse('WRONG_STATE', 'it is sealed here and was never released: it may still be the owner');
    return change(record, { ...gone(record.epoch), tombstone: { epoch: record.epoch, why: 'purge' } });
  },
  delete: (record, { epoch }) => {
    if (record.tombstone?.why === 'delete' && record.tombstone.epoch >= epoch) return done(record);
    if (epoch < record.epoch) return staleEpoch(record, epoch);
    return change(record, { ...gone(epoch), tombstone: { epoch, why: 'delete' } });
  },
  'forget-snapshot': (record, { id }) => {
    if (record.state === 'GONE') return done(record);
    if (record.move) return refuse('OTHER_MOVE', `move ${record.move.id} is under way`);
    if (record.state === 'SEALED' && record.released === null)
      return refuse('WRONG_STATE', 'it is sealed here and was never released: it may still be the owner');
    // Of a former owner it is not: that one takes no snapshot any more.
    if (record.state !== 'SEALED' && record.head?.id === id)
      return refuse('INCOMPLETE', 'it is the last snapshot of its lineage here');
    // The record says nothing of it: whether it is here still, the data know.
    return done(record);
  },
  fault: (record) =>
    record.state === 'FAULTED'
      ? done(record)
      : change(record, { state: 'FAULTED', faultedFrom: record.state as RecordState }),
  readmit: (record) =>
    record.state === 'FAULTED'
      ? change(record, { state: record.faultedFrom ?? 'FAULTED', faultedFrom: null })
      : done(record),
};

/** What a replica knows when everything through a visible snapshot has arrived; what is not newer changes nothing. */
export function replicated(record: HostRecord, head: Head | null): Judgement {
  if (!record.replica || record.state !== 'RECEIVING')
    return refuse('WRONG_STATE', `a volume that is ${record.state} here is no replica`);
  if (sameHead(record.head, head) || (head?.seq ?? 0) < (record.head?.seq ?? 0)) return done(record);
  return change(record, { head });
}

/**
 * What a host knows when a snapshot that it cut as the owner becomes visible. It may have lost its place since: what it knows then is what it would
 * know if it had been told before, and nobody else's lineage is touched.
 */
export function published(
  record: HostRecord,
  { epoch, id, parent }: { epoch: number; id: string; parent: string | null },
): Judgement {
  const state = record.faultedFrom ?? record.state;
  // At a seal it is not: what copies are complete through may be without it.
  const isFenced = state === 'SEALED' && record.released !== null && sameHead(record.sealedHead, record.head);
  if (state !== 'ACTIVE' && state !== 'OUTGOING' && !isFenced)
    return refuse('WRONG_STATE', `a volume that is ${state} here takes no snapshot of before`);
  if (epoch > record.epoch) return staleEpoch(record, epoch);
  if (record.head?.id === id) return done(record);
  if ((record.head?.id ?? null) !== parent) return otherParent(record, parent);
  const head = { id, seq: (record.head?.seq ?? 0) + 1 };
  return change(record, isFenced ? { head, sealedHead: head } : { head });
}

function own(record: HostRecord, epoch: number, from: Head | null): Judgement {
  return change(record, {
    state: 'ACTIVE',
    epoch,
    activatedFrom: from,
    sealedHead: null,
    released: null,
    move: null,
    replica: false,
    faultedFrom: null,
  });
}

/** Nothing but the epoch is kept, which never falls. */
function gone(epoch: number): Omit<HostRecord, 'volume'> {
  return { ...EMPTY, state: 'GONE', epoch };
}

function done(next: HostRecord): Judgement {
  return { ok: true, already: true, next };
}

function change(record: HostRecord, changes: Partial<HostRecord>): Judgement {
  return { ok: true, already: false, next: { ...record, ...changes } };
}

function refuse(refusal: Refusal, because: string): Judgement {
  return { ok: false, refusal, because };
}

function otherParent({ head }: HostRecord, parent: string | null): Judgement {
  return refuse(
    'LINEAGE_MISMATCH',
    `the last snapshot here is ${head?.id ?? 'none'}, not ${parent ?? 'none'}`,
  );
}

function staleEpoch(record: HostRecord, epoch: number): Judgement {
  return refuse('STALE_EPOCH', `the epoch here is ${record.epoch}, the command's ${epoch}`);
}
