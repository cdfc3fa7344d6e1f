// `npm run conformance [WORDS]`: the cases of test/conformance against cellblock and its peers, into docs/conformance.md. With
// words only the cases that have one of them in their name, printed and not written. What a peer fails is a result; the exit code
// is 1 when cellblock fails a case or a requirement is covered by nothing.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { allCases, groups } from '../../test/conformance/all-cases.js';
import { caseId, type Group, type Offer } from '../../test/conformance/target.js';
import { type TlsCase, tlsCases } from '../../test/conformance/tls-cases.js';
import { Certificates } from '../../test/support/certificates.js';
import { describeMachine } from '../machine.js';
import { installPeers } from '../setup.js';
import { page, uncovered } from './page.js';
import { type Server, servers } from './servers.js';
import { type TlsServer, tlsServers } from './tls-servers.js';
import { type Outcome, Trials } from './trial.js';

const TLS_GROUP = { name: 'TLS' };
const PAGE = join('docs', 'conformance.md');

function log(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** What is run: all, or what has one of the words in its name. */
function choose(words: readonly string[]): { groups: Group[]; tls: TlsCase[] } {
  const wanted = ({ name }: { name: string }): boolean =>
    words.length === 0 || words.some((word) => name.includes(word));
  const chosen = groups.map((group) => ({ ...group, cases: group.cases.filter(wanted) }));
  return { groups: chosen.filter(({ cases }) => cases.length > 0), tls: tlsCases.filter(wanted) };
}

async function judgeServer(
  trials: Trials,
  server: Server,
  chosen: ReturnType<typeof choose>,
  certificates: Certificates,
): Promise<Map<string, Outcome>> {
  const offers: ReadonlySet<Offer> = await trials.offersOf(server);
  log(`${server.name} offers: ${[...offers].join(', ')}`);
  const outcomes = new Map<string, Outcome>();
  const note = (id: string, outcome: Outcome): void => {
    outcomes.set(id, outcome);
    if (outcome.verdict !== 'passes') log(`${server.name}: ${id}: ${outcome.verdict}: ${outcome.seen}`);
  };
  for (const group of chosen.groups) {
    for (const one of group.cases) note(caseId(group, one), await trials.judge(server, offers, group, one));
  }
  const inTls = tlsServers.find(({ name }) => name === server.name) as TlsServer;
  for (const one of chosen.tls) {
    note(caseId(TLS_GROUP, one), await trials.judgeTls(inTls, offers, certificates, one));
  }
  return outcomes;
}

function isSound(ours: ReadonlyMap<string, Outcome> | undefined): boolean {
  const isBad = ({ verdict, seen }: Outcome): boolean =>
    verdict !== 'passes' && !(verdict === 'not offered' && seen === 'compact');
  return ours !== undefined && ![...ours.values()].some(isBad);
}

async function main(words: readonly string[]): Promise<number> {
  const chosen = choose(words);
  const missing = await installPeers(log);
  const present = servers.filter(({ program }) => !missing.has(program));
  const directory = await mkdtemp(join(tmpdir(), 'nbd'));
  const outcomes = new Map<string, Map<string, Outcome>>();
  try {
    const trials = new Trials(directory);
    const certificates = await Certificates.make(join(directory, 'pki'));
    for (const server of present) {
      outcomes.set(server.name, await judgeServer(trials, server, chosen, certificates));
    }
  } finally {
    for (const server of [...servers, ...tlsServers]) await server.stop?.();
    await rm(directory, { recursive: true, force: true });
  }
  const forgotten = uncovered(allCases).filter(({ why }) => why === null);
  for (const { id, says } of forgotten) log(`uncovered: ${id}: ${says}`);
  if (words.length === 0) {
    const machine = await describeMachine(process.cwd(), tmpdir());
    const taken = new Date().toISOString().slice(0, 10);
    const shown = [...chosen.groups, { ...TLS_GROUP, cases: chosen.tls }];
    const results = { taken, machine, servers: present.map(({ name }) => name), groups: shown, outcomes };
    await writeFile(PAGE, page(await readFile(PAGE, 'utf8').catch(() => ''), results));
    log(`written: ${PAGE}`);
  }
  return isSound(outcomes.get('cellblock')) && forgotten.length === 0 ? 0 : 1;
}

process.exitCode = await main(process.argv.slice(2));
