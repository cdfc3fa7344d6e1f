// Three coordinators on three members of etcd, of which members are killed, stopped and cut off, and coordinators too, while all of them write:
// whatever happens, what was acknowledged is there, no gen is given twice, and nobody leads while another one does. How long a failover takes is
// told, not judged.

import t, { type Test } from 'tap';
import { CellblockError } from '../../src/base/errors.js';
import { EtcdClient } from '../../src/coordinator/etcd-client.js';
import { EtcdKeys } from '../../src/coordinator/etcd-keys.js';
import { EtcdLeadership } from '../../src/coordinator/etcd-leadership.js';
import { EtcdStore } from '../../src/coordinator/etcd-store.js';
import { systemClock } from '../../src/protocol/timing.js';
import { CoordinatorHistory } from '../support/coordinator-history.js';
import { byEffort, tooLongForQuick } from '../support/effort.js';
import { EtcdCluster, noEtcd, type Ways } from '../support/etcd-cluster.js';
import { idOf } from '../support/protocol-samples.js';
import { randomOf } from '../support/random.js';
import { seed } from '../support/replay.js';
import { placeOf, routeOf } from '../support/store-contract.js';
import { until } from '../support/waiting.js';

const TTL_MS = 3_000;
const VOLUMES = 4;
const LANES = 6;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const rest = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

interface Coordinator {
  name: string;
  ways: Ways;
  client: EtcdClient;
  leadership: EtcdLeadership;
  store: EtcdStore;
}

class Fleet {
  readonly cluster: EtcdCluster;
  readonly keys: EtcdKeys;
  readonly coordinators: Coordinator[] = [];
  readonly history = new CoordinatorHistory();
  /** Sentences about two that led at once. */
  readonly clashes: string[] = [];
  /** When somebody began to lead, and by which key. */
  readonly reigns: { name: string; revision: string; beganMs: number }[] = [];
  isOver = false;
  #ids = 0;

  constructor(cluster: EtcdCluster) {
    this.cluster = cluster;
    this.keys = new EtcdKeys(cluster.prefix());
  }

  async join(t: Test, name: string): Promise<Coordinator> {
    const ways = await this.cluster.ways();
    const client = new EtcdClient({ endpoints: ways.endpoints, attemptMs: 700, deadlineMs: 2_500 });
    const self = { coordinator: name, address: `ws://${name}` };
    const leadership = new EtcdLeadership({
      self,
      client,
      keys: this.keys,
      clock: systemClock,
      log: quiet,
      ttlMs: TTL_MS,
    });
    const store = await EtcdStore.open(client, this.keys, leadership);
    const coordinator = { name, ways, client, leadership, store };
    this.coordinators.push(coordinator);
    leadership.onChange(() => this.#changed(coordinator));
    leadership.start();
    t.teardown(async () => {
      ways.mend();
      await leadership.close();
      client.close();
    });
    return coordinator;
  }

  get leader(): Coordinator | undefined {
    return this.coordinators.find(({ leadership }) => leadership.isLeader);
  }

  /** A lane of work: reads a route where somebody leads, and replaces it; now and then somebody does who does not lead. */
  async work(random: () => number): Promise<void> {
    while (!this.isOver) {
      this.look('while they work');
      const any = this.coordinators[Math.floor(random() * this.coordinators.length)]!;
      const coordinator = random() < 0.9 ? (this.leader ?? any) : any;
      const volume = idOf(1 + Math.floor(random() * VOLUMES));
      try {
        await this.#change(coordinator, volume);
      } catch (error) {
        if (!(error instanceof CellblockError)) throw error;
        await rest(20);
      }
    }
  }

  async create(): Promise<void> {
    for (let number = 1; number <= VOLUMES; number++) {
      const route = routeOf(number, {
        active: placeOf(`first${number}@${this.leader!.leadership.fence!.createRevision}`),
      });
      const sentMs = performance.now();
      await this.leader!.store.createRoute(route);
      const ended = { endedMs: performance.now(), outcome: 'stored' as const, why: '' };
      this.history.writes.push({ volume: route.volume, id: `first${number}`, gen: 1, sentMs, ...ended });
    }
  }

  /** Two that lead at once would be found whenever anybody looks. */
  look(when: string): void {
    const leading = this.coordinators.filter(({ leadership }) => leadership.isLeader);
    if (leading.length > 1)
      this.clashes.push(`${leading.map(({ name }) => name).join(' and ')} lead ${when}`);
  }

  async #change({ store, leadership }: Coordinator, volume: string): Promise<void> {
    const readMs = performance.now();
    const ledBefore = leadership.fence;
    const route = (await store.route(volume))!;
    this.history.reads.push({ volume, gen: route.gen, sentMs: readMs, endedMs: performance.now() });
    const reign = leadership.fence?.createRevision ?? ledBefore?.createRevision ?? '0';
    const id = `w${++this.#ids}`;
    const write = { volume, id, gen: route.gen + 1, sentMs: performance.now() };
    const end = (outcome: 'stored' | 'refused' | 'unknown', why: string) =>
      this.history.writes.push({ ...write, endedMs: performance.now(), outcome, why });
    try {
      const replaced = await store.replaceRoute({ ...route, active: placeOf(`${id}@${reign}`) });
      end(replaced.stored ? 'stored' : 'refused', `gen ${replaced.route?.gen} is there`);
    } catch (error) {
      const code = error instanceof CellblockError ? error.code : `${error}`;
      end(code === 'coordinator-state-uncertain' ? 'unknown' : 'refused', code);
      throw error;
    }
  }

  #changed({ name, leadership }: Coordinator): void {
    this.look(`when ${name} is told`);
    const revision = leadership.fence?.createRevision;
    if (revision && this.reigns.every((reign) => reign.revision !== revision))
      this.reigns.push({ name, revision, beganMs: performance.now() });
  }
}

/** What is done to them, and undone by healing. */
const FAULTS: Record<string, (fleet: Fleet, random: () => number) => Promise<void>> = {
  'the leader of etcd is killed': async ({ cluster }) => cluster.kill((await cluster.leader()) ?? 0),
  'the leader of etcd is stopped': async ({ cluster }) => cluster.pause((await cluster.leader()) ?? 0),
  'the leader of etcd is cut off from the others': async ({ cluster }) =>
    cluster.isolate((await cluster.leader()) ?? 0),
  'a follower of etcd is killed': async ({ cluster }) =>
    cluster.kill((((await cluster.leader()) ?? 0) + 1) % 3),
  'a majority of etcd is killed': async ({ cluster }, random) => {
    const survivor = Math.floor(random() * 3);
    await Promise.all([1, 2].map((step) => cluster.kill((survivor + step) % 3)));
  },
  'all of etcd is killed': async ({ cluster }) =>
    void (await Promise.all([0, 1, 2].map((index) => cluster.kill(index)))),
  'the coordinator that leads is cut off from etcd': async (fleet) => fleet.leader?.ways.cut(),
  'the coordinator that leads reaches one member, which is cut off from the others': async (
    fleet,
    random,
  ) => {
    const member = Math.floor(random() * 3);
    fleet.leader?.ways.cut([0, 1, 2].filter((index) => index !== member));
    fleet.cluster.isolate(member);
  },
  'the coordinator that leads resigns': async (fleet) => void (await fleet.leader?.leadership.resign()),
};

t.test('faults of etcd', { skip: noEtcd() || tooLongForQuick }, async (t) => {
  const number = seed;
  const random = randomOf(number);
  const cluster = await EtcdCluster.begin(t);
  const fleet = new Fleet(cluster);
  for (const name of ['one', 'two', 'three']) await fleet.join(t, name);
  await until('somebody to lead', () => fleet.leader);
  await fleet.create();
  const lanes = Array.from({ length: LANES }, () => fleet.work(random));
  const acknowledged = () => fleet.history.writes.filter(({ outcome }) => outcome === 'stored').length;

  const rounds = byEffort({ quick: 0, normal: 1, long: 8 });
  for (let round = 0; round < rounds; round++) {
    for (const [name, strike] of Object.entries(FAULTS)) {
      const [led, before] = [fleet.leader, acknowledged()];
      const reigns = fleet.reigns.length;
      const struckMs = performance.now();
      await strike(fleet, random);
      await rest(TTL_MS * (1 + random()));
      for (const { ways } of fleet.coordinators) ways.mend();
      await cluster.heal();
      const healed = acknowledged();
      await until(`writes after: ${name}`, () => acknowledged() > healed + 20);
      const followed = fleet.reigns
        .slice(reigns)
        .map((reign) => `${reign.name} led after ${Math.round(reign.beganMs - struckMs)} ms`);
      const failover = followed.length > 0 ? followed.join(', ') : `${led?.name} led on`;
      t.pass(`${name}: ${failover}; ${acknowledged() - before} writes acknowledged`);
    }
  }

  fleet.isOver = true;
  await Promise.all(lanes);
  const count = (outcome: string) => fleet.history.writes.filter((write) => write.outcome === outcome).length;
  t.comment(
    `seed ${number}: ${count('stored')} stored, ${count('refused')} refused, ${count('unknown')} unknown, ${fleet.history.reads.length} reads, ${fleet.reigns.length} times of leadership`,
  );
  const reader = cluster.client(t);
  for (let volume = 1; volume <= VOLUMES; volume++) {
    const stored = await fleet.history.storedOf(reader, fleet.keys, idOf(volume));
    t.same(
      fleet.history.faultsOf(idOf(volume), stored).slice(0, 5),
      [],
      `volume ${volume}: ${stored.length} revisions`,
    );
  }
  t.same(fleet.clashes.slice(0, 5), [], 'one led at a time');
  t.ok(count('stored') > 100);
  t.ok(fleet.reigns.length > rounds, 'at least who resigned was followed');
});
