// `npm run conformance [WORDS]`: the cases of test/conformance against cellblock and its peers, into docs/conformance.md. With
// words only the cases that have one of them in their name, printed and not written. What a peer fails is a result; the exit code
// is 1 when cellblock fails a case or a requirement is covered by nothing.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allCases, groups } from '../../test/conformance/all-cases.js';
import { caseId, type Group, type Offer } from '../../test/conformance/target.js';
import { describeMachine } from '../machine.js';
import { installPeers } from '../setup.js';
import { page, uncovered } from './page.js';
import { type Server, servers } from './servers.js';
import { type Outcome, Trials } from './trial.js';

const PAGE = join('docs', 'conformance.md');

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}

function chosenGroups(words: readonly string[]): Group[] {
  const wanted = (name: string): boolean => words.length === 0 || words.some((word) => name.includes(word));
  return groups
    .map((group) => ({ ...group, cases: group.cases.filter((one) => wanted(one.name)) }))
    .filter(({ cases }) => cases.length > 0);
}

async function judgeServer(
  trials: Trials,
  server: Server,
  chosen: readonly Group[],
): Promise<Map<string, Outcome>> {
  const offers: ReadonlySet<Offer> = await trials.offersOf(server);
  log(`${server.name} offers: ${[...offers].join(', ')}`);
  const outcomes = new Map<string, Outcome>();
  for (const group of chosen) {
    for (const one of group.cases) {
      const outcome = await trials.judge(server, offers, group, one);
      const id = caseId(group, one);
      outcomes.set(id, outcome);
      if (outcome.verdict !== 'passes') log(`${server.name}: ${id}: ${outcome.verdict}: ${outcome.seen}`);
    }
  }
  return outcomes;
}

function isSound(ours: ReadonlyMap<string, Outcome> | undefined): boolean {
  const isBad = ({ verdict, seen }: Outcome): boolean =>
    verdict !== 'passes' && !(verdict === 'not offered' && seen === 'compact');
  return ours !== undefined && ![...ours.values()].some(isBad);
}

async function main(words: readonly string[]): Promise<number> {
  const chosen = chosenGroups(words);
  const missing = await installPeers(log);
  const present = servers.filter(({ program }) => !missing.has(program));
  const directory = await mkdtemp(join(tmpdir(), 'nbd'));
  const outcomes = new Map<string, Map<string, Outcome>>();
  try {
    const trials = new Trials(directory);
    for (const server of present) outcomes.set(server.name, await judgeServer(trials, server, chosen));
  } finally {
    for (const server of servers) await server.stop?.();
    await rm(directory, { recursive: true, force: true });
  }
  const forgotten = uncovered(allCases).filter(({ why }) => why === null);
  for (const { id, says } of forgotten) log(`uncovered: ${id}: ${says}`);
  if (words.length === 0) {
    const machine = await describeMachine(process.cwd(), tmpdir());
    const taken = new Date().toISOString().slice(0, 10);
    const results = { taken, machine, servers: present.map(({ name }) => name), groups: chosen, outcomes };
    await writeFile(PAGE, page(await readFile(PAGE, 'utf8').catch(() => ''), results));
    log(`written: ${PAGE}`);
  }
  return isSound(outcomes.get('cellblock')) && forgotten.length === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
