// The list of requirements and the cases agree: nothing is forgotten, nothing is claimed twice over.
import t from 'tap';
import { allCases, groups } from './all-cases.js';
import { requirementCount, requirements } from './requirements.js';
import { caseId } from './target.js';

const covered = new Set<string>(allCases.flatMap(({ covers }) => covers ?? []));

t.test('every case names where its claim comes from', async (t) => {
  for (const { name, covers } of allCases) t.ok(covers !== undefined && covers.length > 0, name);
});

t.test('every requirement has a case, or says what shows it, and not both', async (t) => {
  for (const [id, { section, says, elsewhere }] of requirements) {
    t.not(covered.has(id), elsewhere !== undefined, `${id}: ${section}: ${says}`);
  }
});

t.test('names of cases and ids of requirements are unique', async (t) => {
  t.equal(new Set(allCases.map(({ name }) => name)).size, allCases.length);
  const runs = groups.flatMap((group) => group.cases.map((one) => caseId(group, one)));
  t.equal(new Set(runs).size, runs.length);
  t.equal(requirements.size, requirementCount);
});
