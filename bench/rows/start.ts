// B12: from the start of the daemon to the first block read from a full volume of terabytes, and its memory then.
import { inTurn } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import { judgeNumber } from '../judge.js';
import type { Row } from '../row.js';

const MIB = 1 << 20;

export const start: Row = {
  id: 'B12',
  work: 'start of the daemon to the first read of a full huge volume; memory then',
  needsCellblock: true,
  run: async (bench, data) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    const bytes = bench.sizes.huge_bytes;
    const volume = await data.huge.full(daemon, bytes);
    const results = await inTurn(bench, 'B12', [{ name: 'start' }], async () => {
      await daemon.stop();
      const started_ns = Number(process.hrtime.bigint());
      daemon.spawn();
      const read = await bench.client(daemon.target(volume), {
        op: 'read',
        start: bytes / 2,
        range: 4096,
        requests: 1,
        connect_timeout_ms: 60_000,
      });
      const { resident_bytes } = await daemon.costs();
      await daemon.ready();
      return { seconds: (read.ended_ns - started_ns) / 1e9, mebibytes: resident_bytes / MIB };
    });
    const rounds = results.get('start') ?? [];
    const seconds = rounds.map((round) => round.seconds);
    const mebibytes = rounds.map((round) => round.mebibytes);
    return {
      findings: [
        judgeNumber({ part: 'time', target: '< 1 s', unit: 's', better: 'lower' }, seconds, 1),
        judgeNumber({ part: 'memory', target: '<= 150 MiB', unit: 'MiB', better: 'lower' }, mebibytes, 150),
      ],
      tables: [
        { title: 'start to first read', unit: 's', columns: [{ name: 'cellblock', values: seconds }] },
        { title: 'resident memory then', unit: 'MiB', columns: [{ name: 'cellblock', values: mebibytes }] },
      ],
      plots: [],
      notes: [
        `The volume has ${bytes / 2 ** 30} GiB and a record in every window. Stopped cleanly before each start.`,
      ],
    };
  },
};
