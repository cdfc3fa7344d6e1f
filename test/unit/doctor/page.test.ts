// docs/troubleshooting.md and the checks know the same names.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CHECKS } from '../../../src/commands/doctor/report.js';
import { repositoryRoot } from '../../support/programs.js';

const page = readFileSync(join(repositoryRoot, 'docs/troubleshooting.md'), 'utf8');
const areas = new Set(CHECKS.map(({ id }) => id.slice(0, id.indexOf('-'))));

t.test('every check stands in docs/troubleshooting.md', async (t) => {
  for (const { id } of CHECKS) t.ok(page.includes(`\`${id}\``), id);
});

t.test('no check stands there that is none', async (t) => {
  const named = [...page.matchAll(/`(([a-z]+)-[a-z-]+)`/g)].filter(([, , area]) => areas.has(area!));
  const known = new Set(CHECKS.map(({ id }) => id));
  t.same(
    [...new Set(named.map(([, name]) => name))].filter((name) => !known.has(name!)),
    [],
  );
});
