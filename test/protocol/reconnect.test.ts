// Agents and coordinators over real WebSockets: calls and commands, connections that break, coordinators that lead or do not.

import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import t from 'tap';
import { CellblockError } from '../../src/base/errors.js';
import { TIMES } from '../../src/protocol/limits.js';
import { CoordinatorScene } from '../support/coordinator-scene.js';
import { factsOf, idOf, VOLUME } from '../support/protocol-samples.js';
import { Relay } from '../support/relay.js';
import { until } from '../support/waiting.js';

const PROBE = { volume: VOLUME, seqs: [] };
const MINUTE = 60_000;
const list = { verb: 'cell-list', arguments: {} } as const;

/** A port nobody listens on. */
async function deadAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `ws://127.0.0.1:${port}`;
}

t.test('a coordinator asks, commands and has performed; an agent answers', async (t) => {
  const scene = await CoordinatorScene.begin(t);
  const told: number[] = [];
  await scene.joined(t, 'web-1', {
    application: {
      command: async (volume, command) => {
        if (command.do === 'purge') throw new CellblockError('volume-busy', 'It is busy.', { hint: 'Wait.' });
        if (command.do === 'fence') return { kind: 'refused', refusal: 'STALE_EPOCH', because: volume };
        return { kind: 'done', head: null };
      },
      perform: async ({ operation, epoch }, progress) => {
        progress({ volume: VOLUME, move: null, stage: 'cutting', done: 1, total: 2 });
        return { kind: 'done', head: { id: operation.kind === 'snapshot' ? operation.id : '', seq: epoch } };
      },
    },
  });
  t.same(
    scene.server.hosts.map(({ host, cell }) => [host, cell]),
    [['web-1', 'east']],
  );
  t.equal((await scene.server.probe('web-1', PROBE, MINUTE))?.storeId, scene.hellos[0]!.storeId);
  t.same(await scene.server.command('web-1', { volume: VOLUME, command: { do: 'fault' } }, MINUTE), {
    kind: 'done',
    head: null,
  });
  t.same(
    await scene.server.command('web-1', { volume: VOLUME, command: { do: 'fence', releasedTo: 2 } }, MINUTE),
    {
      kind: 'refused',
      refusal: 'STALE_EPOCH',
      because: VOLUME,
    },
  );
  t.same(await scene.server.command('web-1', { volume: VOLUME, command: { do: 'purge' } }, MINUTE), {
    kind: 'failed',
    code: 'volume-busy',
    message: 'It is busy.',
  });
  const operation = { kind: 'snapshot', id: idOf(3), name: 'before' } as const;
  t.same(
    await scene.server.perform(
      'web-1',
      { volume: VOLUME, epoch: 4, parent: null, operation },
      MINUTE,
      ({ done }) => told.push(done),
    ),
    { kind: 'done', head: { id: idOf(3), seq: 4 } },
  );
  t.same(told, [1]);
  t.equal(await scene.server.probe('web-9', PROBE, MINUTE), null, 'who is not there says nothing');
  await t.rejects(scene.server.probe('web-1', { volume: 'v', seqs: [] }, MINUTE), TypeError);
});

t.test('an agent that answers nonsense has failed, and stays', async (t) => {
  const scene = await CoordinatorScene.begin(t);
  await scene.joined(t, 'web-1', {
    application: {
      probe: async () => ({ nonsense: true }) as never,
      command: async () => undefined as never,
    },
  });
  t.equal(await scene.server.probe('web-1', PROBE, MINUTE), null);
  t.match(await scene.server.command('web-1', { volume: VOLUME, command: { do: 'fault' } }, MINUTE), {
    kind: 'failed',
    code: 'internal',
  });
  t.ok(scene.server.isConnected('web-1'));
});

t.test('a call is answered by a result, or by a failure with what to do', async (t) => {
  const progress: number[] = [];
  const scene = await CoordinatorScene.begin(t, {
    application: {
      call: async (host, call, report) => {
        report({ volume: null, move: null, stage: 'looking', done: 1, total: null });
        if (call.verb === 'cell-list') return { host, cells: ['east'] };
        if (call.verb === 'host-list') return { big: 1n };
        throw new CellblockError('volume-not-found', 'There is none.', { hint: 'List them.' });
      },
    },
  });
  const { client } = await scene.joined(t, 'web-1');
  const options = { timeoutMs: MINUTE, progress: ({ done }: { done: number }) => void progress.push(done) };
  t.same(await client.call(list, options), { kind: 'done', value: { host: 'web-1', cells: ['east'] } });
  t.same(progress, [1]);
  t.same(await client.call({ verb: 'move-status', arguments: { volume: 'db' } }, options), {
    kind: 'failed',
    code: 'volume-not-found',
    message: 'There is none.',
    hint: 'List them.',
  });
  t.match(await client.call({ verb: 'host-list', arguments: {} }, options), {
    kind: 'failed',
    code: 'internal',
  });
  await t.rejects(client.call({ verb: 'cell-show', arguments: { cell: '' } }, options), TypeError);
});

t.test(
  'a call without an answer is silent when its time is over, and asked again it is done once',
  async (t) => {
    let calls = 0;
    let answer: (value: unknown) => void = () => undefined;
    const scene = await CoordinatorScene.begin(t, {
      application: {
        call: () => {
          calls++;
          return new Promise((resolve) => {
            answer = resolve;
          });
        },
      },
    });
    const { client } = await scene.joined(t, 'web-1');
    const first = client.call(list, { timeoutMs: 1_000, id: idOf(1) });
    await until('the call to arrive', () => calls === 1);
    scene.clock.pass(2_000);
    t.same(await first, { kind: 'silent' });
    answer('done');
    t.same(await client.call(list, { timeoutMs: MINUTE, id: idOf(1) }), { kind: 'done', value: 'done' });
    t.equal(calls, 1);
  },
);

t.test('a connection that breaks is taken up again: what was asked meanwhile is answered', async (t) => {
  const scene = await CoordinatorScene.begin(t);
  const relay = await Relay.begin(t, () => scene.port);
  const { client, ended, log } = await scene.joined(t, 'web-1', { coordinators: [relay.address] });
  const dialsFailed = () => log.events().filter((event) => event === 'dial-failed').length;
  relay.isCut = true;
  relay.drop();
  await until('both to notice', () => scene.comings.includes('web-1 lost') && !client.isConnected);
  const probed = scene.server.probe('web-1', PROBE, MINUTE);
  const called = client.call(list, { timeoutMs: MINUTE });
  for (let dial = 2; dial <= 5; dial++) {
    scene.clock.pass(2_000);
    await until('another dial', () => relay.taken >= dial);
    // From then on it waits for the next one: time that passes before that brings none.
    await until('it to fail', () => dialsFailed() === dial - 1);
  }
  relay.isCut = false;
  await until('it to come back', () => {
    scene.clock.pass(TIMES.tickMs);
    return client.isConnected;
  });
  t.equal((await probed)?.host, 'web-1');
  t.same(await called, { kind: 'done', value: null });
  t.same(scene.comings, ['web-1 joined', 'web-1 lost', 'web-1 resumed']);
  t.same(ended, []);
});

t.test('it does not dial before its time', async (t) => {
  const scene = await CoordinatorScene.begin(t);
  const relay = await Relay.begin(t, () => scene.port);
  relay.isCut = true;
  const { log } = scene.agent(t, 'web-1', { coordinators: [relay.address] });
  const dialsAfter = async (milliseconds: number, dials: number) => {
    scene.clock.pass(milliseconds);
    await until(
      `dial ${dials} to fail`,
      () => log.events().filter((event) => event === 'dial-failed').length === dials,
    );
    // What was not dialled by the time that this one has failed was not dialled.
    t.equal(relay.taken, dials);
  };
  await dialsAfter(0, 1);
  await dialsAfter(499, 1);
  await dialsAfter(1, 2);
  await dialsAfter(999, 2);
  await dialsAfter(1, 3);
});

t.test('the leader is found by the word of another', async (t) => {
  const leader = await CoordinatorScene.begin(t, { name: 'c2' });
  const other = await CoordinatorScene.begin(t);
  other.admission = {
    admit: false,
    code: 'not-leader',
    message: 'c2 leads.',
    leader: { coordinator: 'c2', address: leader.address },
    retryAfterMs: null,
  };
  const coordinators = [await deadAddress(), other.address];
  const { client, log } = other.agent(t, 'web-1', { coordinators });
  await until('it to be found', () => {
    other.clock.pass(TIMES.tickMs);
    return client.isConnected;
  });
  t.same(leader.comings, ['web-1 joined']);
  t.same(other.comings, []);
  t.match(
    log.lines.find(({ event }) => event === 'refused'),
    { code: 'not-leader' },
  );
  t.ok(log.events().includes('dial-failed'));
});

t.test(
  'another coordinator knows no session: what was asked is silent, and hello says how things are',
  async (t) => {
    const first = await CoordinatorScene.begin(t, {
      application: { call: () => new Promise(() => undefined) },
    });
    const second = await CoordinatorScene.begin(t, { name: 'c2' });
    let target = first;
    const relay = await Relay.begin(t, () => target.port);
    const { client, ended } = await first.joined(t, 'web-1', { coordinators: [relay.address] });
    const called = client.call(list, { timeoutMs: MINUTE });
    target = second;
    relay.drop();
    await until('it to join the other', () => {
      first.clock.pass(TIMES.tickMs);
      return second.comings.length > 0;
    });
    t.same(await called, { kind: 'silent' });
    t.same(second.comings, ['web-1 joined']);
    t.equal(ended.length, 1);
    t.equal((await second.server.probe('web-1', PROBE, MINUTE))?.host, 'web-1');
  },
);

t.test(
  'an agent that stops says so, and does not come back; a coordinator that stops is looked for',
  async (t) => {
    const scene = await CoordinatorScene.begin(t);
    const relay = await Relay.begin(t, () => scene.port);
    const one = await scene.joined(t, 'web-1', { coordinators: [relay.address] });
    const two = await scene.joined(t, 'web-2');
    one.client.stop();
    await until('its goodbye', () => scene.comings.includes('web-1 left'));
    t.same(await one.client.call(list, { timeoutMs: MINUTE }), { kind: 'silent' });
    scene.stop();
    await until('the other to notice', () => two.ended.length === 1);
    t.ok(two.log.events().includes('coordinator-stops'));
    await until('it to dial in vain', () => {
      scene.clock.pass(TIMES.tickMs);
      return two.log.events().includes('dial-failed');
    });
    t.equal(relay.taken, 1);
  },
);

t.test('an agent that cannot say hello tries again', async (t) => {
  const scene = await CoordinatorScene.begin(t);
  let ready = false;
  const { client, log } = scene.agent(t, 'web-1', {
    application: {
      facts: async () => {
        if (!ready) throw new Error('the store is not open');
        return factsOf('web-1');
      },
    },
  });
  await until('it to fail', () => {
    scene.clock.pass(TIMES.tickMs);
    return log.lines.some(({ message }) => message === 'this host cannot say hello');
  });
  t.same(scene.hellos, []);
  ready = true;
  await until('it to join', () => {
    scene.clock.pass(TIMES.tickMs);
    return client.isConnected;
  });
});

t.test('a hello the coordinator cannot look at: the host is told to come later', async (t) => {
  let fails = true;
  const scene = await CoordinatorScene.begin(t, {
    application: {
      admit: async () => {
        if (fails) throw new Error('the database is away');
        return { admit: true, regressed: true, leader: null, highest: [{ id: VOLUME, epoch: 9, seq: 9 }] };
      },
    },
  });
  const welcomes: unknown[] = [];
  const agent = scene.agent(t, 'web-1', {
    application: { welcomed: (welcome) => void welcomes.push(welcome) },
  });
  await until('it to be refused', () => {
    scene.clock.pass(TIMES.tickMs);
    return agent.log.lines.some(({ event, code }) => event === 'refused' && code === 'busy');
  });
  fails = false;
  await until('it to join', () => {
    scene.clock.pass(TIMES.tickMs);
    return agent.client.isConnected;
  });
  t.match(welcomes, [{ regressed: true, highest: [{ id: VOLUME, epoch: 9, seq: 9 }] }]);
});

t.test('events and progress of copies reach the coordinator', async (t) => {
  const told: unknown[] = [];
  const scene = await CoordinatorScene.begin(t, {
    application: {
      event: (host, { name, through }) => void told.push([host, name, through?.seq]),
      progress: (host, { done, total }) => void told.push([host, done, total]),
    },
  });
  const { client } = await scene.joined(t, 'web-1');
  client.progress({ volume: VOLUME, move: idOf(9), stage: 'copying', done: 5, total: 9 });
  client.event({
    name: 'staged',
    volume: { id: VOLUME, epoch: 4, head: null, state: 'STAGED' },
    move: idOf(9),
    through: { id: idOf(7), seq: 3 },
    message: '',
  });
  await until('both to arrive', () => told.length === 2);
  t.same(told, [
    ['web-1', 5, 9],
    ['web-1', 'staged', 3],
  ]);
});
