// The arithmetic behind a verdict of the bench: which peer is the best, what a target asks in each round, and what the
// programs that measure are told and say.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { readArguments, UsageError } from '../../../bench/arguments.js';
import type { ServerName } from '../../../bench/finding.js';
import { fioArguments, parseFio } from '../../../bench/fio.js';
import { AHEAD_OF_PEERS, BEST_PEER, bestPeer, judgeAgainst, judgeByRule } from '../../../bench/judge.js';
import { latencyPlot, plotSvg } from '../../../bench/plot.js';
import { type MeasuredRow, markdown, readReport, withRow, writeReport } from '../../../bench/report.js';
import { quantile, ratios, spread } from '../../../bench/statistics.js';

const series = (values: Partial<Record<ServerName, number[]>>): Map<ServerName, number[]> =>
  new Map(Object.entries(values) as [ServerName, number[]][]);

const higher = { part: 'p', target: 't', unit: 'requests/s', better: 'higher' } as const;
const lower = { ...higher, better: 'lower' } as const;

t.test('a median has its spread, also of an even count', async (t) => {
  t.same(spread([3, 1, 2]), { median: 2, min: 1, max: 3 });
  t.same(spread([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  t.throws(() => spread([]));
});

t.test('ratios are taken round by round', async (t) => {
  t.same(ratios([2, 9], [1, 3]), [2, 3]);
  t.throws(() => ratios([1], [1, 2]));
  t.equal(quantile([5, 1, 3], 0.5), 3);
});

t.test('the best peer is the one with the best median, and never the limit or ours', async (t) => {
  const all = series({ cellblock: [99], limit: [90], nbdkit: [10], qcow2: [20] });
  t.equal(bestPeer(all, 'higher')?.name, 'qcow2');
  t.equal(bestPeer(all, 'lower')?.name, 'nbdkit');
  t.equal(bestPeer(series({ limit: [1] }), 'higher'), null);
});

t.test('B1 asks for the lower of 1.3 x the best peer and 0.85 x the limit', async (t) => {
  t.equal(AHEAD_OF_PEERS.needed(100, 1000), 130);
  t.equal(AHEAD_OF_PEERS.needed(100, 140), 119);
});

t.test('B1 never accepts less than the best peer, however low the limit is', async (t) => {
  t.equal(AHEAD_OF_PEERS.needed(100, 50), 100);
});

t.test('a verdict follows the median score, in either direction', async (t) => {
  const peers = { nbdkit: [100, 100, 100], limit: [1000, 1000, 1000] };
  t.equal(
    judgeByRule(higher, series({ ...peers, cellblock: [131, 200, 10] }), AHEAD_OF_PEERS).verdict,
    'met',
  );
  t.equal(
    judgeByRule(higher, series({ ...peers, cellblock: [129, 200, 10] }), AHEAD_OF_PEERS).verdict,
    'missed',
  );
  t.equal(judgeByRule(lower, series({ ...peers, cellblock: [99, 1, 500] }), BEST_PEER).verdict, 'met');
  t.equal(judgeByRule(lower, series({ ...peers, cellblock: [101, 1, 500] }), BEST_PEER).verdict, 'missed');
});

t.test('without ours nothing is judged, but the peers are still told', async (t) => {
  const finding = judgeByRule(higher, series({ nbdkit: [100], limit: [1000] }), AHEAD_OF_PEERS);
  t.equal(finding.verdict, 'not measured');
  t.match(finding.measured, /best peer nbdkit: 100 /);
});

t.test('of several bounds the hardest counts', async (t) => {
  const all = series({ cellblock: [100], qcow2: [60], 'qemu-raw': [200] });
  t.equal(
    judgeAgainst(higher, all, [
      ['qcow2', 1.5],
      ['qemu-raw', 0.45],
    ]).score?.median,
    100 / 90,
  );
  t.equal(
    judgeAgainst(higher, all, [
      ['qcow2', 1.7],
      ['qemu-raw', 0.45],
    ]).verdict,
    'missed',
  );
  t.equal(judgeAgainst(higher, all, [['nbdkit', 1]]).verdict, 'not measured');
});

t.test('two builds are held against each other, whatever the row asks of peers', async (t) => {
  const slower = series({ cellblock: [96, 96, 96], before: [100, 100, 100] });
  const same = series({ cellblock: [98, 98, 98], before: [100, 100, 100] });
  const verdicts = [judgeByRule(higher, same, AHEAD_OF_PEERS), judgeAgainst(higher, same, [['qcow2', 3]])];
  t.same(
    verdicts.map(({ verdict }) => verdict),
    ['met', 'met'],
  );
  t.match(verdicts[0]?.measured, /0\.98 \(0\.98-0\.98\) x before/);
  t.equal(judgeByRule(higher, slower, AHEAD_OF_PEERS).verdict, 'missed');
  const longer = series({ cellblock: [104], before: [100] });
  t.equal(judgeByRule(lower, longer, BEST_PEER).verdict, 'missed');
  t.equal(judgeAgainst(lower, series({ cellblock: [102], before: [100] }), [['qcow2', 1]]).verdict, 'met');
});

t.test('what takes the place of the limit is named', async (t) => {
  const all = series({ cellblock: [40], limit: [80], nbdkit: [20] });
  const rule = { ...BEST_PEER, limitName: 'ours in clear' };
  t.match(
    judgeByRule(higher, all, rule).measured,
    '2.00 (2.00-2.00) x best peer (nbdkit); 0.50 (0.50-0.50) x ours in clear',
  );
});

t.test('several sequential processes share the range, random ones do not', async (t) => {
  const target = { socket: '/s', name: 'n' };
  const job = { block_bytes: 4096, depth: 1, processes: 2, range_bytes: 1 << 20, runtime_ms: 10 } as const;
  t.match(fioArguments(target, { ...job, rw: 'read' }).join(' '), /--size=524288 --offset_increment=524288 /);
  const random = fioArguments(target, { ...job, rw: 'randread' }).join(' ');
  t.match(random, /--uri=nbd\+unix:\/\/\/n\?socket=\/s .*--size=1048576 /);
  t.notMatch(random, /offset_increment/);
});

t.test('an error that fio reports is an error', async (t) => {
  const idle = { total_ios: 0, iops: 0, bw_bytes: 0, clat_ns: {} };
  const busy = { total_ios: 9, iops: 7, bw_bytes: 8, clat_ns: { percentile: { '99.000000': 5000 } } };
  const report = (error: number): string => JSON.stringify({ jobs: [{ error, read: idle, write: busy }] });
  t.match(parseFio(report(0)), { requests_per_s: 7, bytes_per_s: 8, p99_us: 5 });
  t.throws(() => parseFio(report(5)), /error 5/);
});

t.test('a command line that cannot be meant is refused', async (t) => {
  const known = { all: ['B1', 'B2', 'B1-TLS'], compared: ['B1'] };
  t.same(readArguments(['--rows', 'b1,B2', '--quick'], known).rows, ['B1', 'B2']);
  t.equal(readArguments(['--quick'], known).rounds, 3);
  t.equal(readArguments([], known).rounds, 5);
  t.same(readArguments(['--rows', 'b1-tls'], known).rows, ['B1-TLS']);
  t.throws(() => readArguments(['--rows', 'B8'], known), UsageError);
  t.equal(readArguments(['--against', '/old'], known).against, '/old');
  t.throws(() => readArguments(['--against', '/old', '--rows', 'B2'], known), UsageError);
  t.throws(() => readArguments(['--against', '/old', '--peers-only'], known), UsageError);
  t.throws(() => readArguments(['--rounds', '0'], known), UsageError);
  t.throws(() => readArguments(['--nonsense'], known), UsageError);
});

t.test('a plot stays inside its frame and escapes its words', async (t) => {
  const x = { label: 'x', scale: 'log' } as const;
  const lines = [
    {
      name: 'a<b',
      points: [
        [1, 10],
        [1000, 20],
      ] as [number, number][],
    },
  ];
  const svg = plotSvg({ title: 'A & B', x, y: { label: 'y', scale: 'linear' }, lines });
  t.match(svg, /A &amp; B/);
  t.match(svg, /a&lt;b/);
  t.match(svg, /points="80\.0,192\.5 570\.0,40\.0"/);
  t.throws(() => plotSvg({ title: 'none', x, y: x, lines: [] }));
  t.notMatch(
    latencyPlot('l', [
      {
        name: 's',
        histogram: [
          [1000, 99],
          [5000, 1],
        ],
      },
    ]),
    /NaN|Infinity/,
  );
});

const MACHINE = { cpu: 'c', cores: 2, memory_bytes: 0, kernel: 'k', file_system: 'f', versions: {} };

function measuredRow(id: string, more: Partial<MeasuredRow> = {}): MeasuredRow {
  const method = { rounds: 1, runtime_ms: 1, quick: true, cached_bytes: 0 };
  const taken = { taken: 'now', cellblock: '1 (abc)', method };
  return { id, work: 'w', findings: [], tables: [], plots: [], notes: [], ...taken, ...more };
}

t.test('the page has one line for each finding and escapes what would break its tables', async (t) => {
  const finding = judgeByRule(higher, series({ nbdkit: [1], limit: [2], cellblock: [3] }), AHEAD_OF_PEERS);
  const row = measuredRow('B1', { findings: [{ ...finding, part: 'a|b' }] });
  const page = markdown({ machine: MACHINE, rows: [row] }, 'plots');
  t.match(page, '| B1 | a\\|b | t | 3 requests/s; ');
  t.match(page, '| met |');
});

t.test('a row takes the place of its older self, in order, and rows of another machine leave', async (t) => {
  const two = withRow(withRow(null, MACHINE, measuredRow('B10')), MACHINE, measuredRow('B2'));
  t.strictSame(
    two.rows.map(({ id }) => id),
    ['B2', 'B10'],
  );
  const variants = ['B1-TLS', 'B2', 'B1', 'B1-BEFORE'].reduce(
    (report, id) => withRow(report, MACHINE, measuredRow(id)),
    two,
  );
  t.strictSame(
    variants.rows.map(({ id }) => id),
    ['B1', 'B1-BEFORE', 'B1-TLS', 'B2', 'B10'],
  );
  const again = withRow(
    two,
    { ...MACHINE, versions: { node: 'newer' } },
    measuredRow('B10', { taken: 'later' }),
  );
  t.strictSame(
    again.rows.map(({ id, taken }) => `${id} ${taken}`),
    ['B2 now', 'B10 later'],
  );
  t.equal(withRow(two, { ...MACHINE, kernel: 'another' }, measuredRow('B1')).rows.length, 1);
});

t.test('a report that was written is read back, and its plots stay', async (t) => {
  const directory = t.testdir({ old: { 'benchmarks.json': '{"rows": [{"id": "B1"}]}' } });
  t.equal(await readReport(directory), null, 'nothing there');
  t.equal(await readReport(`${directory}/old`), null, 'of an older bench');
  const plot = { file: 'p.svg', title: 'p', svg: '<svg/>' };
  await writeReport(directory, withRow(null, MACHINE, measuredRow('B1', { plots: [plot] })));
  const read = await readReport(directory);
  t.equal(read?.rows[0]?.id, 'B1');
  const page = await writeReport(directory, withRow(read, MACHINE, measuredRow('B2')));
  t.match(readFileSync(page, 'utf8'), /p\.svg/);
  t.equal(readFileSync(`${directory}/benchmarks/p.svg`, 'utf8'), '<svg/>');
});
