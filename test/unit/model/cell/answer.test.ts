// A cell speaks by its primary; and a replica that is asked as one owns nothing, whatever it says.

import t from 'tap';

import { answerOf, type HostAnswer, hasNothing, NO_RECORD } from '../../../../src/model/cell/answer.js';
import { decide } from '../../../../src/model/cell/decide.js';
import type { Head, MoveJournal, MovePhase, Place, Route } from '../../../../src/model/cell/route.js';
import { CELL_STATES, type CellState } from '../../../../src/model/cell/states.js';
import type { Side } from '../../../../src/model/cell/steps.js';

const HEAD: Head = { id: 'a'.repeat(32), seq: 1 };
const MOVE = '9'.repeat(32);

const place = (cell: string): Place => ({
  cell,
  epoch: 1,
  primary: `${cell}-host`,
  storeId: `${cell}-store`,
  replicas: [],
  mustSeal: null,
  needsRepair: false,
});

const EAST = place('east');
const WEST = place('west');

function answer(
  { cell, primary, storeId }: Place,
  state: HostAnswer['state'],
  changes: Partial<HostAnswer> = {},
): HostAnswer {
  const common = { ...NO_RECORD, host: primary, cell, storeId, state };
  return { ...common, epoch: 1, lineageHead: HEAD, lineage: { 1: HEAD.id }, ...changes };
}

const replica = (at: Place, state: HostAnswer['state'], completeThrough: Head | null = HEAD) =>
  answerOf(at, [answer(at, state, { replica: { completeThrough }, lineageHead: completeThrough })]);

t.test('a replica has said nothing, unless it says that it has lost what it was', async (t) => {
  t.equal(replica(EAST, 'RECEIVING').state, 'UNKNOWN');
  t.match(replica(EAST, 'FAULTED'), { state: 'FAULTED', replica: { completeThrough: HEAD } });
  t.notOk(hasNothing(replica(EAST, 'FAULTED')));
  t.ok(hasNothing(replica(EAST, 'FAULTED', null)));
  t.notOk(hasNothing(replica(EAST, 'RECEIVING', null)), 'of who has said nothing it is not known');
});

const PHASES: (MovePhase | null)[] = [null, 'COPYING', 'SEALED', 'RELEASING', 'ACTIVATING', 'ACTIVATED'];

const journal = (phase: MovePhase): MoveJournal => ({
  move: MOVE,
  direction: 'forward',
  phase,
  from: 'east',
  to: 'west',
  fromHost: 'east-host',
  toHost: 'west-host',
  sealId: HEAD.id,
  sealedHead: HEAD,
});

/** As complete as it can be, so that every guard may hold. */
function other(at: Place, state: CellState) {
  if (state === 'UNKNOWN') return answerOf(at, []);
  const role = state === 'STAGED' ? 'destination' : 'source';
  const move = { id: MOVE, role, phase: state, peerCell: 'east', completeThrough: HEAD } as const;
  const sealedHead = state === 'SEALED' ? HEAD : null;
  return answerOf(at, [answer(at, state, { move, sealedHead, activatedFrom: HEAD, epoch: 2 })]);
}

t.test(
  'nothing is done at a replica by its answer, whatever route, move and the other cell say',
  async (t) => {
    for (const side of ['x', 'y'] satisfies Side[])
      for (const said of ['RECEIVING', 'FAULTED'] as const)
        for (const state of CELL_STATES)
          for (const phase of PHASES)
            for (const mustSeal of [null, 2]) {
              const route: Route = {
                volume: '1'.repeat(32),
                name: 'v',
                status: 'open',
                active: EAST,
                alternate: { ...WEST, mustSeal, needsRepair: mustSeal !== null },
                gen: 1,
                epoch: 2,
                lineageHead: HEAD,
                journal: phase && journal(phase),
              };
              const x = side === 'x' ? replica(EAST, said) : other(EAST, state);
              const y = side === 'y' ? replica(WEST, said) : other(WEST, state);
              const { steps, rule } = decide({ route, x, y });
              const done = steps.filter(
                (step) => (step.do === 'activate' || step.do === 'perform') && step.at === side,
              );
              t.same(done, [], `${x.state}/${y.state} ${phase} ${rule}`);
            }
  },
);
