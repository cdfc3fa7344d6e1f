// B17: snapshots and clones per second, against the synced LevelDB batches per second that this machine gives.
import { type Bench, inTurn } from '../bench.js';
import type { Cellblock } from '../cellblock.js';
import { judge, judgeNumber } from '../judge.js';
import { perSecond, withBatches } from '../rates.js';
import type { Row } from '../row.js';

const VOLUMES = 32;
const IN_FLIGHT = 8;

/** One batch after the other. */
function syncedBatches(bench: Bench): Promise<number> {
  return withBatches(bench, (batch) => perSecond(bench.options.runtime_ms, 1, batch));
}

export const controlRates: Row = {
  id: 'B17',
  work: 'snapshots of one volume per second; over 32 volumes; clones per second from one template',
  needsCellblock: true,
  run: async (bench) => {
    const daemon = (await bench.cellblock()) as Cellblock;
    const names = Array.from({ length: VOLUMES }, (_, i) => `rate-${i}`);
    for (const name of names) await daemon.createVolume(name, 2 ** 30);
    await daemon.snapshot('rate-0@template');
    const { runtime_ms } = bench.options;
    const kinds = [
      { name: 'synced batches', measure: () => syncedBatches(bench) },
      {
        name: 'snapshots of one volume',
        measure: async (round: number) => {
          // A volume for each round: what a round measures is not what the rounds before it left.
          await daemon.createVolume(`one-${round}`, 2 ** 30);
          return perSecond(runtime_ms, IN_FLIGHT, (turn) => daemon.snapshot(`one-${round}@${turn}`));
        },
      },
      {
        name: 'snapshots over 32 volumes',
        measure: (round: number) =>
          perSecond(runtime_ms, VOLUMES, (turn, loop) =>
            daemon.snapshot(`${names[loop] as string}@all-${round}-${turn}`),
          ),
      },
      {
        name: 'clones from one template',
        measure: (round: number) =>
          perSecond(runtime_ms, IN_FLIGHT, (turn) =>
            daemon.clone('rate-0@template', `clone-${round}-${turn}`),
          ),
      },
    ];
    const results = await inTurn(bench, 'B17', kinds, async ({ measure }, round) => {
      await bench.settle();
      return measure(round);
    });
    const of = (name: string): number[] => results.get(name) ?? [];
    const unit = 'a second';
    return {
      findings: [
        judge(
          {
            part: 'snapshots of one volume',
            target: '>= 0.4 x synced batches per second',
            unit,
            better: 'higher',
          },
          of('snapshots of one volume'),
          of('synced batches').map((rate) => rate * 0.4),
          [],
        ),
        judgeNumber(
          { part: 'snapshots over 32 volumes', target: '>= 500', unit, better: 'higher' },
          of('snapshots over 32 volumes'),
          500,
        ),
        judgeNumber(
          { part: 'clones from one template', target: '>= 500', unit, better: 'higher' },
          of('clones from one template'),
          500,
        ),
      ],
      tables: [{ title: 'rates', unit, columns: [...results].map(([name, values]) => ({ name, values })) }],
      plots: [],
      notes: [
        `Calls over HTTP on the unix socket with ${IN_FLIGHT} in flight (${VOLUMES} over ${VOLUMES} volumes).`,
      ],
    };
  },
};
