// Cells of real processes, the long form: a volume is moved to and fro under load while one party after the other is killed, stopped and cut off.
//
//   node dist/test/cells/main.js [--minutes N] [--rounds N] [--seed S]
//
// Every role with every harm comes before any comes again; the seed decides the order, the steps and how long each lasts. Prints a table in
// Markdown; the exit code is 0 only if nothing was lost and everything came together each time. Needs to be root.
import { parseArgs } from 'node:util';
import { noEtcd } from '../support/etcd-cluster.js';
import { MIB } from '../support/nbd-wire.js';
import { noNetworks } from '../support/network-lab.js';
import { randomOf } from '../support/random.js';
import { Installation } from './installation.js';
import { plans, runRound, TABLE_HEAD, tableLine } from './rounds.js';
import { Subject } from './subject.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '15' },
    rounds: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});

const reason = noNetworks() || noEtcd();
if (reason) {
  console.error(`cells: ${reason}`);
  process.exit(1);
}

const clean: (() => unknown)[] = [];
const seed = Number(values.seed);
let lost = 0;
try {
  console.log(`Seed ${seed}: run it again with \`npm run test:cells -- --seed ${seed}\`.\n`);
  const site = await Installation.begin({ teardown: (one) => clean.push(one) });
  const subject = await Subject.make(site, { name: 'db', host: 'h1', sizeBytes: 16 * MIB });
  subject.load.start();
  clean.push(() => subject.load.stop());
  console.log(TABLE_HEAD);
  const end = Date.now() + Number(values.minutes) * 60_000;
  let number = 0;
  for (const plan of plans(randomOf(seed))) {
    if (Date.now() >= end || number >= Number(values.rounds)) break;
    try {
      const result = await runRound(site, subject, plan);
      console.log(tableLine(++number, result));
      for (const problem of result.problems) console.log(`\nWRONG: ${problem}\n`);
      lost += result.problems.length;
    } catch (error) {
      console.log(`\nWRONG in round ${number + 1} (${JSON.stringify(plan)}): ${(error as Error).stack}\n`);
      for (const { gate } of site.hosts.values()) console.log(gate.story.split('\n').slice(-40).join('\n'));
      for (const party of site.parties) console.log(`\n${party.name}:\n${party.output.slice(-4_000)}`);
      lost += 1;
      break;
    }
  }
  if (lost === 0)
    for (const problem of await subject.problems('all')) {
      console.log(`\nWRONG at the end: ${problem}`);
      lost += 1;
    }
  await subject.load.stop();
  console.log(
    `\n${subject.load.writes} writes, ${subject.snapshots} snapshots, ${subject.load.breaks} connections lost by clients; ${lost === 0 ? 'nothing was lost' : `${lost} things were wrong`}.`,
  );
} finally {
  for (const one of clean.reverse()) await one();
}
process.exit(lost === 0 ? 0 : 1);
