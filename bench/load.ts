// B13 and B14: many connections at a time. A load test rather than a race: what a hundred idle clients cost, and whether
// a thousand volumes are served at once within a bound of memory.
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdClient } from '../src/nbd-client/nbd-client.js';
import type { Cellblock } from './cellblock.js';
import { judgeNumber } from './judge.js';
import { withDaemon } from './own-daemon.js';
import type { Row } from './row.js';

const MIB = 1 << 20;
const BLOCK_BYTES = 4096;
const IDLE_CONNECTIONS = 100;
const VOLUMES = 1000;

interface Client {
  readonly name: string;
  readonly connection: NbdClient;
}

async function connectAll(daemon: Cellblock, count: number): Promise<Client[]> {
  const clients: Client[] = [];
  for (let i = 0; i < count; i += 1) {
    const name = `load-${i}`;
    await daemon.createVolume(name, 2 ** 30);
    const { socket } = daemon.target(name);
    clients.push({
      name,
      connection: await NbdClient.connect({ address: `unix:${socket}`, exportName: name }),
    });
  }
  return clients;
}

async function disconnectAll(clients: readonly Client[]): Promise<void> {
  await Promise.all(clients.map(({ connection }) => connection.disconnect()));
}

/** Every client writes, flushes and reads its own bytes, all at once; an error or a wrong byte is thrown. */
async function useAll(clients: readonly Client[]): Promise<void> {
  await Promise.all(
    clients.map(async ({ name, connection }) => {
      const block = Buffer.alloc(BLOCK_BYTES, name);
      await connection.write(BigInt(BLOCK_BYTES), block);
      await connection.flush();
      if (!block.equals(await connection.read(BigInt(BLOCK_BYTES), BLOCK_BYTES))) {
        throw new Error(`${name} reads what it did not write`);
      }
    }),
  );
}

const idle: Row = {
  id: 'B13',
  work: `idle CPU with ${IDLE_CONNECTIONS} exports connected`,
  needsCellblock: true,
  run: (bench) =>
    withDaemon(bench, { label: 'idle' }, async (daemon) => {
      const clients = await connectAll(daemon, IDLE_CONNECTIONS);
      await useAll(clients);
      // Until the journal's last round has brought everything into LevelDB, the daemon is not idle.
      await sleep(10_000);
      const span_ms = Math.max(6000, bench.options.runtime_ms * 4);
      const percents: number[] = [];
      for (let round = 0; round < bench.options.rounds; round += 1) {
        bench.log(`B13: round ${round + 1} of ${bench.options.rounds}`);
        const [before, started] = [await daemon.costs(), performance.now()];
        await sleep(span_ms);
        const after = await daemon.costs();
        percents.push(((after.cpu_ms - before.cpu_ms) / (performance.now() - started)) * 100);
      }
      await disconnectAll(clients);
      const question = {
        part: 'CPU',
        target: '< 0.5 % of a core',
        unit: '% of a core',
        better: 'lower',
      } as const;
      return {
        // A clock tick of 10 ms is the smallest cost that can be seen: none seen counts as one.
        findings: [
          judgeNumber(
            question,
            percents.map((percent) => Math.max(percent, (10 / span_ms) * 100)),
            0.5,
          ),
        ],
        tables: [
          { title: 'idle CPU', unit: question.unit, columns: [{ name: 'cellblock', values: percents }] },
        ],
        plots: [],
        notes: [],
      };
    }),
};

const manyVolumes: Row = {
  id: 'B14',
  work: `${VOLUMES} volumes with one connection each`,
  needsCellblock: true,
  run: (bench) =>
    withDaemon(bench, { label: 'many' }, async (daemon) => {
      const clients = await connectAll(daemon, VOLUMES);
      const mebibytes: number[] = [];
      for (let round = 0; round < bench.options.rounds; round += 1) {
        bench.log(`B14: round ${round + 1} of ${bench.options.rounds}`);
        await useAll(clients);
        mebibytes.push((await daemon.costs()).resident_bytes / MIB);
      }
      const { threads } = await daemon.costs();
      await disconnectAll(clients);
      const question = {
        part: 'memory',
        target: 'works; <= 400 MiB in all',
        unit: 'MiB',
        better: 'lower',
      } as const;
      return {
        findings: [judgeNumber(question, mebibytes, 400)],
        tables: [
          { title: 'resident memory', unit: 'MiB', columns: [{ name: 'cellblock', values: mebibytes }] },
        ],
        plots: [],
        notes: [
          `All clients wrote, flushed and read at once and got their own bytes back; the daemon had ${threads} threads.`,
        ],
      };
    }),
};

export const loadRows: readonly Row[] = [idle, manyVolumes];
