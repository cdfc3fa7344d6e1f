import { readFileSync } from 'node:fs';
import t from 'tap';

import { RULES, ruleFor } from '../../../../src/model/cell/rules.js';
import { CELL_STATES, STATE_TRAITS } from '../../../../src/model/cell/states.js';

const table = JSON.parse(
  readFileSync(new URL('../../../../../test/unit/model/cell/cell-rules.json', import.meta.url), 'utf8'),
) as { states: string[]; pairs: Record<string, string> };

t.test('the table has a rule for each of the 64 pairs, and it is that of the design', async (t) => {
  t.same([...CELL_STATES], table.states);
  t.equal(Object.keys(table.pairs).length, 64);
  for (const x of CELL_STATES)
    for (const y of CELL_STATES) t.equal(ruleFor(x, y), table.pairs[`${x}/${y}`], `${x}/${y}`);
});

t.test('every rule stands in the table', async (t) => {
  const used = new Set(CELL_STATES.flatMap((x) => CELL_STATES.map((y) => ruleFor(x, y))));
  t.same([...used].sort(), [...RULES].sort());
});

t.test('merits: an owner wins over everything; a rollback turns staged and sealed round', async (t) => {
  const merit = (state: (typeof CELL_STATES)[number], direction: 'forward' | 'rollback') =>
    STATE_TRAITS[state].merit?.[direction] ?? Number.NaN;
  for (const state of ['NONE', 'RECEIVING', 'STAGED', 'SEALED', 'FAULTED'] as const)
    for (const direction of ['forward', 'rollback'] as const)
      t.ok(merit(state, direction) < merit('OUTGOING', direction), `${state} ${direction}`);
  t.ok(merit('STAGED', 'forward') > merit('SEALED', 'forward'));
  t.ok(merit('STAGED', 'rollback') < merit('SEALED', 'rollback'));
});
