// B1 over TLS: the reads of B1 over TCP on loopback, in TLS with certificates on both sides, from ours and from the peers;
// and ours in clear on the same port, which is the limit of what TLS can leave.
import { join } from 'node:path';
import { Certificates } from '../../test/support/certificates.js';
import { type Bench, inTurn, seriesOf } from '../bench.js';
import type { ClientResult, ClientWork, TcpExport } from '../client.js';
import { type DataSets, type History, makeHistory, makeSparse, SNAPSHOTS } from '../data-sets.js';
import type { Column, Finding, NumbersTable, ServerName } from '../finding.js';
import { judgeByRule, type PeerRule, type Series } from '../judge.js';
import { withDaemon } from '../own-daemon.js';
import { freePort } from '../processes.js';
import type { Row } from '../row.js';

interface TlsSubject {
  /** `limit`: ours in clear. */
  readonly name: ServerName;
  readonly target: TcpExport;
}

const LIMIT = 'ours in clear';

const RULE: PeerRule = { needed: (best) => best, usesLimit: false, limitName: LIMIT };

interface Part {
  readonly part: string;
  readonly unit: string;
  readonly work: Pick<ClientWork, 'pattern' | 'bytes' | 'depth'>;
  readonly of: (result: ClientResult) => number;
}

const PARTS: readonly Part[] = [
  {
    part: 'random read',
    unit: 'requests/s',
    work: { pattern: 'random', bytes: 4096, depth: 32 },
    of: (result) => result.requests / result.seconds,
  },
  {
    part: '256 KiB sequential read',
    unit: 'MB/s',
    work: { pattern: 'sequential', bytes: 256 << 10, depth: 8 },
    of: (result) => (result.requests * (256 << 10)) / result.seconds / 1e6,
  },
];

/** What several clients at a time did. */
interface Measured {
  readonly rate: number;
  readonly p99_us: number;
  readonly tls: string;
}

async function measure(bench: Bench, target: TcpExport, part: Part, clients: number): Promise<Measured> {
  const size_bytes = bench.sizes.cached_bytes;
  const results = await Promise.all(
    Array.from({ length: clients }, (_, client) => {
      // As fio does it: sequential readers share the volume, random ones each read all of it.
      const range = part.work.pattern === 'sequential' ? size_bytes / clients : size_bytes;
      const start = part.work.pattern === 'sequential' ? client * range : 0;
      const { runtime_ms } = bench.options;
      return bench.client(target, { op: 'read', ...part.work, start, range, runtime_ms, seed: client + 1 });
    }),
  );
  return {
    rate: results.map(part.of).reduce((sum, rate) => sum + rate, 0),
    p99_us: Math.max(...results.map(({ latency_ns }) => latency_ns.p99)) / 1000,
    tls: results[0]?.tls ?? '',
  };
}

function table(title: string, unit: string, series: Series): NumbersTable {
  const columns = [...series].map(
    ([name, values]): Column => ({ name: name === 'limit' ? LIMIT : name, values }),
  );
  return { title, unit, columns };
}

async function comparePart(
  bench: Bench,
  subjects: readonly TlsSubject[],
  part: Part,
  clients: number,
): Promise<{ finding: Finding; tables: NumbersTable[]; suites: string[] }> {
  const words = `${part.part}, ${clients === 1 ? '1 client' : `${clients} clients`}`;
  const results = await inTurn<TlsSubject, Measured>(bench, `B1-TLS ${words}`, subjects, ({ target }) =>
    measure(bench, target, part, clients),
  );
  const rates = seriesOf<ServerName, Measured>(results, ({ rate }) => rate);
  const tails = seriesOf<ServerName, Measured>(results, ({ p99_us }) => p99_us);
  const question = { part: words, target: '>= the best peer over TLS', unit: part.unit, better: 'higher' };
  return {
    finding: judgeByRule({ ...question, better: 'higher' }, rates, RULE),
    tables: [table(words, part.unit, rates), table(`${words}, p99`, 'µs', tails)],
    suites: [...results.values()].flat().map(({ tls }) => tls),
  };
}

/** Every raw peer that is installed, all on one file. */
async function peersOf(bench: Bench, file: string, certificates: string): Promise<TlsSubject[]> {
  const { peers } = bench;
  const subjects: TlsSubject[] = [];
  if (peers.has('qemu-nbd'))
    subjects.push({ name: 'qemu-raw', target: (await peers.qemuTls(file, certificates)).target });
  if (peers.has('nbdkit'))
    subjects.push({ name: 'nbdkit', target: (await peers.nbdkitTls(file, certificates)).target });
  if (peers.has('nbd-server'))
    subjects.push({ name: 'nbd-server', target: (await peers.nbdServerTls(file, certificates)).target });
  return subjects;
}

/** The same writes as in B1, to a file for the peers. */
async function rawFile(bench: Bench, history: History): Promise<string> {
  const file = await makeSparse(bench, 'tls.raw', history.size_bytes);
  const server = await bench.peers.limit(file);
  await makeHistory(
    history,
    (work) => bench.client(server.target, work),
    () => Promise.resolve(),
  );
  await server.stop();
  return file;
}

async function run(bench: Bench, data: DataSets): ReturnType<Row['run']> {
  const certificates = await Certificates.make(join(bench.options.sockets, 'certificates'));
  const history = data.history;
  bench.log(`B1-TLS: making a volume of ${history.size_bytes / 2 ** 20} MiB with ${SNAPSHOTS} snapshots`);
  const peers = await peersOf(bench, await rawFile(bench, history), certificates.directory);
  const tcp = { port: await freePort(), certificates };
  return withDaemon(bench, { label: 'tls', tcp }, async (daemon) => {
    await daemon.createVolume('tls', history.size_bytes);
    await makeHistory(
      history,
      (work) => bench.client(daemon.target('tls'), work),
      (number) => daemon.snapshot(`tls@s${number}`),
    );
    const ours: TlsSubject[] = [
      { name: 'cellblock', target: daemon.tcpTarget('tls', 'tls') },
      { name: 'limit', target: daemon.tcpTarget('tls', 'clear') },
    ];
    const subjects = [...ours, ...peers];
    for (const { target } of subjects)
      await bench.client(target, {
        op: 'read',
        pattern: 'sequential',
        bytes: 1 << 20,
        depth: 8,
        requests: history.size_bytes / 2 ** 20,
      });
    await bench.settle();
    const findings: Finding[] = [];
    const tables: NumbersTable[] = [];
    const suites = new Set<string>();
    for (const part of PARTS) {
      for (const clients of [1, 2]) {
        const compared = await comparePart(bench, subjects, part, clients);
        findings.push(compared.finding);
        tables.push(...compared.tables);
        for (const suite of compared.suites) if (suite !== '') suites.add(suite);
      }
    }
    const notes = [
      `All in TLS but where a column says "in clear", over TCP on loopback, certificates of both sides (P-256) checked, ${[...suites].join(', ')}. ` +
        "Load: the bench's own client, which is the same for all and decrypts on the same two cores.",
    ];
    return { findings, tables, plots: [], notes };
  });
}

export const tlsReads: Row = {
  id: 'B1-TLS',
  work: 'B1 over TLS: 4 KiB random reads, queue 32; and 256 KiB sequential reads, queue 8',
  needsCellblock: true,
  run,
};
