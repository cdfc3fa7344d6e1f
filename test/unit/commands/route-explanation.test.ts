// What an operator reads of a route: heads that are hidden are not taken for snapshots, and what stands in the way comes with what to do.

import t from 'tap';

import { explanation } from '../../../src/commands/route-explanation.js';
import type { Explained, RouteDetails } from '../../../src/coordinator/results.js';
import { NO_RECORD } from '../../../src/model/cell/answer.js';
import type { Route } from '../../../src/model/cell/route.js';

const id = (letter: string) => letter.repeat(32);
const place = (cell: string, primary: string) => ({
  cell,
  epoch: 2,
  primary,
  storeId: id('0'),
  replicas: [],
  mustSeal: null,
  needsRepair: false,
});

const ROUTE: Route = {
  volume: id('1'),
  name: 'db',
  status: 'open',
  active: place('west', 'h2'),
  alternate: place('east', 'h1'),
  gen: 7,
  epoch: 2,
  lineageHead: { id: id('c'), seq: 3 },
  journal: null,
};

const EXPLAINED: Explained = {
  // Moved when it had two snapshots, and one more was taken since: the seal has the number of the second.
  x: {
    ...NO_RECORD,
    state: 'ACTIVE',
    epoch: 2,
    lineageHead: { id: id('c'), seq: 3 },
    activatedFrom: { id: id('5'), seq: 2 },
    lineage: { 1: id('a'), 2: id('b'), 3: id('c') },
  },
  y: {
    ...NO_RECORD,
    state: 'SEALED',
    epoch: 1,
    lineageHead: { id: id('b'), seq: 2 },
    sealedHead: { id: id('5'), seq: 2 },
    released: 2,
    lineage: { 1: id('a'), 2: id('b') },
  },
  rule: 'stay',
  outcome: 'perform',
  trials: [{ rule: 'stay', holds: true, because: 'its epoch 2 is the highest' }],
  steps: ['do what is asked at x'],
  afterwards: 'the sealed copy is stale since the new head',
  decisions: [],
  evidence: null,
  elsewhere: [],
};

function page(changes: { details?: Partial<RouteDetails>; explained?: Partial<Explained> } = {}): string {
  const explained = { ...EXPLAINED, ...changes.explained };
  const details: RouteDetails = {
    route: ROUTE,
    completeThrough: null,
    replicas: [],
    unfinished: [],
    troubles: [],
    explained,
    ...changes.details,
  };
  return explanation(details, explained);
}

t.test('of what was a replica when it was lost it is told how far it goes', async (t) => {
  const { x } = EXPLAINED;
  const replica = { completeThrough: { id: id('b'), seq: 2 } };
  const lost = page({ explained: { x: { ...x, state: 'FAULTED', replica } } });
  t.match(lost, /\nas a replica +through 2 \(bbbbbbbb\) +-\n/);
  t.match(
    page({ explained: { x: { ...x, state: 'FAULTED', replica: { completeThrough: null } } } }),
    /\nas a replica +nothing yet +-\n/,
  );
  t.notMatch(page(), /as a replica/);
});

t.test('a hidden head is told as such, a visible one by its number', async (t) => {
  const text = page();
  t.match(text, /\nlast snapshot +3 \(cccccccc\) +2 \(bbbbbbbb\)\n/);
  t.match(text, /\nactivated from +behind 2 \(hidden, 55555555\) +-\n/);
  t.match(text, /\nsealed at +- +behind 2 \(hidden, 55555555\)\n/);
  t.notMatch(text, 'part in a move');
  const { x } = EXPLAINED;
  t.match(
    page({ explained: { x: { ...x, activatedFrom: { id: id('b'), seq: 2 } } } }),
    /\nactivated from +2 \(bbbbbbbb\) /,
    'a promoted replica goes on from a visible one',
  );
  t.match(
    page({ explained: { x: { ...x, activatedFrom: { id: id('5'), seq: 0 } } } }),
    /\nactivated from +before the first \(hidden, 55555555\) /,
  );
});

t.test('what would be done is said in whole sentences', async (t) => {
  t.match(
    page(),
    '\nA snapshot asked for now would be taken, by the rule stay:\n  1. do what is asked at x\n',
  );
  for (const outcome of ['retry', 'creating', 'quarantine', 'not-found', 'gone'])
    t.notMatch(page({ explained: { outcome } }), `(${outcome})`);
  t.match(page({ explained: { outcome: 'retry', rule: 'wait' } }), 'would have to wait, by the rule wait:');
});

t.test('what stands in the way', async (t) => {
  const trouble = {
    operation: null,
    because: 'Host h1 does not answer.',
    hint: 'Look whether its agent runs.',
    since: '2026-11-27T09:00:00.000Z',
    at: '2026-11-27T09:05:00.000Z',
    tries: 12,
  };
  const text = page({ details: { troubles: [trouble, { ...trouble, operation: 'snapshot s4', tries: 1 }] } });
  t.match(
    text,
    /\nIt does not go on, since .* \(12 tries\):\n {2}Host h1 does not answer\.\n {2}Look whether its agent runs\.\n/,
  );
  t.match(text, /\nNot ended: snapshot s4, since .* \(1 try\):\n/);
});
