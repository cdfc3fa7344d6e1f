// The records of volumes of cells as they are stored: what is right comes back as it was, what is damaged is refused with what is wrong.

import fc from 'fast-check';
import t from 'tap';
import { newRecord } from '../../../src/model/cell/host-record.js';
import { decodeGroupCut, encodeGroupCut, type GroupCut } from '../../../src/model/group-cut.js';
import {
  decodeLineage,
  decodeLineageId,
  encodeLineage,
  encodeLineageId,
  type Lineage,
  lineageIdKey,
  parseLineageIdKey,
} from '../../../src/model/lineage.js';
import { replay } from '../../support/replay.js';

const VOLUME = 'f'.repeat(32);
const HEAD = { id: 'a'.repeat(32), seq: 7 };

const FULL: Lineage = {
  record: {
    volume: VOLUME,
    state: 'FAULTED',
    epoch: 3,
    head: HEAD,
    sealedHead: { id: 'b'.repeat(32), seq: 7 },
    activatedFrom: HEAD,
    released: 4,
    move: { id: 'c'.repeat(32), role: 'source', phase: 'COPYING', peerCell: 'west', completeThrough: HEAD },
    tombstone: null,
    replica: true,
    faultedFrom: 'SEALED',
  },
  container: 12,
  hidden: ['d'.repeat(32)],
};

const GONE: Lineage = {
  record: { ...newRecord(VOLUME), state: 'GONE', tombstone: { epoch: 1, why: 'delete' } },
  container: null,
  hidden: [],
};

const CUT: GroupCut = {
  id: 'e'.repeat(32),
  phase: 'cut',
  created: '2024-01-01T00:00:00.000Z',
  heldMs: 1.5,
  members: [{ volume: VOLUME, epoch: 1, parent: HEAD, snapshot: 'a'.repeat(32), name: 'ß 💾' }],
  parts: [
    { volume: VOLUME, host: 'h1', epoch: 1, snapshot: 'a'.repeat(32), name: 'ß 💾' },
    { volume: 'd'.repeat(32), host: 'h2', epoch: 4, snapshot: 'b'.repeat(32), name: 'x' },
  ],
};

t.test('records come back as they were', async (t) => {
  for (const lineage of [FULL, GONE, { record: newRecord(VOLUME), container: null, hidden: [] }])
    t.strictSame(decodeLineage(encodeLineage(lineage)), lineage);
  t.strictSame(decodeGroupCut(encodeGroupCut(CUT)), CUT);
  t.equal(decodeLineageId(encodeLineageId(HEAD.id)), HEAD.id);
  t.strictSame(parseLineageIdKey(lineageIdKey(VOLUME, 7)), { volume: VOLUME, seq: 7 });
  t.ok(lineageIdKey(VOLUME, 9) < lineageIdKey(VOLUME, 10), 'keys are in order of the seqs');
});

t.test('each part that is wrong is said', async (t) => {
  const record = FULL.record;
  const wrong: [unknown, RegExp][] = [
    [null, /no object/],
    [[], /no object/],
    [{ ...FULL, record: null }, /no object/],
    [{ ...FULL, container: -1 }, /container/],
    [{ ...FULL, container: undefined }, /container/],
    [{ ...FULL, hidden: 'none' }, /no list/],
    [{ ...FULL, hidden: ['x'] }, /hidden/],
    [{ ...GONE, container: 3 }, /gone/],
    [{ ...FULL, record: { ...record, volume: 'F'.repeat(32) } }, /volume/],
    [{ ...FULL, record: { ...record, state: 'UNKNOWN' } }, /state/],
    [{ ...FULL, record: { ...record, epoch: 1.5 } }, /epoch/],
    [{ ...FULL, record: { ...record, head: { id: HEAD.id } } }, /seq/],
    [{ ...FULL, record: { ...record, sealedHead: { id: 'x', seq: 1 } } }, /sealed/],
    [{ ...FULL, record: { ...record, activatedFrom: 7 } }, /activated/],
    [{ ...FULL, record: { ...record, released: 'never' } }, /release/],
    [{ ...FULL, record: { ...record, move: { ...record.move, role: 'thief' } } }, /role/],
    [{ ...FULL, record: { ...record, move: { ...record.move, peerCell: '/' } } }, /cell/],
    [{ ...FULL, record: { ...record, tombstone: { epoch: 1, why: 'age' } } }, /reason/],
    [{ ...FULL, record: { ...record, replica: 'yes' } }, /replica/],
    [{ ...FULL, record: { ...record, faultedFrom: 'NONE' } }, /before/],
  ];
  for (const [value, message] of wrong)
    t.throws(() => decodeLineage(JSON.stringify(value)), { message }, JSON.stringify(value).slice(0, 60));
  for (const [value, message] of [
    [{ ...CUT, phase: 'begun' }, /phase/],
    [{ ...CUT, heldMs: -1 }, /hold/],
    [{ ...CUT, members: null }, /list/],
    [{ ...CUT, members: [{ ...CUT.members[0], name: 1 }] }, /name/],
    [{ ...CUT, members: [{ ...CUT.members[0], epoch: null }] }, /epoch/],
    [{ ...CUT, parts: {} }, /parts/],
    [{ ...CUT, parts: [{ ...CUT.parts[0], host: null }] }, /host/],
    [{ ...CUT, parts: [{ ...CUT.parts[0], name: 1 }] }, /name/],
    [{ ...CUT, parts: [{ ...CUT.parts[0], snapshot: 'x' }] }, /snapshot/],
  ] as const)
    t.throws(() => decodeGroupCut(JSON.stringify(value)), { message });
  for (const key of ['', VOLUME, `${VOLUME}/1`, `${VOLUME}/0000000000000000`, `x/0000000000000001`])
    t.equal(parseLineageIdKey(key), null, key);
});

t.test('a record with a part replaced by anything is refused, or means what it says', (t) => {
  fc.assert(
    fc.property(fc.constantFrom(...Object.keys(FULL.record)), fc.jsonValue(), (key, value) => {
      const text = JSON.stringify({ ...FULL, record: { ...FULL.record, [key]: value } });
      let read: Lineage;
      try {
        read = decodeLineage(text);
      } catch {
        return;
      }
      // What was not understood would be missing.
      if (JSON.stringify(decodeLineage(encodeLineage(read))) !== JSON.stringify(read)) throw new Error(text);
    }),
    replay({ quick: 300, normal: 3000, long: 30_000 }),
  );
  t.end();
});
