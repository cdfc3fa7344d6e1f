// B18: snapshots and explained decisions per second of one coordinator with many volumes and hosts, and its memory.
import { mkdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { ClassicLevel } from 'classic-level';
import { FORMAT_KEY, formatText, routeKey, routeText } from '../../src/coordinator/state-values.js';
import type { Route } from '../../src/model/cell/route.js';
import { type Bench, inTurn } from '../bench.js';
import { CoordinatorProgram, writeTokens } from '../coordinator/coordinators.js';
import { cellOf, Fleet, hostName, hostOf, storeIdOf, volumeId, volumeName } from '../coordinator/fleet.js';
import { judgeNumber } from '../judge.js';
import { processCosts } from '../machine.js';
import { perSecond } from '../rates.js';
import type { Row } from '../row.js';

const CELLS = 10;
const IN_FLIGHT = 512;
const STRIDE = 7919;
const MIB = 2 ** 20;
const ROUTES_AT_ONCE = 5_000;

interface Size {
  readonly volumes: number;
  readonly hosts: number;
}

/** Written as the program writes it: one by one it would take as long as its fsyncs. */
async function writeState(directory: string, { volumes, hosts }: Size): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const level = new ClassicLevel<string, string>(directory);
  await level.open();
  await level.put(FORMAT_KEY, formatText());
  for (let first = 0; first < volumes; first += ROUTES_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(ROUTES_AT_ONCE, volumes - first) }, (_, at) => first + at);
    await level.batch(
      numbers.map((volume) => ({
        type: 'put' as const,
        key: routeKey(volumeId(volume)),
        value: routeText(routeOf(volume, hosts), 1),
      })),
    );
  }
  await level.close();
}

function routeOf(volume: number, hosts: number): Route {
  const host = hostOf(volume, hosts);
  return {
    volume: volumeId(volume),
    name: volumeName(volume),
    status: 'open',
    active: {
      cell: cellOf(host, CELLS),
      epoch: 1,
      primary: hostName(host),
      storeId: storeIdOf(host),
      replicas: [],
      mustSeal: null,
      needsRepair: false,
    },
    alternate: null,
    gen: 1,
    epoch: 1,
    lineageHead: null,
    journal: null,
  };
}

async function until(holds: () => boolean, what: string): Promise<void> {
  const started = performance.now();
  while (!holds()) {
    if (performance.now() - started > 300_000) throw new Error(`no ${what}`);
    await sleep(20);
  }
}

interface Running {
  readonly fleet: Fleet;
  readonly coordinator: CoordinatorProgram;
  readonly size: Size;
  readonly loadedMib: number;
  readonly joinedMs: number;
}

async function begin(bench: Bench, size: Size): Promise<Running> {
  const state = bench.path('coordinator-state');
  const tokens = bench.path('coordinator-tokens');
  await writeState(state, size);
  await writeTokens(tokens, { hosts: size.hosts, cells: CELLS });
  const coordinator = await CoordinatorProgram.make(bench, 'c1', { state, tokens });
  coordinator.start();
  await until(() => coordinator.leads, `leader: ${coordinator.complaint}`);
  const loadedMib = (await processCosts(coordinator.pid)).resident_bytes / MIB;
  const fleet = new Fleet({ ...size, cells: CELLS, addresses: [coordinator.address] });
  const began = performance.now();
  fleet.start();
  await until(() => fleet.connected === size.hosts, `fleet: ${fleet.connected} hosts`);
  return { fleet, coordinator, size, loadedMib, joinedMs: performance.now() - began };
}

/** Every snapshot that was answered is there once, and the coordinator knows the last one. */
async function check({ fleet, size }: Running, answered: number): Promise<void> {
  const taken = [...fleet.lineages.values()].reduce((sum, ids) => sum + ids.length, 0);
  if (taken !== answered) throw new Error(`${answered} snapshots were answered, and ${taken} are there`);
  for (let sample = 0; sample < 100; sample++) {
    const volume = (sample * STRIDE) % size.volumes;
    const ids = fleet.lineages.get(volumeId(volume)) ?? [];
    const { route, explained } = await explain(fleet, volume, sample % size.hosts);
    if (explained.rule !== 'stay') throw new Error(`${volumeName(volume)} is decided by ${explained.rule}`);
    if ((route.lineageHead?.id ?? null) !== (ids.at(-1) ?? null))
      throw new Error(`the route of ${volumeName(volume)} has another last snapshot than its host`);
  }
}

const inCores = (cores: readonly number[]): string => cores.map((one) => one.toFixed(2)).join(', ');

function explain(fleet: Fleet, volume: number, host: number) {
  return fleet.call<{ route: Route; explained: { rule: string } }>(host, {
    verb: 'route-show',
    arguments: { volume: volumeName(volume), explain: true },
  });
}

export const coordinatorRoutes: Row = {
  id: 'B18',
  work: 'one coordinator, 100,000 volumes at 1,000 hosts over WebSockets: snapshots and explained decisions a second, memory',
  needsCellblock: true,
  run: async (bench) => {
    const size = bench.options.sizes.coordinator;
    const running = await begin(bench, size);
    const { fleet, coordinator } = running;
    let answered = 0;
    const cpu: number[] = [];
    const ownCpu: number[] = [];
    const timed = async (work: (turn: number) => Promise<void>): Promise<number> => {
      const before = await processCosts(coordinator.pid);
      const own = process.cpuUsage();
      const began = performance.now();
      const rate = await perSecond(bench.options.runtime_ms, IN_FLIGHT, work);
      const after = await processCosts(coordinator.pid);
      const took = performance.now() - began;
      const { user, system } = process.cpuUsage(own);
      cpu.push((after.cpu_ms - before.cpu_ms) / took);
      ownCpu.push((user + system) / 1000 / took);
      return rate;
    };
    let calls = 0;
    const kinds = [
      {
        name: 'snapshots',
        work: async (): Promise<void> => {
          const turn = calls++;
          const volume = (turn * STRIDE) % size.volumes;
          await fleet.call(turn % size.hosts, {
            verb: 'snapshot-create',
            arguments: { snapshots: [{ volume: volumeName(volume), name: `s${turn}` }] },
          });
          answered += 1;
        },
      },
      {
        name: 'explained decisions',
        work: async (): Promise<void> => {
          const turn = calls++;
          await explain(fleet, (turn * STRIDE) % size.volumes, turn % size.hosts);
        },
      },
    ];
    const results = await inTurn(bench, 'B18', kinds, ({ work }) => timed(work));
    await check(running, answered);
    const { resident_bytes } = await processCosts(coordinator.pid);
    await fleet.stop();
    await coordinator.stop();
    const of = (name: string): number[] => results.get(name) ?? [];
    const memory = [resident_bytes / MIB];
    const unit = 'a second';
    return {
      findings: [
        judgeNumber({ part: 'snapshots', target: '>= 500', unit, better: 'higher' }, of('snapshots'), 500),
        judgeNumber(
          { part: 'explained decisions', target: '>= 2000', unit, better: 'higher' },
          of('explained decisions'),
          2_000,
        ),
        judgeNumber({ part: 'memory', target: '<= 1024 MiB', unit: 'MiB', better: 'lower' }, memory, 1_024),
      ],
      tables: [
        { title: 'rates', unit, columns: [...results].map(([name, values]) => ({ name, values })) },
        {
          title: 'resident memory of the coordinator',
          unit: 'MiB',
          columns: [
            { name: 'routes loaded', values: [running.loadedMib] },
            { name: 'with all hosts, afterwards', values: memory },
          ],
        },
      ],
      plots: [],
      notes: [
        `The program with its state in LevelDB, every change synced; ${size.volumes} volumes, ${size.hosts} hosts, each with a WebSocket of its own on loopback and its volumes in the memory of the bench, which shares the cores with the coordinator. ${IN_FLIGHT} calls in flight.`,
        `All hosts had joined after ${Math.round(running.joinedMs)} ms. Cores the coordinator used while it was measured: ${inCores(cpu)}; the bench, which is all its hosts: ${inCores(ownCpu)}.`,
        `Checked: each of the ${answered} snapshots that were answered is there once, as the child of the one before; the routes know the last ones.`,
      ],
    };
  },
};
