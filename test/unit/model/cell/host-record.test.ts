// What a host takes as its part of a volume's lineage: every command in every state.

import fc from 'fast-check';
import t from 'tap';
import {
  type HostCommand,
  type HostRecord,
  type Judgement,
  judge,
  LEGAL,
  newRecord,
  published,
} from '../../../../src/model/cell/host-record.js';
import type { Head } from '../../../../src/model/cell/route.js';

const id = (digit: string) => digit.repeat(32);
const VOLUME = id('1');
const HEAD: Head = { id: id('a'), seq: 3 };
const SEALED_AT: Head = { id: id('5'), seq: 3 };
const MOVE = id('9');

const STATES = ['ACTIVE', 'OUTGOING', 'STAGED', 'SEALED', 'RECEIVING', 'FAULTED', 'GONE'] as const;

function record(state: HostRecord['state'], changes: Partial<HostRecord> = {}): HostRecord {
  const part = (role: 'source' | 'destination') => ({
    id: MOVE,
    role,
    phase: 'COPYING',
    peerCell: 'west',
    completeThrough: role === 'source' ? null : SEALED_AT,
  });
  return {
    ...newRecord(VOLUME),
    state,
    epoch: 4,
    head: HEAD,
    sealedHead: state === 'SEALED' ? SEALED_AT : null,
    move: state === 'OUTGOING' ? part('source') : /STAGED|RECEIVING/.test(state) ? part('destination') : null,
    faultedFrom: state === 'FAULTED' ? 'ACTIVE' : null,
    tombstone: state === 'GONE' ? { epoch: 4, why: 'purge' } : null,
    ...changes,
  };
}

/** One of each, with which the host agrees if it is in the right state. */
const COMMANDS: HostCommand[] = [
  { do: 'snapshot', epoch: 4, id: id('b'), parent: HEAD.id },
  { do: 'outgoing', epoch: 4, move: MOVE, peerCell: 'west' },
  { do: 'stay-here', epoch: 4, move: MOVE },
  { do: 'carry', epoch: 4, move: MOVE, id: id('c'), after: null },
  { do: 'seal', epoch: 4, id: SEALED_AT.id },
  { do: 'fence', releasedTo: 5 },
  { do: 'release', releasedTo: 5 },
  { do: 'receive', move: MOVE, peerCell: 'east' },
  { do: 'staged', move: MOVE, through: SEALED_AT, lineageHead: HEAD },
  { do: 'demote', move: MOVE, through: SEALED_AT.id },
  { do: 'activate', epoch: 5, from: SEALED_AT },
  { do: 'replicate', epoch: 4 },
  { do: 'promote', epoch: 5 },
  { do: 'adopt', epoch: 6 },
  { do: 'keep-fork', volume: id('2'), name: 'fork' },
  { do: 'purge' },
  { do: 'delete', epoch: 4 },
  { do: 'forget-snapshot', id: id('d') },
  { do: 'fault' },
  { do: 'readmit' },
];

t.test(
  'every command in every state: legal ones are looked at, all others are refused as such',
  async (t) => {
    t.same(COMMANDS.map((command) => command.do).sort(), Object.keys(LEGAL).sort());
    for (const command of COMMANDS)
      for (const state of ['NONE', ...STATES] as const) {
        const before = state === 'NONE' ? null : record(state);
        const judged = judge(VOLUME, before, command);
        if (LEGAL[command.do].includes(state)) continue;
        t.match(judged, { ok: false, refusal: 'WRONG_STATE' }, `${command.do} in ${state}`);
      }
  },
);

t.test('what was done is done once: the same command again changes nothing', async (t) => {
  for (const command of COMMANDS)
    for (const state of STATES) {
      const first = judge(VOLUME, record(state), command);
      if (!first.ok || command.do === 'readmit' || command.do === 'fault') continue;
      const again = judge(VOLUME, first.next, command);
      t.match(again, { ok: true, already: true, next: first.next }, `${command.do} from ${state}`);
    }
});

const refusal = (before: HostRecord | null, command: HostCommand) => {
  const judged = judge(VOLUME, before, command);
  return judged.ok ? 'taken' : judged.refusal;
};

t.test(
  'a snapshot is forgotten where nobody needs it: not on the move, not the last one of who may own it',
  async (t) => {
    const forget = (what: string): HostCommand => ({ do: 'forget-snapshot', id: what });
    t.equal(refusal(record('ACTIVE', { move: null }), forget(id('d'))), 'taken');
    t.equal(refusal(record('ACTIVE', { move: null }), forget(HEAD.id)), 'INCOMPLETE');
    t.equal(refusal(record('OUTGOING'), forget(id('d'))), 'OTHER_MOVE');
    t.equal(refusal(record('SEALED', { move: null, released: null }), forget(id('d'))), 'WRONG_STATE');
    t.equal(refusal(record('SEALED', { move: null, released: 5 }), forget(HEAD.id)), 'taken');
    t.equal(refusal(record('RECEIVING', { move: null, replica: true }), forget(HEAD.id)), 'INCOMPLETE');
    t.equal(refusal(record('FAULTED'), forget(id('d'))), 'WRONG_STATE');
    t.equal(refusal(null, forget(id('d'))), 'taken');
  },
);

t.test('I2: a snapshot only under the own epoch and as a child of the own head', async (t) => {
  const snapshot = (epoch: number, parent: string | null): HostCommand => ({
    do: 'snapshot',
    epoch,
    id: id('b'),
    parent,
  });
  t.equal(refusal(record('ACTIVE'), snapshot(4, HEAD.id)), 'taken');
  t.equal(refusal(record('ACTIVE'), snapshot(3, HEAD.id)), 'STALE_EPOCH');
  t.equal(refusal(record('ACTIVE'), snapshot(5, HEAD.id)), 'STALE_EPOCH');
  t.equal(refusal(record('ACTIVE'), snapshot(4, id('c'))), 'LINEAGE_MISMATCH');
  t.equal(refusal(record('ACTIVE'), snapshot(4, null)), 'LINEAGE_MISMATCH');
  t.equal(refusal(record('ACTIVE', { head: null }), snapshot(4, null)), 'taken');
  t.equal(refusal(record('SEALED'), snapshot(4, HEAD.id)), 'WRONG_STATE');
  const taken = judge(VOLUME, record('ACTIVE'), snapshot(4, HEAD.id));
  t.match(taken, { next: { head: { id: id('b'), seq: 4 } } });
});

t.test(
  'I4: what has released the volume is not reopened, not even to the epoch it was released to',
  async (t) => {
    const activate: HostCommand = { do: 'activate', epoch: 6, from: SEALED_AT };
    t.equal(refusal(record('SEALED'), activate), 'taken');
    t.equal(refusal(record('SEALED', { released: 5 }), activate), 'RELEASED');
    t.equal(refusal(record('SEALED', { released: 6 }), activate), 'RELEASED');
    t.equal(refusal(record('SEALED', { released: 6 }), { do: 'release', releasedTo: 5 }), 'RELEASED');
  },
);

t.test('a copy is activated only when it is complete through what its source was sealed at', async (t) => {
  t.equal(refusal(record('STAGED'), { do: 'activate', epoch: 5, from: HEAD }), 'INCOMPLETE');
  t.equal(refusal(record('STAGED'), { do: 'activate', epoch: 4, from: SEALED_AT }), 'STALE_EPOCH');
  t.equal(refusal(record('RECEIVING'), { do: 'activate', epoch: 5, from: SEALED_AT }), 'WRONG_STATE');
});

t.test('what may still be the owner is neither overwritten nor purged', async (t) => {
  t.equal(refusal(record('SEALED'), { do: 'receive', move: MOVE, peerCell: 'east' }), 'WRONG_STATE');
  t.equal(refusal(record('SEALED'), { do: 'purge' }), 'WRONG_STATE');
  t.equal(refusal(record('SEALED'), { do: 'replicate', epoch: 5 }), 'WRONG_STATE');
  const free = record('SEALED', { released: 5 });
  t.equal(refusal(free, { do: 'receive', move: MOVE, peerCell: 'east' }), 'taken');
  t.equal(refusal(free, { do: 'purge' }), 'taken');
});

t.test('a deleted volume does not come back as a copy', async (t) => {
  const deleted = record('GONE', { tombstone: { epoch: 4, why: 'delete' } });
  t.equal(refusal(deleted, { do: 'receive', move: MOVE, peerCell: 'east' }), 'WRONG_STATE');
  t.equal(refusal(deleted, { do: 'replicate', epoch: 9 }), 'WRONG_STATE');
  t.equal(refusal(record('GONE'), { do: 'receive', move: MOVE, peerCell: 'east' }), 'taken');
});

t.test(
  'I1: whatever is commanded, the epoch never falls, and an owner is made only by a higher one',
  async () => {
    const anyCommand = fc.constantFrom(...COMMANDS).chain((command) =>
      fc.integer({ min: 1, max: 9 }).map((epoch): HostCommand => {
        if ('epoch' in command) return { ...command, epoch };
        return 'releasedTo' in command ? { ...command, releasedTo: epoch } : command;
      }),
    );
    const owner = (state: HostRecord['state'] | undefined) => state === 'ACTIVE' || state === 'OUTGOING';
    fc.assert(
      fc.property(fc.array(anyCommand, { maxLength: 60 }), (commands) => {
        let now: HostRecord = newRecord(VOLUME);
        for (const command of commands) {
          const judged = judge(VOLUME, now, command);
          if (!judged.ok) continue;
          const { next } = judged;
          if (next.epoch < now.epoch) throw new Error(`${command.do}: epoch ${now.epoch} -> ${next.epoch}`);
          if (owner(next.state) && !owner(now.state) && now.state !== 'FAULTED' && command.do !== 'readmit')
            if (next.epoch <= now.epoch) throw new Error(`${command.do}: owner again under ${next.epoch}`);
          now = next;
        }
      }),
      { numRuns: 2000 },
    );
  },
);

/** What the record knows and no other host can. */
const REFUSED: [what: string, before: HostRecord, command: HostCommand, refusal: string][] = [
  [
    'a fork of who was never released',
    record('SEALED'),
    { do: 'keep-fork', volume: id('2'), name: 'f' },
    'WRONG_STATE',
  ],
  [
    'a fork of a copy that is faulted, whole or not',
    record('FAULTED', { faultedFrom: 'STAGED', released: 5 }),
    { do: 'keep-fork', volume: id('2'), name: 'f' },
    'WRONG_STATE',
  ],
  [
    'a replica in place of who may be the owner',
    record('SEALED'),
    { do: 'replicate', epoch: 5 },
    'WRONG_STATE',
  ],
  [
    'a replica of what was deleted',
    record('GONE', { tombstone: { epoch: 4, why: 'delete' } }),
    { do: 'replicate', epoch: 5 },
    'WRONG_STATE',
  ],
  [
    'a copy in place of who may be the owner',
    record('SEALED'),
    { do: 'receive', move: MOVE, peerCell: 'east' },
    'WRONG_STATE',
  ],
  ['a purge of who may be the owner', record('SEALED'), { do: 'purge' }, 'WRONG_STATE'],
  [
    'an owner under the epoch it has',
    record('SEALED', { released: 5 }),
    { do: 'adopt', epoch: 4 },
    'STALE_EPOCH',
  ],
  [
    'an owner under the epoch it has released the volume to',
    record('SEALED', { released: 7 }),
    { do: 'adopt', epoch: 7 },
    'STALE_EPOCH',
  ],
  [
    'an owner with a copy that was not complete when it was faulted',
    record('FAULTED', { faultedFrom: 'RECEIVING' }),
    { do: 'adopt', epoch: 9 },
    'INCOMPLETE',
  ],
  ['an owner with a copy that is not complete', record('RECEIVING'), { do: 'adopt', epoch: 9 }, 'INCOMPLETE'],
  [
    'an owner with a replica that has no snapshot',
    record('FAULTED', { faultedFrom: 'RECEIVING', replica: true, head: null, move: null }),
    { do: 'adopt', epoch: 9 },
    'INCOMPLETE',
  ],
  [
    'an owner with a replica, under the epoch it has',
    record('FAULTED', { faultedFrom: 'RECEIVING', replica: true, move: null }),
    { do: 'adopt', epoch: 4 },
    'STALE_EPOCH',
  ],
  [
    'a fence of a copy',
    record('FAULTED', { faultedFrom: 'STAGED' }),
    { do: 'fence', releasedTo: 9 },
    'WRONG_STATE',
  ],
  ['a delete of the last snapshot', record('ACTIVE'), { do: 'forget-snapshot', id: HEAD.id }, 'INCOMPLETE'],
  [
    'a delete of a snapshot during a move',
    record('OUTGOING'),
    { do: 'forget-snapshot', id: id('e') },
    'OTHER_MOVE',
  ],
  [
    'a delete of a snapshot of who may be the owner',
    record('SEALED'),
    { do: 'forget-snapshot', id: id('e') },
    'WRONG_STATE',
  ],
];

for (const [what, before, command, refusal] of REFUSED)
  t.test(`refused: ${what}`, (t) => {
    t.match(judge(VOLUME, before, command), { ok: false, refusal });
    t.end();
  });

t.test('readmitted, a volume is what it was, and never more', (t) => {
  for (const state of ['ACTIVE', 'OUTGOING', 'SEALED', 'RECEIVING', 'STAGED'] as const)
    t.match(judge(VOLUME, record('FAULTED', { faultedFrom: state }), { do: 'readmit' }), {
      ok: true,
      next: { state, faultedFrom: null },
    });
  t.end();
});

const CUT = { epoch: 4, id: id('b'), parent: HEAD.id };
const PUBLISHED: Head = { id: CUT.id, seq: 4 };

t.test('what was cut by an owner is published in every state in which its lineage is here still', (t) => {
  const fenced: Partial<HostRecord> = { released: 5, sealedHead: HEAD };
  const cases: [string, HostRecord, Partial<HostRecord> | string][] = [
    ['an owner', record('ACTIVE'), { head: PUBLISHED, sealedHead: null }],
    ['an owner on the move', record('OUTGOING'), { head: PUBLISHED }],
    [
      'an owner by the word of an operator since',
      record('ACTIVE', { epoch: 7 }),
      { head: PUBLISHED, epoch: 7 },
    ],
    ['fenced', record('SEALED', fenced), { head: PUBLISHED, sealedHead: PUBLISHED, released: 5 }],
    ['held back', record('FAULTED'), { head: PUBLISHED, state: 'FAULTED', faultedFrom: 'ACTIVE' }],
    [
      'held back, and fenced',
      record('FAULTED', { ...fenced, faultedFrom: 'SEALED' }),
      { sealedHead: PUBLISHED },
    ],
    ['sealed: a copy may go on without it', record('SEALED'), 'WRONG_STATE'],
    ['sealed, and released', record('SEALED', { released: 5 }), 'WRONG_STATE'],
    [
      'held back at a seal',
      record('FAULTED', { faultedFrom: 'SEALED', sealedHead: SEALED_AT }),
      'WRONG_STATE',
    ],
    ['a copy', record('RECEIVING'), 'WRONG_STATE'],
    ['a complete copy', record('STAGED'), 'WRONG_STATE'],
    ['a copy that is held back', record('FAULTED', { faultedFrom: 'RECEIVING' }), 'WRONG_STATE'],
    ['gone', record('GONE'), 'WRONG_STATE'],
    ['older than the cut', record('ACTIVE', { epoch: 3 }), 'STALE_EPOCH'],
    ['further than the cut', record('ACTIVE', { head: { id: id('e'), seq: 4 } }), 'LINEAGE_MISMATCH'],
  ];
  for (const [what, before, becomes] of cases) {
    const judged = published(before, CUT);
    if (typeof becomes === 'string') t.match(judged, { ok: false, refusal: becomes }, what);
    else {
      t.match(judged, { ok: true, already: false, next: becomes }, what);
      if (judged.ok) t.match(published(judged.next, CUT), { ok: true, already: true }, `${what}, again`);
    }
  }
  t.end();
});

t.test('published before it is fenced, or after it: the host knows the same', (t) => {
  for (const before of [
    record('ACTIVE'),
    record('OUTGOING'),
    record('FAULTED'),
    record('ACTIVE', { head: null }),
  ]) {
    const cut = { ...CUT, parent: before.head?.id ?? null };
    const publish = (one: HostRecord) => nextOf(published(one, cut));
    const fence = (one: HostRecord) => nextOf(judge(VOLUME, one, { do: 'fence', releasedTo: 5 }));
    t.same(publish(fence(before)), fence(publish(before)));
  }
  t.end();
});

function nextOf(judged: Judgement): HostRecord {
  if (!judged.ok) throw new Error(judged.because);
  return judged.next;
}
