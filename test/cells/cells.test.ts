// The short form of `npm run test:cells`: some of the harms, each at a step of a move, with real processes in network namespaces.
//
// kill -9 leaves the page cache, so this says nothing of power loss.

import t from 'tap';
import { byEffort, tooLongForQuick } from '../support/effort.js';
import { noEtcd } from '../support/etcd-cluster.js';
import { MIB } from '../support/nbd-wire.js';
import { NetworkLab, noNetworks } from '../support/network-lab.js';
import { must, run } from '../support/programs.js';
import { randomOf } from '../support/random.js';
import { seed } from '../support/replay.js';
import { Installation } from './installation.js';
import { type Plan, plans, runRound, TABLE_HEAD, tableLine } from './rounds.js';
import { Subject } from './subject.js';

t.setTimeout(900_000);

const ROUNDS = byEffort({ quick: 0, normal: 4, long: 42 });
/** In a normal run nothing lasts longer than this. */
const SHORT_MS = 3_000;
const HANG_MS = 60_000;

t.test('a network of one machine', { skip: noNetworks() }, async (t) => {
  const lab = new NetworkLab();
  t.teardown(() => lab.remove());
  const [one, two, three] = [lab.add('one', 1), lab.add('two', 2), lab.add('three', 3)];
  /** Nobody listens there: who gets through is refused. Silence is looked at for some time, an answer is waited for. */
  const reaches = async (from: typeof one, to: typeof one, patienceMs = 1_500): Promise<boolean> => {
    const program = `const s = require('net').connect(9, '${to.address}');
      s.on('connect', () => process.exit(0)); s.on('error', (e) => process.exit(e.code === 'ECONNREFUSED' ? 0 : 1));
      setTimeout(() => process.exit(1), ${patienceMs})`;
    const [first, ...rest] = [...from.entrance, process.execPath, '-e', program];
    return (await run(first!, rest)).code === 0;
  };
  t.ok(await reaches(one, two, HANG_MS), 'they reach one another');
  one.cutFrom(two);
  t.notOk(await reaches(one, two), 'one is cut off from two');
  t.notOk(await reaches(two, one), 'and two from one');
  t.ok(await reaches(one, three, HANG_MS), 'and from nobody else');
  one.mendTo(two);
  t.ok(await reaches(two, one, HANG_MS), 'until it is mended');
  three.unplug();
  t.notOk(await reaches(one, three), 'nothing gets to who is unplugged');
  t.notOk(await reaches(three, one), 'nor from there');
  three.plugIn();
  t.ok(await reaches(one, three, HANG_MS), 'until it is plugged in');
});

t.test(
  'what a run has left that was killed is removed by the next one',
  { skip: noNetworks() },
  async (t) => {
    const dead = (await must(process.execPath, ['-p', 'process.pid'])).trim();
    const name = `cellblock-${dead}-1-left`;
    await must('ip', ['netns', 'add', name]);
    const lab = new NetworkLab();
    t.teardown(() => lab.remove());
    t.notMatch(await must('ip', ['netns', 'list']), name);
    t.match(await must('ip', ['netns', 'list']), lab.namespaceOf('bridge'), 'and nothing else');
  },
);

t.test(
  'moves to and fro, while parties are killed, stopped and cut off',
  { skip: tooLongForQuick || noNetworks() || noEtcd() },
  async (t) => {
    t.comment(`CELLBLOCK_SEED=${seed}`);
    const site = await Installation.begin(t);
    const subject = await Subject.make(site, { name: 'db', host: 'h1', sizeBytes: 8 * MIB });
    subject.load.start();
    t.teardown(() => subject.load.stop());
    t.comment(TABLE_HEAD);
    let number = 0;
    for (const plan of chosen()) {
      const result = await runRound(site, subject, plan).catch((error) => {
        for (const { gate } of site.hosts.values()) t.comment(gate.story.split('\n').slice(-30).join('\n'));
        for (const party of site.parties) t.comment(`${party.name}:\n${party.output.slice(-2_000)}`);
        throw error;
      });
      t.comment(tableLine(++number, result));
      t.strictSame(result.problems, [], `${plan.harm} of the ${plan.role}, at ${plan.step}`);
    }
    t.strictSame(await subject.problems('all'), [], 'and all snapshots are what they were');
    t.ok(subject.load.breaks >= ROUNDS, 'the clients lost their connections by the moves');
  },
);

/** Those that come first by the seed. */
function* chosen(): Generator<Plan> {
  let left = ROUNDS;
  for (const plan of plans(randomOf(seed))) {
    if (left-- <= 0) return;
    yield ROUNDS > 10 ? plan : { ...plan, outageMs: Math.min(plan.outageMs, SHORT_MS) };
  }
}
