// For every rule of the table a way there by what really befalls hosts, coordinators and their disks.

import type { InstallationOptions } from './installation.js';
import { type Scene, type Shown, VOLUME } from './scene.js';

export interface RuleScene {
  rule: string;
  /** Of the page; else the rule. */
  title?: string;
  /** What has happened, for people. */
  story: string;
  /** Without the volume: the scene makes it. */
  begins?: 'empty';
  /** Else one coordinator, with a database of its own. */
  site?: InstallationOptions;
  /** What both cells had answered when it was decided so. */
  states: readonly [x: string, y: string];
  /** What becomes of the operation, or what it would be. */
  result: RegExp;
  play: (scene: Scene) => Promise<Shown>;
}

/** During the first move the coordinator and h1 are copied; both are as they were then when a later disaster is over. */
async function halfMovedBackup(scene: Scene): Promise<{ coordinator: string; h1: string }> {
  await scene.stuckMove('west');
  const h1 = await scene.h1.backUp();
  await scene.site.connected();
  const coordinator = await scene.coordinator.backUp();
  await scene.site.connected();
  scene.mendHosts();
  await scene.until(
    'the move to be over',
    ({ route }) => route.journal === null && route.active.cell === 'west',
  );
  return { coordinator, h1 };
}

/** It is at the step: its message is on its way to the host and does not arrive, or was done and nobody hears of it. */
async function crashAt(
  scene: Scene,
  { host, message, cell }: { host: 'h1' | 'h3'; message: string; cell: string },
  meanwhile: () => Promise<void> = async () => undefined,
): Promise<void> {
  const held = scene.site.host(host).gate.hold(message);
  await scene.move(cell);
  await held.reached;
  await scene.coordinator.harm('kill');
  await meanwhile();
  held.release();
  await scene.coordinator.heal();
}

/** Hand-overs end with asking both again: what is asked for is performed by what is decided then. */
const CARRIED_OUT = /^carried out, and asked again$/;

export const RULE_SCENES: readonly RuleScene[] = [
  {
    rule: 'stay',
    story: 'Nothing has happened: a snapshot is taken where the volume is.',
    states: ['ACTIVE', 'NONE'],
    result: /^performed at east$/,
    play: (scene) => scene.decided('stay'),
  },
  {
    rule: 'stay-extend',
    story:
      'The network between the two hosts is cut while the volume is moved, so its copy does not come on; then a snapshot is asked for.',
    states: ['OUTGOING', 'RECEIVING'],
    result: /^performed at east$/,
    play: async (scene) => {
      await scene.stuckMove('west');
      await scene.snapshot('second');
      return scene.decided('stay-extend');
    },
  },
  {
    rule: 'stay-alone',
    story: 'The host that receives the volume is killed during the move; then a snapshot is asked for.',
    states: ['OUTGOING', 'UNKNOWN'],
    result: /^performed at east$/,
    play: async (scene) => {
      await scene.stuckMove('west');
      await scene.h3.harm('kill');
      await scene.snapshot('second');
      return scene.decided('stay-alone');
    },
  },
  {
    rule: 'finish-y',
    story:
      'The coordinator is killed when the copy is complete and the source sealed, before the source has heard that it is to release the volume; it is started again.',
    states: ['SEALED', 'STAGED'],
    result: CARRIED_OUT,
    play: async (scene) => {
      await crashAt(scene, { host: 'h1', message: 'command release', cell: 'west' });
      return scene.decided('finish-y');
    },
  },
  {
    rule: 'follow',
    story:
      'The coordinator is killed when the receiver has activated the volume and before it has heard of that; it is started again.',
    states: ['SEALED', 'ACTIVE'],
    result: /performed at west/,
    play: async (scene) => {
      await crashAt(scene, { host: 'h3', message: 'reply to command activate', cell: 'west' });
      return scene.decided('follow');
    },
  },
  {
    rule: 'reopen-x',
    story:
      'The network between the two hosts is cut just when the source is sealed, so the last delta cannot be copied; the coordinator is killed and started again, and an operator cancels the move.',
    states: ['SEALED', 'RECEIVING'],
    result: /performed at east/,
    play: async (scene) => {
      // The last delta is what this write makes.
      const held = scene.h1.gate.hold('command seal');
      await scene.move('west');
      await held.reached;
      await scene.write(scene.h1);
      scene.cutHosts();
      held.release();
      await scene.until(
        'the source to be sealed',
        (_details, { x, y }) => x.state === 'SEALED' && y.state === 'RECEIVING',
      );
      await scene.coordinator.harm('kill');
      await scene.coordinator.heal();
      await scene.site.connected();
      await scene.site.said('move', 'cancel', 'disk');
      return scene.decided('reopen-x');
    },
  },
  {
    rule: 'wait',
    story: 'The only host of the volume is killed.',
    states: ['UNKNOWN', 'NONE'],
    result: /^retry$/,
    play: async (scene) => {
      await scene.h1.harm('kill');
      return scene.now('wait');
    },
  },
  {
    rule: 'follow-alone',
    story:
      'The receiver is activated, and the coordinator (of three, on etcd) has stored that, when it is killed before its next write, which would turn the route; the host of before is killed too. Another coordinator leads now, which is asked for a snapshot. When the host of before comes back it has to accept a seal, and serves nobody.',
    site: { state: 'etcd', withStateGates: true },
    states: ['UNKNOWN', 'ACTIVE'],
    result: /^performed at west$/,
    play: async (scene) => {
      const { party, letGo } = await scene.held('reply to store route ACTIVATED', () => scene.move('west'));
      await scene.h1.harm('kill');
      await party.harm('kill');
      letGo();
      await party.heal();
      await scene.snapshot('second');
      const shown = await scene.decided('follow-alone');
      await scene.h1.heal();
      await scene.refused(scene.h1, 'SEALED');
      return shown;
    },
  },
  {
    rule: 'adopt-staged',
    story:
      'The source is sealed and the copy complete when the disk of the source dies; it comes back with a backup of before the last snapshot.',
    states: ['FAULTED', 'STAGED'],
    result: CARRIED_OUT,
    play: async (scene) => {
      const backup = await scene.h1.backUp();
      await scene.site.connected();
      await scene.snapshot('second');
      const held = scene.h1.gate.hold('command release');
      await scene.move('west');
      await held.reached;
      await scene.restore(scene.h1, backup);
      held.release();
      await scene.h1.heal();
      return scene.decided('adopt-staged');
    },
  },
  {
    rule: 'not-found',
    story: 'The host comes back with a backup of before the volume was made.',
    begins: 'empty',
    states: ['NONE', 'NONE'],
    result: /^not-found$/,
    play: async (scene) => {
      const backup = await scene.h1.backUp();
      await scene.site.connected();
      await scene.make();
      await scene.restore(scene.h1, backup);
      await scene.h1.heal();
      return scene.now('not-found');
    },
  },
  {
    rule: 'switch-back',
    story:
      'The volume went west and is on its way back when the coordinator is lost; it comes back with a backup of the first move.',
    states: ['RECEIVING', 'OUTGOING'],
    result: /performed at west/,
    play: async (scene) => {
      const { coordinator } = await halfMovedBackup(scene);
      await scene.write(scene.h3);
      await scene.stuckMove('east');
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      return scene.decided('switch-back');
    },
  },
  {
    rule: 'finish-x',
    story: 'The same, when the copy is complete and its source, in the west, sealed.',
    states: ['STAGED', 'SEALED'],
    result: CARRIED_OUT,
    play: async (scene) => {
      const { coordinator } = await halfMovedBackup(scene);
      await scene.write(scene.h3);
      await crashAt(scene, { host: 'h3', message: 'command release', cell: 'east' }, () =>
        scene.coordinator.putBack(coordinator),
      );
      return scene.decided('finish-x');
    },
  },
  {
    rule: 'reopen-y',
    story:
      'The same, when its source is sealed and the network between the hosts was cut before the last delta.',
    states: ['RECEIVING', 'SEALED'],
    result: /performed at west/,
    play: async (scene) => {
      const { coordinator } = await halfMovedBackup(scene);
      await scene.write(scene.h3);
      const held = scene.h3.gate.hold('command seal');
      await scene.move('east');
      await held.reached;
      await scene.write(scene.h3);
      scene.cutHosts();
      held.release();
      await scene.until(
        'the source to be sealed',
        (_details, { x, y }) => x.state === 'SEALED' && y.state === 'RECEIVING',
      );
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      return scene.decided('reopen-y');
    },
  },
  {
    rule: 'fence',
    story:
      'After a finished move both the coordinator and the host of before come back with backups of that move: both hosts say that they own the volume, and nothing was written to the older one.',
    states: ['OUTGOING', 'ACTIVE'],
    result: CARRIED_OUT,
    play: async (scene) => {
      const { coordinator, h1 } = await halfMovedBackup(scene);
      await scene.restore(scene.h1, h1);
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      await scene.h1.heal();
      return scene.decided('fence');
    },
  },
  {
    rule: 'quarantine',
    story:
      'The same, but the older one was written to before the backup and after its last snapshot: nobody can tell what that is worth.',
    states: ['OUTGOING', 'ACTIVE'],
    result: /quarantined: it was written to after its last snapshot: a fork/,
    play: async (scene) => {
      await scene.write(scene.h1);
      const { coordinator, h1 } = await halfMovedBackup(scene);
      await scene.restore(scene.h1, h1);
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      await scene.h1.heal();
      return scene.decided('quarantine');
    },
  },
  {
    rule: 'follow-degraded',
    story:
      'The same, but the backup of the older host is older than that of the coordinator, which has seen it newer: it is FAULTED.',
    states: ['FAULTED', 'ACTIVE'],
    result: /performed at west/,
    play: async (scene) => {
      const older = await scene.h1.backUp();
      await scene.site.connected();
      await scene.snapshot('second');
      const { coordinator } = await halfMovedBackup(scene);
      await scene.restore(scene.h1, older);
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      await scene.h1.heal();
      return scene.decided('follow-degraded');
    },
  },
  {
    rule: 'elect',
    story:
      'The volume went west, and on its way back its source is sealed, when the coordinator and the host in the east come back with backups of between the moves: both are sealed.',
    states: ['SEALED', 'SEALED'],
    result: /performed at west/,
    play: async (scene) => {
      await scene.moved('west');
      const h1 = await scene.h1.backUp();
      await scene.site.connected();
      const coordinator = await scene.coordinator.backUp();
      await scene.site.connected();
      await crashAt(scene, { host: 'h3', message: 'reply to command seal', cell: 'east' }, async () => {
        await scene.restore(scene.h1, h1);
        await scene.h1.heal();
        await scene.coordinator.putBack(coordinator);
      });
      await scene.site.connected();
      return scene.decided('elect');
    },
  },
  {
    rule: 'creating',
    story:
      'The volume went west and is on its way back when the coordinator comes back with a backup of before the first move: it knows of the eastern host only, which has an unfinished copy.',
    states: ['RECEIVING', 'NONE'],
    result: /^creating$/,
    play: async (scene) => {
      const coordinator = await scene.coordinator.backUp();
      await scene.site.connected();
      await scene.moved('west');
      await scene.write(scene.h3);
      await scene.stuckMove('east');
      await scene.restore(scene.coordinator, coordinator);
      await scene.coordinator.heal();
      return scene.now('creating');
    },
  },
];

/** What becomes of both states when a snapshot succeeds, fails, is refused, or is not answered. */
export const OUTCOME_SCENES: readonly RuleScene[] = [
  {
    rule: 'stay',
    title: 'A snapshot that succeeds',
    story: 'The head moves on, in the route and at the host.',
    states: ['ACTIVE', 'NONE'],
    result: /^performed at east$/,
    play: async (scene) => {
      await scene.snapshot('second');
      return scene.headAt(2);
    },
  },
  {
    rule: 'stay',
    title: 'A snapshot that fails',
    story: 'Its name is taken. The owner stays, nothing moves on, the error is kept and told.',
    states: ['ACTIVE', 'NONE'],
    result: /^failed at east: snapshot-exists$/,
    play: async (scene) => {
      await scene.snapshotAt(scene.h3, 'first');
      return scene.headAt(1);
    },
  },
  {
    rule: 'stay',
    title: 'A snapshot that is refused',
    story:
      'While it is on its way a local snapshot is taken at the host, so its parent is the head no more. Both are asked again, and it is taken behind that one.',
    states: ['ACTIVE', 'NONE'],
    result: /^performed at east$/,
    play: async (scene) => {
      const held = scene.h1.gate.hold('perform snapshot');
      const asked = scene.snapshotAt(scene.h3, 'third');
      await held.reached;
      const local = { targets: [`${VOLUME}@second`], local: true };
      await scene.h1.daemon.api.call('POST', '/v1/snapshots', local);
      held.release();
      await asked;
      return scene.headAt(3);
    },
  },
  {
    rule: 'stay',
    title: 'A snapshot that is not answered',
    story:
      'The host has taken it and is killed before its answer is heard; it is started again. The same id is asked for again, and found: there is one snapshot, not two.',
    states: ['ACTIVE', 'NONE'],
    result: /^performed at east$/,
    play: async (scene) => {
      const held = scene.h1.gate.hold('reply to perform snapshot');
      const asked = scene.snapshotAt(scene.h3, 'second');
      await held.reached;
      await scene.h1.harm('kill');
      held.release();
      await scene.h1.heal();
      await asked;
      return scene.headAt(2);
    },
  },
];

/** What is wrong with what was shown. With a title it is about the last decision. */
export function judged({ rule, title, states, result }: RuleScene, { explained, text }: Shown): string[] {
  const decision = title
    ? explained.decisions.at(-1)
    : explained.decisions.find((each) => each.rule === rule);
  const seen = decision ?? (explained.rule === rule ? { ...explained, result: explained.outcome } : null);
  if (!seen) return [`nothing was decided by ${rule}`];
  const wrong: string[] = [];
  if (seen.x.state !== states[0] || seen.y.state !== states[1])
    wrong.push(`x was ${seen.x.state} and y ${seen.y.state}, not ${states.join(' and ')}`);
  if (!result.test(seen.result)) wrong.push(`its result is ${JSON.stringify(seen.result)}, not ${result}`);
  if (!text.includes(rule)) wrong.push('the page does not name the rule');
  return wrong;
}
