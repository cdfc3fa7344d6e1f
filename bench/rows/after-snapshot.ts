// B3: random writes right after a snapshot, when every block is shared: the price of copy on write.
import { inTurn, seriesOf, serverTable } from '../bench.js';
import type { ServerName } from '../finding.js';
import type { FioResult } from '../fio.js';
import { judgeAgainst } from '../judge.js';
import type { Row } from '../row.js';

const BLOCK_BYTES = 4096;
/** Of all blocks; each is written once, so none of them is written as one's own already. */
const SHARE_WRITTEN = 0.2;

export const afterSnapshot: Row = {
  id: 'B3',
  work: '4 KiB random writes right after a snapshot, every block shared',
  needsCellblock: false,
  run: async (bench, data) => {
    const subjects = (await data.cached()).filter(({ name, daemon }) => daemon || name === 'qcow2');
    // The layer on top now stays: only overlays made here are thrown away.
    await data.chain?.snapshot();
    const question = {
      target: '>= 3 x qcow2 with a fresh overlay',
      unit: 'requests/s',
      better: 'higher',
    } as const;
    const findings = [];
    const tables = [];
    for (const processes of [1, 2]) {
      const part = processes === 1 ? '1 process' : `${processes} processes`;
      const results = await inTurn(
        bench,
        `B3 ${part}`,
        subjects,
        async (subject, round): Promise<FioResult> => {
          if (subject.name === 'qcow2') await data.chain?.freshOverlay();
          else await subject.daemon?.snapshot(`${data.cachedVolume}@b3-${processes}-${round}`);
          await bench.settle();
          return bench.fio(data.current(subject), {
            rw: 'randwrite',
            block_bytes: BLOCK_BYTES,
            depth: 32,
            processes,
            range_bytes: bench.sizes.cached_bytes,
            runtime_ms: bench.options.runtime_ms,
            once_bytes: (bench.sizes.cached_bytes * SHARE_WRITTEN) / processes,
          });
        },
      );
      const series = seriesOf<ServerName, FioResult>(results, (result) => result.requests_per_s);
      const absent = {
        limit: 'has no snapshots',
        'qemu-raw': 'has no snapshots',
        nbdkit: 'has no snapshots',
      };
      findings.push(judgeAgainst({ part, ...question }, series, [['qcow2', 3]]));
      tables.push(
        serverTable(
          { title: part, unit: question.unit, absent: { ...absent, 'nbd-server': 'has no snapshots' } },
          series,
        ),
      );
    }
    return { findings, tables, plots: [], notes: [] };
  },
};
