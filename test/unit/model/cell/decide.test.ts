// All 64 pairs, with guards that hold and guards that do not.

import t from 'tap';

import type { CellAnswer } from '../../../../src/model/cell/answer.js';
import { NO_ANSWER, NO_RECORD } from '../../../../src/model/cell/answer.js';
import { type Decision, decide } from '../../../../src/model/cell/decide.js';
import type { Head, MoveJournal, MovePhase, Place, Route } from '../../../../src/model/cell/route.js';
import { type Rule, ruleFor } from '../../../../src/model/cell/rules.js';
import { CELL_STATES, type CellState, owns } from '../../../../src/model/cell/states.js';
import type { Step } from '../../../../src/model/cell/steps.js';

const id = (digit: string) => digit.repeat(32);
const HEAD: Head = { id: id('a'), seq: 1 };
const SECOND: Head = { id: id('b'), seq: 2 };
const OTHER: Head = { id: id('f'), seq: 1 };
const SEALED_AT: Head = { id: id('5'), seq: 1 };
const MOVE = id('9');

const place = (cell: string, epoch: number): Place => ({
  cell,
  epoch,
  primary: `${cell}-host`,
  storeId: `${cell}-store`,
  replicas: [],
  mustSeal: null,
  needsRepair: false,
});

function route(changes: Partial<Route> = {}): Route {
  return {
    volume: id('1'),
    name: 'v',
    status: 'open',
    active: place('east', 1),
    alternate: place('west', 0),
    gen: 4,
    epoch: 1,
    lineageHead: HEAD,
    journal: null,
    ...changes,
  };
}

const journal = (phase: MovePhase, changes: Partial<MoveJournal> = {}): MoveJournal => ({
  move: MOVE,
  direction: 'forward',
  phase,
  from: 'east',
  to: 'west',
  fromHost: 'east-host',
  toHost: 'west-host',
  sealId: SEALED_AT.id,
  sealedHead: SEALED_AT,
  ...changes,
});

/** Answers that a volume of one snapshot gives when nothing is wrong with it. */
function answer(state: CellState, changes: Partial<CellAnswer> = {}): CellAnswer {
  if (state === 'UNKNOWN') return NO_ANSWER;
  if (state === 'NONE') return { ...NO_RECORD, ...changes };
  const receives = state === 'RECEIVING' || state === 'STAGED';
  return {
    ...NO_RECORD,
    state,
    epoch: receives ? 0 : 1,
    lineageHead: HEAD,
    lineage: { 1: HEAD.id },
    sealedHead: state === 'SEALED' ? SEALED_AT : null,
    move:
      state === 'STAGED'
        ? { id: MOVE, role: 'destination', phase: 'STAGED', peerCell: 'east', completeThrough: SEALED_AT }
        : null,
    ...changes,
  };
}

const verbs = (steps: readonly Step[]) =>
  steps.map((step) => ('at' in step ? `${step.do} ${step.at}` : step.do)).join(', ');

const tried = ({ trials }: Decision) => trials.map(({ rule, holds }) => `${rule} ${holds}`).join(', ');

t.test('every pair comes to one decision, the same each time, whatever route and journal say', async (t) => {
  const phases: MovePhase[] = ['COPYING', 'SEALING', 'ACTIVATING', 'ACTIVATED'];
  const journals = [null, ...phases.map((phase) => journal(phase))];
  for (const x of CELL_STATES)
    for (const y of CELL_STATES)
      for (const epoch of [1, 2, 3])
        for (const move of journals) {
          const situation = { route: route({ epoch, journal: move }), x: answer(x), y: answer(y) };
          const decision = decide(situation);
          const what = `${x}/${y} route ${epoch} ${move?.phase ?? 'no move'}`;
          t.same(decide(structuredClone(situation)), decision, what);
          t.equal(decision.trials[0]!.rule, ruleFor(x, y), `${what} begins with its rule`);
          t.equal(decision.trials.filter(({ holds }) => holds).length, 1, `${what} ends with one`);
          t.equal(
            decision.outcome === 'perform',
            decision.steps.some((step) => step.do === 'perform' || step.do === 'probe-again'),
            `${what} has steps`,
          );
        }
});

t.test('I3: with a silent cell only the two rules for that act', async (t) => {
  for (const state of CELL_STATES)
    for (const epoch of [1, 2])
      for (const move of [null, journal('SEALING'), journal('ACTIVATED')])
        for (const [x, y] of [
          [answer(state), NO_ANSWER],
          [NO_ANSWER, answer(state)],
        ] as const) {
          const { rule, outcome } = decide({ route: route({ epoch, journal: move }), x, y });
          if (outcome === 'perform') t.match(rule, /^(stay|follow)-alone$/, `${x.state}/${y.state}`);
          else t.equal(rule, 'wait', `${x.state}/${y.state}`);
        }
});

t.test('a snapshot without a new epoch is taken only at the highest epoch there is', async (t) => {
  for (const x of CELL_STATES)
    for (const y of CELL_STATES)
      for (const [ex, ey, er] of [
        [1, 2, 1],
        [2, 1, 1],
        [1, 1, 3],
        [2, 2, 2],
      ] as const) {
        const situation = {
          route: route({ epoch: er }),
          x: answer(x, x === 'NONE' ? {} : { epoch: ex }),
          y: answer(y, y === 'NONE' ? {} : { epoch: ey }),
        };
        const { steps } = decide(situation);
        const raised = steps.some(({ do: verb }) => verb === 'activate');
        const first = steps.find(({ do: verb }) => verb === 'perform' || verb === 'probe-again');
        if (raised || first?.do !== 'perform') continue;
        const owner = situation[first.at];
        t.ok(owns(owner.state), `${x}/${y} an owner performs`);
        t.equal(
          owner.epoch,
          Math.max(er, situation.x.epoch, situation.y.epoch),
          `${x}/${y} ${ex} ${ey} ${er}`,
        );
      }
});

interface Case {
  x: CellAnswer;
  y: CellAnswer;
  route?: Partial<Route>;
  tried: string;
  steps: string;
}

const staged = (completeThrough: Head | null, changes: Partial<CellAnswer> = {}) =>
  answer('STAGED', {
    move: { id: MOVE, role: 'destination', phase: 'STAGED', peerCell: 'east', completeThrough },
    ...changes,
  });

/** Of two owners the newer one, whose lineage is a, b and which was activated at a. */
const newer = (changes: Partial<CellAnswer> = {}) =>
  answer('ACTIVE', {
    epoch: 2,
    lineageHead: SECOND,
    lineage: { 1: HEAD.id, 2: SECOND.id },
    activatedFrom: SEALED_AT,
    ...changes,
  });

const cases: Record<Exclude<Rule, 'quarantine' | 'not-found' | 'creating' | 'wait'>, [Case, ...Case[]]> = {
  stay: [
    { x: answer('ACTIVE'), y: answer('SEALED'), tried: 'stay true', steps: 'perform x' },
    { x: answer('OUTGOING'), y: NO_RECORD, tried: 'stay true', steps: 'perform x, prune-alternate' },
    {
      x: answer('OUTGOING'),
      y: NO_RECORD,
      route: { journal: journal('COPYING') },
      tried: 'stay true',
      steps: 'perform x',
    },
    {
      x: answer('ACTIVE'),
      y: NO_RECORD,
      route: { epoch: 2 },
      tried: 'stay false, fence false, quarantine true',
      steps: '',
    },
  ],
  'stay-extend': [
    {
      x: answer('OUTGOING'),
      y: answer('STAGED'),
      tried: 'stay-extend true',
      steps: 'perform x, demote y, extend y',
    },
    {
      x: answer('ACTIVE'),
      y: answer('RECEIVING', { epoch: 2 }),
      tried: 'stay-extend false, fence false, quarantine true',
      steps: '',
    },
  ],
  follow: [
    { x: answer('SEALED'), y: newer(), tried: 'follow true', steps: 'seal x, route, perform y' },
    { x: NO_RECORD, y: answer('ACTIVE'), tried: 'follow true', steps: 'route, perform y' },
    {
      x: NO_RECORD,
      y: answer('ACTIVE'),
      route: { epoch: 2 },
      tried: 'follow false, fence false, quarantine true',
      steps: '',
    },
  ],
  'switch-back': [
    {
      x: answer('STAGED'),
      y: answer('ACTIVE'),
      tried: 'switch-back true',
      steps: 'route, perform y, demote x, extend x',
    },
    {
      x: answer('RECEIVING'),
      y: answer('OUTGOING'),
      route: { epoch: 5 },
      tried: 'switch-back false, fence false, quarantine true',
      steps: '',
    },
  ],
  'follow-degraded': [
    {
      x: answer('FAULTED'),
      y: answer('ACTIVE'),
      tried: 'follow-degraded true',
      steps: 'route, perform y, repair-ticket x',
    },
    {
      x: answer('FAULTED', { epoch: 2 }),
      y: answer('ACTIVE'),
      tried: 'follow-degraded false, quarantine true',
      steps: '',
    },
    {
      x: answer('FAULTED', { epoch: 0 }),
      y: answer('ACTIVE'),
      tried: 'follow-degraded false, quarantine true',
      steps: '',
    },
    {
      x: answer('FAULTED'),
      y: answer('ACTIVE'),
      route: { epoch: 2 },
      tried: 'follow-degraded false, fence false, quarantine true',
      steps: '',
    },
  ],
  'finish-y': [
    {
      x: answer('SEALED'),
      y: answer('STAGED'),
      route: { journal: journal('SEALED') },
      tried: 'finish-y true',
      steps: 'journal, release x, journal, activate y, journal, route, probe-again, perform y',
    },
    {
      x: answer('SEALED'),
      y: staged(HEAD),
      route: { journal: journal('SEALED') },
      tried: 'finish-y false, reopen-x true',
      steps: 'journal, activate x, route, perform x, demote y, extend y',
    },
    {
      x: answer('SEALED'),
      y: answer('STAGED'),
      route: { journal: journal('SEALED', { direction: 'rollback' }) },
      tried: 'finish-y false, reopen-x true',
      steps: 'journal, activate x, route, perform x, demote y, extend y',
    },
    {
      x: answer('SEALED', { released: 2 }),
      y: answer('STAGED'),
      route: { journal: journal('ACTIVATING', { direction: 'rollback' }) },
      tried: 'finish-y true',
      steps: 'journal, release x, journal, activate y, journal, route, probe-again, perform y',
    },
    {
      x: answer('SEALED', { released: 2 }),
      y: staged(HEAD),
      tried: 'finish-y false, reopen-x false, quarantine true',
      steps: '',
    },
  ],
  'finish-x': [
    {
      x: answer('STAGED'),
      y: answer('SEALED'),
      tried: 'finish-x true',
      steps: 'release y, activate x, route, probe-again, perform x',
    },
    {
      x: staged(null),
      y: answer('SEALED'),
      tried: 'finish-x false, reopen-y true',
      steps: 'activate y, route, perform y',
    },
  ],
  'reopen-x': [
    { x: answer('SEALED'), y: NO_RECORD, tried: 'reopen-x true', steps: 'activate x, route, perform x' },
    {
      x: answer('SEALED'),
      y: answer('RECEIVING'),
      route: { journal: journal('SEALED') },
      tried: 'reopen-x true',
      steps: 'journal, activate x, route, perform x',
    },
    {
      x: answer('SEALED', { released: 2 }),
      y: NO_RECORD,
      tried: 'reopen-x false, quarantine true',
      steps: '',
    },
    {
      x: answer('SEALED'),
      y: answer('FAULTED'),
      route: { journal: journal('ACTIVATING') },
      tried: 'reopen-x false, quarantine true',
      steps: '',
    },
  ],
  'reopen-y': [
    { x: NO_RECORD, y: answer('SEALED'), tried: 'reopen-y true', steps: 'activate y, route, perform y' },
    {
      x: answer('FAULTED'),
      y: answer('SEALED', { released: 2 }),
      tried: 'reopen-y false, quarantine true',
      steps: '',
    },
    {
      x: answer('FAULTED'),
      y: answer('SEALED'),
      route: { epoch: 2, alternate: { ...place('west', 1), mustSeal: 2, needsRepair: true } },
      tried: 'reopen-y false, quarantine true',
      steps: '',
    },
  ],
  elect: [
    {
      x: answer('SEALED', { released: 2 }),
      y: answer('SEALED', { epoch: 2, lineageHead: SECOND, lineage: { 1: HEAD.id, 2: SECOND.id } }),
      tried: 'elect true',
      steps: 'activate y, route, perform y',
    },
    {
      x: answer('SEALED', { epoch: 2 }),
      y: answer('SEALED'),
      tried: 'elect true',
      steps: 'activate x, route, perform x',
    },
    { x: answer('SEALED'), y: answer('SEALED'), tried: 'elect false, quarantine true', steps: '' },
    {
      x: answer('SEALED', { epoch: 2, lineageHead: OTHER, lineage: { 1: OTHER.id } }),
      y: answer('SEALED'),
      tried: 'elect false, quarantine true',
      steps: '',
    },
    {
      x: answer('SEALED', { epoch: 2, released: 3 }),
      y: answer('SEALED'),
      tried: 'elect false, quarantine true',
      steps: '',
    },
  ],
  fence: [
    {
      x: answer('ACTIVE', { dirtySinceHead: true }),
      y: newer(),
      route: { active: { ...place('east', 1), mustSeal: 2, needsRepair: true } },
      tried: 'fence true',
      steps: 'seal x, probe-again',
    },
    { x: answer('ACTIVE'), y: newer(), tried: 'fence true', steps: 'seal x, probe-again' },
    { x: newer(), y: answer('OUTGOING'), tried: 'fence true', steps: 'seal y, probe-again' },
    {
      x: answer('ACTIVE'),
      y: answer('ACTIVE'),
      tried: 'fence false, quarantine true',
      steps: '',
    },
    {
      x: answer('ACTIVE', { dirtySinceHead: true }),
      y: newer(),
      tried: 'fence false, quarantine true',
      steps: '',
    },
    {
      x: answer('ACTIVE', { lineageHead: OTHER }),
      y: newer(),
      tried: 'fence false, quarantine true',
      steps: '',
    },
    {
      x: answer('ACTIVE', { lineageHead: SECOND }),
      y: newer(),
      tried: 'fence false, quarantine true',
      steps: '',
    },
    {
      x: answer('ACTIVE'),
      y: newer({ activatedFrom: null }),
      tried: 'fence false, quarantine true',
      steps: '',
    },
  ],
  'stay-alone': [
    { x: answer('ACTIVE'), y: NO_ANSWER, tried: 'stay-alone true', steps: 'perform x' },
    {
      x: answer('OUTGOING'),
      y: NO_ANSWER,
      route: { journal: journal('COPYING') },
      tried: 'stay-alone true',
      steps: 'perform x',
    },
    {
      x: answer('OUTGOING'),
      y: NO_ANSWER,
      route: { journal: journal('SEALING') },
      tried: 'stay-alone false, wait true',
      steps: '',
    },
    {
      x: answer('ACTIVE'),
      y: NO_ANSWER,
      route: { epoch: 2 },
      tried: 'stay-alone false, wait true',
      steps: '',
    },
  ],
  'follow-alone': [
    {
      x: NO_ANSWER,
      y: newer(),
      route: { journal: journal('ACTIVATED') },
      tried: 'follow-alone true',
      steps: 'route, must-seal x, perform y',
    },
    {
      x: NO_ANSWER,
      y: newer(),
      route: { journal: journal('ACTIVATING') },
      tried: 'follow-alone false, wait true',
      steps: '',
    },
    {
      x: NO_ANSWER,
      y: newer(),
      route: { journal: journal('ACTIVATED', { to: 'south', toHost: 'south-host' }) },
      tried: 'follow-alone false, wait true',
      steps: '',
    },
    {
      x: NO_ANSWER,
      y: newer(),
      route: { journal: journal('ACTIVATED', { sealedHead: null }) },
      tried: 'follow-alone false, wait true',
      steps: '',
    },
    {
      x: NO_ANSWER,
      y: newer(),
      route: { epoch: 3, journal: journal('ACTIVATED') },
      tried: 'follow-alone false, wait true',
      steps: '',
    },
  ],
  'adopt-staged': [
    {
      x: answer('FAULTED'),
      y: answer('STAGED'),
      route: { journal: journal('SEALED') },
      tried: 'adopt-staged true',
      steps: 'journal, journal, activate y, journal, route, probe-again, perform y',
    },
    {
      x: answer('STAGED'),
      y: NO_RECORD,
      route: {
        journal: journal('ACTIVATING', {
          from: 'west',
          to: 'east',
          fromHost: 'west-host',
          toHost: 'east-host',
        }),
      },
      tried: 'adopt-staged true',
      steps: 'journal, journal, activate x, journal, route, probe-again, perform x',
    },
    { x: NO_RECORD, y: answer('STAGED'), tried: 'adopt-staged false, quarantine true', steps: '' },
    {
      x: NO_RECORD,
      y: staged(HEAD),
      route: { journal: journal('SEALED') },
      tried: 'adopt-staged false, quarantine true',
      steps: '',
    },
    {
      x: NO_RECORD,
      y: answer('STAGED'),
      route: { journal: journal('SEALED', { sealedHead: null }) },
      tried: 'adopt-staged false, quarantine true',
      steps: '',
    },
  ],
};

for (const [rule, list] of Object.entries(cases))
  t.test(`${rule}: its guard, what it does, and what takes its place`, async (t) => {
    for (const { x, y, tried: expected, steps, ...given } of list) {
      const decision = decide({ route: route(given.route), x, y });
      t.equal(tried(decision), expected, `${x.state}/${y.state}`);
      t.equal(verbs(decision.steps), steps, `${x.state}/${y.state}`);
    }
  });

t.test('what cannot be said for want of ids is asked for, and decided then', async (t) => {
  const y = newer({ lineageHead: { id: id('c'), seq: 90 }, lineage: { 90: id('c') } });
  const before = decide({ route: route(), x: answer('ACTIVE'), y });
  t.equal(before.rule, 'quarantine');
  t.same(before.seqs, [1]);
  const after = decide({
    route: route(),
    x: answer('ACTIVE'),
    y: { ...y, lineage: { 1: HEAD.id, 90: id('c') } },
  });
  t.equal(after.rule, 'fence');
});

t.test('a release that was made already is made to the same epoch again, never to a lower one', async (t) => {
  const { steps } = decide({ route: route(), x: answer('SEALED', { released: 7 }), y: answer('STAGED') });
  t.match(steps, [
    { do: 'release', at: 'x', epoch: 7 },
    { do: 'activate', at: 'y', epoch: 7 },
    { do: 'route', active: 'y', epoch: 7 },
  ]);
});

t.test('a user’s delete under the highest epoch is finished; below it, it is nothing', async (t) => {
  const deleted = (epoch: number) => ({ ...NO_RECORD, tombstone: { epoch, why: 'delete' as const } });
  t.equal(decide({ route: route(), x: deleted(1), y: answer('RECEIVING') }).outcome, 'gone');
  t.equal(decide({ route: route(), x: answer('SEALED'), y: deleted(2) }).outcome, 'gone');
  t.equal(decide({ route: route(), x: deleted(1), y: newer() }).rule, 'follow');
  const purged = { ...NO_RECORD, tombstone: { epoch: 9, why: 'purge' as const } };
  t.equal(decide({ route: route(), x: answer('ACTIVE'), y: purged }).rule, 'stay');
});
