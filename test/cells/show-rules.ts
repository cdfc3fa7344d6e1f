// Every rule of lineage, reached by what really befalls processes, networks and disks, and how `route show --explain` tells it.
//
//   node dist/test/cells/show-rules.js [--print] [RULE... | outcomes]
//
// Writes docs/route-explained.md (with rules named: prints them); the exit code is 0 only if each was reached as it should be. Needs to be root.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { noNetworks } from '../support/network-lab.js';
import { repositoryRoot } from '../support/programs.js';
import { judged, OUTCOME_SCENES, RULE_SCENES } from './rule-scenes.js';
import { rulesPage, type Told } from './rules-page.js';
import { Scene } from './scene.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { print: { type: 'boolean', default: false } },
});
const reason = noNetworks();
if (reason) {
  console.error(`show:rules: ${reason}`);
  process.exit(1);
}
const wanted = [...RULE_SCENES, ...OUTCOME_SCENES].filter(
  ({ rule, title = '' }) =>
    positionals.length === 0 || positionals.includes(title === '' ? rule : 'outcomes'),
);
const told: Told[] = [];
let failed = 0;
for (const scene of wanted) {
  const clean: (() => unknown)[] = [];
  try {
    const at = await Scene.begin({ teardown: (one) => clean.push(one) }, scene.site);
    clean.push(() => {
      for (const { gate } of at.site.hosts.values())
        if (process.env.CELLBLOCK_CELLS_STORY) console.error(gate.story);
    });
    if (scene.begins !== 'empty') await at.make();
    const shown = await scene.play(at);
    const wrong = judged(scene, shown);
    for (const problem of wrong)
      console.error(`WRONG: ${scene.title ?? scene.rule}: ${problem}\n${shown.text}`);
    failed += wrong.length;
    told.push({ ...scene, text: shown.text });
    console.error(`${scene.title ?? scene.rule}: ${wrong.length === 0 ? 'as it should be' : 'WRONG'}`);
  } catch (error) {
    console.error(`WRONG: ${scene.title ?? scene.rule}: ${(error as Error).stack}`);
    failed += 1;
  } finally {
    for (const one of clean.reverse()) await one();
  }
}
const page = rulesPage(told);
if (values.print || positionals.length > 0) console.log(page);
else if (failed === 0) writeFileSync(path.join(repositoryRoot, 'docs/route-explained.md'), page);
process.exit(failed === 0 ? 0 : 1);
