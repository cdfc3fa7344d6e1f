// B19: how long nothing is decided when the leader of three coordinators on etcd ends, stands still, or is cut off from etcd.
import { setTimeout as sleep } from 'node:timers/promises';
import { EtcdClient } from '../../src/coordinator/etcd-client.js';
import { type Bench, inTurn } from '../bench.js';
import { CoordinatorProgram, startEtcd, writeTokens } from '../coordinator/coordinators.js';
import { Fleet, hostName } from '../coordinator/fleet.js';
import { Lines } from '../coordinator/lines.js';
import { judgeNumber } from '../judge.js';
import type { Row } from '../row.js';

const HOSTS = 12;
const CELLS = 3;
const VOLUME = 'v';
const LIMIT_MS = 60_000;

async function until<T>(what: string, look: () => T | null | false | Promise<T | null | false>): Promise<T> {
  const began = performance.now();
  for (;;) {
    const found = await look();
    if (found !== null && found !== false) return found;
    if (performance.now() - began > LIMIT_MS) throw new Error(`no ${what} within ${LIMIT_MS} ms`);
    await sleep(20);
  }
}

async function served(endpoints: readonly string[]): Promise<void> {
  const client = new EtcdClient({ endpoints: endpoints.map((one) => `http://${one}`), deadlineMs: 1_000 });
  try {
    await until('etcd that serves', () =>
      client.ask('/v3/kv/put', { key: 'YQ==', value: 'YQ==' }).then(
        () => true,
        () => false,
      ),
    );
  } finally {
    client.close();
  }
}

class Three {
  readonly #all: readonly CoordinatorProgram[];
  readonly #fleet: Fleet;
  taken = 0;

  readonly volume: string;

  constructor(all: readonly CoordinatorProgram[], fleet: Fleet, volume: string) {
    this.#all = all;
    this.#fleet = fleet;
    this.volume = volume;
  }

  /** False: it was refused, or not answered. */
  async snapshot(name: string, timeoutMs: number): Promise<boolean> {
    const call = { verb: 'snapshot-create', arguments: { snapshots: [{ volume: VOLUME, name }] } } as const;
    const asked = this.#fleet.call(HOSTS - 1, call).then(
      () => true,
      () => false,
    );
    return Promise.race([asked, sleep(timeoutMs, false)]);
  }

  /** Milliseconds until a snapshot is answered again; whoever was hurt is mended then. */
  async without(
    hurt: (leader: CoordinatorProgram) => unknown,
    mend: (leader: CoordinatorProgram) => unknown,
  ): Promise<number> {
    const leader = await until('one leader', () => this.#leader());
    await until('fleet', () => this.#fleet.connected === HOSTS);
    await this.#one();
    const began = performance.now();
    await hurt(leader);
    await this.#one();
    const took = performance.now() - began;
    await mend(leader);
    await until(
      'all three',
      () => this.#all.every((each) => each.complaint !== '') && this.#fleet.connected === HOSTS,
    );
    // Whoever has come back has its place among those that wait.
    await sleep(1_000);
    return took;
  }

  /** Null: none says so, or one has not noticed yet that it leads no more. */
  #leader(): CoordinatorProgram | null {
    const leaders = this.#all.filter((each) => each.leads);
    return leaders.length === 1 ? leaders[0]! : null;
  }

  /** The same name until it is answered: it is one snapshot. */
  async #one(): Promise<void> {
    const name = `s${this.taken}`;
    await until('snapshot', async () => (await this.snapshot(name, 1_000)) || this.#isTaken());
    this.taken += 1;
  }

  #isTaken(): boolean {
    return (this.#fleet.lineages.get(this.volume)?.length ?? 0) > this.taken;
  }
}

interface Begun {
  three: Three;
  fleet: Fleet;
  all: CoordinatorProgram[];
  /** From each coordinator to etcd. */
  lines: Map<CoordinatorProgram, Lines>;
}

async function begin(bench: Bench): Promise<Begun> {
  const endpoints = await startEtcd(bench);
  await served(endpoints);
  const tokens = bench.path('failover-tokens');
  await writeTokens(tokens, { hosts: HOSTS, cells: CELLS });
  const lines = new Map<CoordinatorProgram, Lines>();
  for (const name of ['c1', 'c2', 'c3']) {
    const way = await Lines.to(endpoints);
    const state = `etcd://${way.addresses.join(',')}`;
    lines.set(await CoordinatorProgram.make(bench, name, { state, tokens }), way.lines);
  }
  const all = [...lines.keys()];
  for (const one of all) one.start();
  await until('leader', () => all.some((one) => one.leads));
  const fleet = new Fleet({
    hosts: HOSTS,
    cells: CELLS,
    volumes: 0,
    addresses: all.map(({ address }) => address),
  });
  fleet.start();
  await until('fleet', () => fleet.connected === HOSTS);
  const claim = { verb: 'route-claim', arguments: { volume: VOLUME, host: hostName(0) } } as const;
  const { volume } = await fleet.call<{ volume: string }>(1, claim);
  return { three: new Three(all, fleet, volume), fleet, all, lines };
}

export const coordinatorFailover: Row = {
  id: 'B19',
  work: 'three coordinators on etcd of three members: time from the death, the standstill or the isolation of the leader to the next snapshot',
  needsCellblock: true,
  run: async (bench) => {
    const { three, fleet, all, lines } = await begin(bench);
    const kinds = [
      {
        name: 'killed',
        measure: () =>
          three.without(
            (leader) => leader.stop('SIGKILL'),
            (leader) => leader.start(),
          ),
      },
      {
        name: 'stopped in order',
        measure: () =>
          three.without(
            (leader) => leader.stop('SIGTERM'),
            (leader) => leader.start(),
          ),
      },
      {
        name: 'standing still',
        measure: () =>
          three.without(
            (leader) => leader.signal('SIGSTOP'),
            (leader) => leader.signal('SIGCONT'),
          ),
      },
      {
        name: 'cut off from etcd',
        measure: () =>
          three.without(
            (leader) => lines.get(leader)!.cut(),
            (leader) => lines.get(leader)!.mend(),
          ),
      },
    ];
    const results = await inTurn(bench, 'B19', kinds, ({ measure }) => measure());
    const ids = fleet.lineages.get(three.volume) ?? [];
    if (ids.length !== three.taken || new Set(ids).size !== ids.length)
      throw new Error(`${three.taken} snapshots were taken, and ${ids.length} are there`);
    await fleet.stop();
    for (const one of all) await one.stop();
    for (const one of lines.values()) one.close();
    const unit = 'ms';
    const bounds: Record<string, number> = {
      killed: 10_000,
      'stopped in order': 2_000,
      'standing still': 20_000,
      'cut off from etcd': 20_000,
    };
    return {
      findings: [...results].map(([part, values]) =>
        judgeNumber({ part, target: `<= ${bounds[part]} ms`, unit, better: 'lower' }, values, bounds[part]!),
      ),
      tables: [
        {
          title: 'until the next snapshot',
          unit,
          columns: [...results].map(([name, values]) => ({ name, values })),
        },
      ],
      plots: [],
      notes: [
        `${HOSTS} hosts over WebSockets that dial the coordinators by themselves; etcd, coordinators and hosts on the same cores. A host asks for the same snapshot again until it is answered.`,
        `Checked: ${three.taken} snapshots were asked for, each was taken once, each as the child of the one before.`,
      ],
    };
  },
};
