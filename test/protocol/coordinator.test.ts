// The coordinator behind its server, and agents in front of hosts in memory, over sockets: a volume gets a route, is snapshotted and moves.

import { randomBytes } from 'node:crypto';

import t, { type Test } from 'tap';

import { Coordinator } from '../../src/coordinator/coordinator.js';
import type { AgentApplication, AgentClient, CallOutcome } from '../../src/protocol/client.js';
import type { Call, VolumeDescription } from '../../src/protocol/exchange.js';
import { type Agent, CoordinatorScene } from '../support/coordinator-scene.js';
import { CellHost } from '../support/judged-host.js';
import { GivenLeadership, MemoryState } from '../support/memory-coordinator-store.js';
import { until } from '../support/waiting.js';

class Fleet {
  readonly hosts = new Map<string, CellHost>();
  readonly agents = new Map<string, Agent>();
  readonly scene: CoordinatorScene;
  readonly #coordinator: Coordinator;
  readonly #leadership: GivenLeadership;

  private constructor(scene: CoordinatorScene, coordinator: Coordinator, leadership: GivenLeadership) {
    this.scene = scene;
    this.#coordinator = coordinator;
    this.#leadership = leadership;
  }

  static async begin(t: Test): Promise<Fleet> {
    const store = new MemoryState().store();
    const leadership = new GivenLeadership(store, 'c1');
    let coordinator: Coordinator | null = null;
    const scene = await CoordinatorScene.begin(t, {
      application: {
        admit: (hello) => coordinator!.admit(hello),
        call: (host, call) => coordinator!.call(host, call),
        joined: (hello, resumed) => coordinator!.joined(hello, resumed),
        event: (host, event) => coordinator!.event(host, event),
        progress: (host, progress) => coordinator!.progress(host, progress),
      },
    });
    coordinator = new Coordinator({
      store,
      leadership,
      clock: scene.clock,
      log: scene.log,
      freshId: () => randomBytes(16).toString('hex'),
      random: () => 0.5,
    });
    coordinator.start(scene.server);
    const fleet = new Fleet(scene, coordinator, leadership);
    t.teardown(() => coordinator.stop());
    return fleet;
  }

  async lead(): Promise<void> {
    this.#leadership.give();
    await until('a leader', () => this.#coordinator.isReady);
  }

  /** It hears that another leads. */
  dismissed(): void {
    this.#leadership.take();
  }

  async join(t: Test, name: string, cell: string): Promise<CellHost> {
    const host = new CellHost(name, cell);
    this.hosts.set(name, host);
    const { versions: _versions, ...facts } = host.facts();
    const application: Partial<AgentApplication> = {
      facts: () => facts,
      probe: async (volume) => host.answer(volume),
      command: async (volume, command) => host.command(volume, command) as never,
      perform: async (asked) => host.perform(asked.volume, asked) as never,
      claim: async (volume, named) => host.claim(volume, named)!,
      describe: async (volume, after) => host.describe(volume, after) as VolumeDescription,
      pull: async (volume, pull) => {
        const through = host.pulled(volume, pull, this.hosts.get(pull.from.host)!);
        const { epoch, head, state } = host.volumes.get(volume)!.record;
        if (through)
          this.client(name).event({
            name: 'staged',
            volume: { id: volume, epoch, head, state },
            move: pull.move,
            through,
            message: '',
          });
        return { kind: 'done' };
      },
      group: async (group, step) => host.group(group, step),
      load: async () => [],
    };
    this.agents.set(name, await this.scene.joined(t, name, { application }));
    return host;
  }

  client(host: string): AgentClient {
    return this.agents.get(host)!.client;
  }

  /** With the time passing that it takes. */
  async call(host: string, call: Call): Promise<CallOutcome> {
    let outcome: CallOutcome | null = null;
    void this.client(host)
      .call(call, { timeoutMs: 600_000 })
      .then((ended) => {
        outcome = ended;
      });
    return until('a result', () => {
      this.scene.clock.pass(10);
      return outcome;
    });
  }
}

t.test(
  'a volume gets a route, is snapshotted through the coordinator, and moves to another cell',
  async (t) => {
    const fleet = await Fleet.begin(t);
    await fleet.lead();
    const east = await fleet.join(t, 'web-1', 'east');
    const west = await fleet.join(t, 'db-1', 'west');
    east.locals.set('db', { content: 7, snapshots: ['a'.repeat(32)] });
    const claimed = await fleet.call('web-1', {
      verb: 'route-claim',
      arguments: { volume: 'db', host: 'web-1' },
    });
    t.match(claimed, { kind: 'done', value: { name: 'db', snapshots: 1 } });
    const snapshots = [{ volume: 'db', name: 's2' }];
    const taken = await fleet.call('db-1', { verb: 'snapshot-create', arguments: { snapshots } });
    t.match(taken, { kind: 'done', value: { seq: 2, host: 'web-1', rule: 'stay' } });
    const move = { volume: 'db', cell: 'west', withBases: false, dryRun: false };
    t.match(await fleet.call('web-1', { verb: 'move-start', arguments: move }), { kind: 'done' });
    const status: Call = { verb: 'move-status', arguments: { volume: 'db' } };
    await until('the end of the move', async () => {
      const now = await fleet.call('web-1', status);
      return now.kind === 'done' && (now.value as { result: string | null }).result === 'moved';
    });
    const [volume] = [...west.volumes.keys()];
    t.ok(west.owns(volume!));
    t.equal(west.volumes.get(volume!)!.content, 7);
    t.equal(east.answer(volume!).state, 'SEALED');
    const unknown = await fleet.call('db-1', { verb: 'volume-delete', arguments: { volume: 'none' } });
    t.match(unknown, { kind: 'failed', code: 'volume-not-found', hint: /route list/ });
  },
);

t.test('who leads no more sends its hosts away; they come back when it leads again', async (t) => {
  const fleet = await Fleet.begin(t);
  await fleet.lead();
  await fleet.join(t, 'web-1', 'east');
  const { client } = fleet.agents.get('web-1')!;
  fleet.dismissed();
  await until('the host to be away', () => !client.isConnected);
  await fleet.lead();
  await until('the host to be back', () => {
    fleet.scene.clock.pass(100);
    return client.isConnected;
  });
  t.match(await fleet.call('web-1', { verb: 'cell-list', arguments: {} }), { kind: 'done' });
});
