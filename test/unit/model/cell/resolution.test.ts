// What an operation leaves in the route.

import t from 'tap';
import { type CellAnswer, NO_RECORD } from '../../../../src/model/cell/answer.js';
import {
  beginResolution,
  commanded,
  effectOf,
  probed,
  routed,
} from '../../../../src/model/cell/resolution.js';
import type { Route } from '../../../../src/model/cell/route.js';

const id = (digit: string) => digit.repeat(32);

const ROUTE: Route = {
  volume: id('d'),
  name: 'db',
  status: 'open',
  active: {
    cell: 'east',
    epoch: 1,
    primary: 'east-1',
    storeId: id('0'),
    replicas: [],
    mustSeal: null,
    needsRepair: false,
  },
  alternate: null,
  gen: 1,
  epoch: 1,
  lineageHead: { id: id('3'), seq: 3 },
  journal: null,
};

const OWNER: CellAnswer = {
  ...NO_RECORD,
  state: 'ACTIVE',
  epoch: 1,
  lineageHead: { id: id('3'), seq: 3 },
  lineage: { 1: id('1'), 2: id('2'), 3: id('3') },
};

t.test('a snapshot that was taken before others is told as it was, and the route knows the last one', (t) => {
  const asked = probed(
    beginResolution(ROUTE, { kind: 'snapshot', id: id('2'), name: 'two' }),
    OWNER,
    NO_RECORD,
  );
  const effect = effectOf(asked);
  t.match(effect, { kind: 'route', route: { lineageHead: { id: id('3'), seq: 3 } } });
  t.match(routed(asked, true, { ...ROUTE, gen: 2 }).end, { result: 'performed', head: { seq: 2 } });
  t.end();
});

t.test('so does one that only its host knows of', (t) => {
  const asked = probed(
    beginResolution(ROUTE, { kind: 'snapshot', id: id('9'), name: 'gone' }),
    OWNER,
    NO_RECORD,
  );
  t.match(effectOf(asked), { kind: 'perform', parent: { seq: 3 } });
  const done = commanded(asked, { kind: 'done', head: { id: id('9'), seq: 1 } });
  t.match(effectOf(done), { kind: 'route', route: { lineageHead: { seq: 3 } } });
  const next = commanded(asked, { kind: 'done', head: { id: id('9'), seq: 4 } });
  t.match(effectOf(next), { kind: 'route', route: { lineageHead: { seq: 4 } } });
  t.end();
});
