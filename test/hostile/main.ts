// The long form of the hostile clients: what they cost others, and whether anything of them stays.
//
//   node dist/test/hostile/main.js [--minutes N] [--pairs N] [--seconds N]
//
// First the price: for each attack, --pairs times, --seconds of a well-behaved client beside the attack, and as long alone before it
// and after it: what it has alone is the mean of the two, so that a machine that gets slower or faster meanwhile changes no ratio. The
// median of the ratios counts. Three clients have to keep 90 % of what they have alone: two as fast as they can, which
// share a processor with the agent while the attackers have the others, as they do elsewhere, so that only what the agent does for
// attackers is taken from the client, once with limits on the attackers' volume and once without; and one that asks for two fifths of
// what it could have, all on the same processors. Where the client is as fast as it can, what counts is the part of its processor that it
// has, of the time that others on this machine (or its host) did not take: requests a second are told beside it, and differ by more from
// one second to the next than what is to be seen. A client as fast as it can on those is measured too, but what the attackers' own
// processes take from it is in its number, and it decides nothing. Then all attacks in turn for --minutes, with the agent's memory,
// sockets and connections after each turn. Prints Markdown; the exit code is 0 only if these three kept 90 % beside every attack and
// nothing grew.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { client } from '../../bench/client.js';
import { run } from '../../bench/processes.js';
import { buildPrograms } from '../../bench/setup.js';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { repositoryRoot } from '../support/programs.js';
import { type Attack, attacks, comparison, type Victim } from './attacks.js';
import { anonymousBytes, released, settled, sockets } from './footprint.js';

const KEPT = 0.9;
/** Of /proc/stat, a second. */
const TICKS = 100;
const LAST = os.availableParallelism() - 1;
const ALL = `0-${LAST}`;
const ROUNDS = 200;
const DEPTH = 16;
/** Memory may differ so much between the first turn and the last: garbage not collected yet. */
const SLACK = 48 * MIB;
/** What an operator might give a volume of somebody who is not trusted. */
const LIMITED = { iops: 2000, bandwidth: 100 * MIB };

interface Setting {
  title: string;
  /** The agent and the client have one processor, the attackers the others. */
  apart: boolean;
  /** Of what the client could have alone; null: all of it. */
  part: number | null;
  limited: boolean;
  decides: boolean;
}

const LIMITS = `${LIMITED.iops} requests and ${LIMITED.bandwidth / MIB} MiB a second`;
const SETTINGS: Setting[] = [
  {
    title: 'A client as fast as it can; the attackers have another processor than it and the agent',
    apart: true,
    part: null,
    limited: false,
    decides: true,
  },
  {
    title: `The same; the attackers' volume has limits (${LIMITS})`,
    apart: true,
    part: null,
    limited: true,
    decides: true,
  },
  {
    title: 'A client that asks for two fifths of what it could have, the attackers on the same processors',
    apart: false,
    part: 0.4,
    limited: false,
    decides: true,
  },
  {
    title: 'A client as fast as it can, the attackers on the same processors (decides nothing)',
    apart: false,
    part: null,
    limited: false,
    decides: false,
  },
];

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    pairs: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '2' },
  },
});
const [minutes, pairs, seconds] = [values.minutes, values.pairs, values.seconds].map(Number) as [
  number,
  number,
  number,
];

const median = (numbers: number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
const inMib = (bytes: number): string => (bytes / MIB).toFixed(1);

const limit = ({ api }: Daemon, name: string, limits: object | null) =>
  api.call('PATCH', `/v1/volumes/${name}`, { limits });

interface Had {
  /** Requests a second. */
  rate: number;
  /** Of the processor time there was on the first processor, what the client used. */
  part: number;
}

/** A client that reads 4 KiB at random places. */
async function work(program: string, socket: string): Promise<Had> {
  const before = stolenSeconds();
  const done = await client(
    program,
    { socket, name: 'own' },
    { op: 'read', depth: DEPTH, runtime_ms: seconds * 1000 },
  );
  if (done.errors > 0) throw new Error(`${done.errors} errors`);
  const there = done.seconds - (stolenSeconds() - before);
  return { rate: done.requests / done.seconds, part: done.cpu_seconds / there };
}

/** What the host of this machine took of the first processor. */
function stolenSeconds(): number {
  const line = /^cpu0 (.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '';
  return Number(line.split(' ')[7] ?? 0) / TICKS;
}

/** An attack that goes on while `measure` runs; it has begun before. */
async function beside<T>(
  { address, name }: Victim,
  attack: Attack,
  processors: string,
  measure: () => Promise<T>,
): Promise<T> {
  const script = path.join(repositoryRoot, 'dist/test/hostile/attacker.js');
  const attacker = [process.execPath, script, address, name, String(ROUNDS), attack.name];
  const words = ['-c', processors, 'nice', '-n', '19', ...attacker];
  const child = spawn('taskset', words, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const begun = new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
  await Promise.race([begun, ended]);
  const result = await measure();
  child.stdin.end();
  child.stdout.resume();
  if ((await ended) !== 0) throw new Error(`the attackers failed: ${attack.name}`);
  return result;
}

/** Where the agent may run, and this process with the client that it starts. */
async function place(daemon: Daemon, processors: string): Promise<void> {
  for (const pid of [daemon.pid, process.pid])
    await run('taskset', ['-a', '-c', '-p', processors, String(pid)]);
}

async function price(program: string, daemon: Daemon, victim: Victim, setting: Setting): Promise<boolean> {
  console.log(`\n### ${setting.title}\n`);
  await place(daemon, setting.apart ? '0' : ALL);
  await limit(daemon, 'own', null);
  await limit(daemon, victim.name, setting.limited ? LIMITED : null);
  if (setting.part !== null) {
    const iops = Math.round((await work(program, daemon.nbdPath)).rate * setting.part);
    await limit(daemon, 'own', { iops });
  }
  const what = setting.apart ? 'of the processor' : 'of the requests';
  console.log(
    `| attack | alone, requests/s | beside it | of these, kept | kept, ${what} | least and most of that |`,
  );
  console.log('|---|---|---|---|---|---|');
  let passed = true;
  for (const attack of [comparison, ...attacks]) {
    const own = () => work(program, daemon.nbdPath);
    const alone = [await own()];
    const with_: Had[] = [];
    for (let n = 0; n < pairs; n++) {
      with_.push(await beside(victim, attack, setting.apart ? `1-${LAST}` : ALL, own));
      await settled(daemon, 0);
      alone.push(await own());
    }
    const keptOf = (number: (had: Had) => number) =>
      with_.map((one, n) => (2 * number(one)) / (number(alone[n] as Had) + number(alone[n + 1] as Had)));
    const ofRequests = median(keptOf(({ rate }) => rate));
    const ratios = keptOf(setting.apart ? ({ part }) => part : ({ rate }) => rate);
    const kept = median(ratios);
    passed &&= kept >= KEPT || attack === comparison || !setting.decides;
    const rates = [alone, with_].map((list) => Math.round(median(list.map(({ rate }) => rate))));
    const range = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2)).join(' - ');
    console.log(
      `| ${attack.name} | ${rates.join(' | ')} | ${ofRequests.toFixed(2)} | ${kept.toFixed(2)} | ${range} |`,
    );
  }
  return passed;
}

async function loop(daemon: Daemon, victim: Victim): Promise<boolean> {
  console.log('\n| turns of all attacks | memory, MiB | sockets |\n|---|---|---|');
  const end = Date.now() + minutes * 60_000;
  const memory: number[] = [];
  const files = sockets(daemon);
  for (let turn = 1; turn === 1 || Date.now() < end; turn++) {
    for (const attack of attacks) await attack.run(victim, ROUNDS);
    await settled(daemon, 0);
    await released(daemon, files);
    memory.push(anonymousBytes(daemon));
    const isPower = (turn & (turn - 1)) === 0;
    if (isPower || Date.now() >= end)
      console.log(`| ${turn} | ${inMib(memory.at(-1) ?? 0)} | ${sockets(daemon)} |`);
  }
  const half = memory.slice(Math.floor(memory.length / 2));
  const growth = median(half.slice(-10)) - median(half.slice(0, 10));
  console.log(`\nFrom the middle to the end memory grew by ${inMib(growth)} MiB (medians of ten turns).`);
  return growth < SLACK;
}

const clean: (() => unknown)[] = [];
try {
  const { client: program } = await buildPrograms(repositoryRoot);
  const daemon = await Daemon.start(
    { teardown: (one) => clean.push(one) },
    { configuration: { nbd: { handshake_timeout_ms: 600_000 } } },
  );
  await daemon.api.createVolume('attacked', 64 * MIB);
  await daemon.api.createVolume('own', 64 * MIB);
  const victim = { address: `unix:${daemon.nbdPath}`, name: 'attacked' };
  await client(
    program,
    { socket: daemon.nbdPath, name: 'own' },
    { op: 'write', bytes: MIB, pattern: 'sequential', requests: 64 },
  );
  let kept = true;
  const usable = SETTINGS.filter((one) => LAST > 0 || !one.apart);
  if (usable.length < SETTINGS.length) console.log('One processor: nothing can be set apart.');
  for (const setting of usable) kept = (await price(program, daemon, victim, setting)) && kept;
  await place(daemon, ALL);
  await limit(daemon, victim.name, null);
  await limit(daemon, 'own', null);
  const bounded = await loop(daemon, victim);
  console.log(
    `\n${kept ? 'Every client kept' : 'Not every client kept'} 90 %; ${bounded ? 'nothing grew' : 'something grew'}.`,
  );
  process.exitCode = kept && bounded ? 0 : 1;
} finally {
  for (const one of clean) await one();
}
