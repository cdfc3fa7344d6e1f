// Rules of lineage reached by real crashes, and restored disks: the short form of `npm run show:rules`, which has all of them.

import t from 'tap';
import { RULES } from '../../src/model/cell/rules.js';
import { byEffort, tooLongForQuick } from '../support/effort.js';
import { noEtcd } from '../support/etcd-cluster.js';
import { noNetworks } from '../support/network-lab.js';
import { randomOf } from '../support/random.js';
import { seed } from '../support/replay.js';
import { judged, OUTCOME_SCENES, RULE_SCENES, type RuleScene } from './rule-scenes.js';
import { Scene, VOLUME } from './scene.js';

t.setTimeout(1_800_000);

const SCENES = byEffort({ quick: 0, normal: 2, long: RULE_SCENES.length });
const skip = tooLongForQuick || noNetworks();

t.test('each rule has its scene', async (t) => {
  t.strictSame(RULE_SCENES.map(({ rule }) => rule).sort(), [...RULES].sort());
});

t.test('a page is judged by its rule, by what was answered, and by what became of it', async (t) => {
  const scene = RULE_SCENES.find(({ rule }) => rule === 'stay')!;
  const answer = (state: string) => ({ state });
  const decision = { rule: 'stay', x: answer('ACTIVE'), y: answer('NONE'), result: 'performed at east' };
  const shown = (changes: object) =>
    judged(scene, {
      explained: { rule: 'wait', decisions: [{ ...decision, ...changes }] },
      text: 'so stay',
    } as never);
  t.strictSame(shown({}), []);
  t.match(shown({ rule: 'follow' }), [/nothing was decided by stay/]);
  t.match(shown({ y: answer('ACTIVE') }), [/y ACTIVE/]);
  t.match(shown({ result: 'performed at west' }), [/its result/]);
});

const lackingFor = ({ site }: RuleScene) => site?.state === 'etcd' && noEtcd();
const random = randomOf(seed);
const chosen = [...RULE_SCENES]
  .map((scene) => ({ scene, at: random() }))
  .sort((one, other) => one.at - other.at)
  .slice(0, SCENES);
for (const scene of [...chosen.map((each) => each.scene), ...OUTCOME_SCENES])
  t.test(`${scene.title ?? scene.rule}: ${scene.story}`, { skip: skip || lackingFor(scene) }, async (t) => {
    t.comment(`CELLBLOCK_SEED=${seed}`);
    const at = await Scene.begin(t, scene.site);
    if (scene.begins !== 'empty') await at.make();
    t.strictSame(judged(scene, await scene.play(at)), []);
  });

t.test(
  'an agent with a disk of before serves nothing of it until an operator says so',
  { skip },
  async (t) => {
    const scene = await Scene.begin(t);
    await scene.make();
    const { h1, site } = scene;
    const backup = await h1.backUp();
    await site.connected();
    await scene.snapshot('second');
    await scene.restore(h1, backup);
    await h1.heal();
    await site.connected();
    t.match(await site.json('host', 'show', 'h1'), { regressed: true });
    t.match(await h1.stateOf(VOLUME), { state: 'FAULTED' });
    await t.rejects(h1.connect(VOLUME), 'nobody is served');
    const { code } = await scene.snapshotTried('third');
    t.not(code, 0, 'and no snapshot is taken of it');
    t.match(await site.json('host', 'readmit', 'h1'), {
      readmitted: [],
      faulted: [{ because: 'it is without snapshot 2, which was taken' }],
    });
    await t.rejects(h1.connect(VOLUME), 'of which more was known it is held back still');
    await site.said('quarantine', 'adopt', VOLUME, '--cell', 'east', '--yes');
    const client = await h1.connect(VOLUME);
    t.notOk(client.readOnly, 'an operator has decided: it is served');
    client.destroy();
    await scene.snapshot('third');
  },
);

t.test('an agent with a disk of before that moved away meanwhile is sealed', { skip }, async (t) => {
  const scene = await Scene.begin(t);
  await scene.make();
  const { h1, h3, site } = scene;
  const backup = await h1.backUp();
  await site.connected();
  await scene.moved('west');
  await scene.write(h3);
  await scene.restore(h1, backup);
  await h1.heal();
  await site.connected();
  await t.rejects(h1.connect(VOLUME), 'the host of before does not serve it');
  await scene.write(h3);
  t.pass('the owner does');
  await scene.snapshot('second');
  await site.said('host', 'readmit', 'h1');
  t.match(await h1.stateOf(VOLUME), { state: 'SEALED' });
  await t.rejects(h1.connect(VOLUME), 'nor when it is readmitted');
});

for (const state of ['directory', 'etcd'] as const)
  t.test(
    `a coordinator whose state (${state}) is one of before has nothing stale served or snapshotted`,
    { skip: skip || (state === 'etcd' && noEtcd()) },
    async (t) => {
      const scene = await Scene.begin(t, { state });
      await scene.make();
      const { h1, h3, site } = scene;
      const keepers = state === 'etcd' ? [...site.members.values()] : [scene.coordinator];
      const all = [...site.coordinators.values(), ...(state === 'etcd' ? keepers : [])];
      await scene.stuckMove('west');
      for (const party of all) await party.harm('kill');
      const copies = keepers.map((keeper) => keeper.copied());
      for (const party of [...all].reverse()) await party.heal();
      await site.connected();
      scene.mendHosts();
      await scene.until(
        'the move to be over',
        ({ route }) => route.journal === null && route.active.cell === 'west',
      );
      await scene.write(h3);
      await scene.snapshot('second');
      for (const party of all) await party.harm('kill');
      for (const [at, keeper] of keepers.entries()) await keeper.putBack(copies[at]!);
      for (const party of [...all].reverse()) await party.heal();
      await site.connected();
      await scene.snapshot('third');
      const { details } = await scene.until('the route to be right', ({ route }) => route.journal === null);
      t.match(details.route, { active: { primary: 'h3', epoch: 2 }, epoch: 2, lineageHead: { seq: 3 } });
      t.match(await h3.stateOf(VOLUME), { state: 'ACTIVE', epoch: 2 });
      await t.rejects(h1.connect(VOLUME), 'the owner that the state named does not serve it');
      await scene.write(h3);
    },
  );
