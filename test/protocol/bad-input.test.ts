// What a coordinator makes of bad input over real WebSockets: an error with a code or a closed connection, an event in its log, and the other
// hosts undisturbed.

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { encode } from '../../src/protocol/codec.js';
import { FAULTS, type FaultCode } from '../../src/protocol/faults.js';
import { LIMITS, TIMES } from '../../src/protocol/limits.js';
import { type Agent, CoordinatorScene, type Stranger, tokenOf } from '../support/coordinator-scene.js';
import { answerOf, helloOf, idOf, SAMPLES, VOLUME } from '../support/protocol-samples.js';
import { until } from '../support/waiting.js';

interface Case {
  scene: CoordinatorScene;
  /** Connected the whole time. */
  bystander: Agent;
}

/** Runs a case beside a bystander, and shows that it was not touched. */
async function withBystander(t: Test, run: (given: Case) => Promise<void>): Promise<void> {
  const scene = await CoordinatorScene.begin(t);
  const bystander = await scene.joined(t, 'web-2');
  const before = bystander.log.lines.length;
  await run({ scene, bystander });
  const answer = await scene.server.probe('web-2', { volume: VOLUME, seqs: [] }, 60_000);
  t.equal(answer?.host, 'web-2', 'the bystander answers');
  t.equal(
    (await bystander.client.call({ verb: 'cell-list', arguments: {} }, { timeoutMs: 60_000 })).kind,
    'done',
  );
  t.same(bystander.log.lines.slice(before), [], 'and noticed nothing');
  t.same(
    scene.comings.filter((line) => line.startsWith('web-2')),
    ['web-2 joined'],
  );
}

/** Somebody with the token of web-1 who has said hello, as an agent does. */
async function asWeb1(t: Test, scene: CoordinatorScene): Promise<Stranger> {
  const stranger = await scene.stranger(t, tokenOf('web-1'));
  stranger.send(helloOf('web-1'));
  await stranger.next('welcome');
  return stranger;
}

/** What is below its WebSocket. */
function socketOf({ ws }: Stranger): Socket {
  return (ws as unknown as { _socket: Socket })._socket;
}

function logged(t: Test, { log }: CoordinatorScene, code: FaultCode, level = 'warn'): void {
  const line = log.lines.find(({ event }) => event === code);
  t.equal(line?.level, level, `${code} is in the log`);
  t.equal(line?.message, FAULTS[code].meaning);
}

const CLOSING: { name: string; code: FaultCode; send: (stranger: Stranger) => void }[] = [
  { name: 'malformed', code: 'malformed', send: ({ ws }) => ws.send('{"type":"call"') },
  {
    name: 'malformed within',
    code: 'malformed',
    send: ({ ws }) => ws.send(JSON.stringify({ ...SAMPLES.event, name: 'x' })),
  },
  { name: 'nested too deep', code: 'too-large', send: ({ ws }) => ws.send('['.repeat(1_000)) },
  { name: 'binary', code: 'binary-frame', send: ({ ws }) => ws.send(Buffer.from(encode(SAMPLES.event))) },
  { name: 'out of order', code: 'out-of-order', send: (s) => s.send({ ...SAMPLES.event, seq: 2 }) },
  {
    name: 'an acknowledgement of what was never sent',
    code: 'out-of-order',
    send: (s) => s.send({ type: 'ack', ack: 9 }),
  },
  { name: 'a second hello', code: 'hello-repeated', send: (s) => s.send(helloOf('web-1')) },
  { name: 'what only a coordinator sends', code: 'wrong-direction', send: (s) => s.send(SAMPLES.command) },
];

for (const { name, code, send } of CLOSING)
  t.test(`${name}: an error with a code, and the connection is closed`, (t) =>
    withBystander(t, async ({ scene }) => {
      const stranger = await asWeb1(t, scene);
      send(stranger);
      t.equal((await stranger.next('error')).code, code);
      t.equal(await stranger.closedBy(), FAULTS[code].close);
      logged(t, scene, code);
    }),
  );

t.test('oversized: the connection is closed before the message is whole', (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await asWeb1(t, scene);
    // The head of a frame that says how long it will be; nothing of it follows.
    const head = Buffer.alloc(14);
    head.set([0x81, 0xff]);
    head.writeBigUInt64BE(BigInt(LIMITS.messageBytes + 1), 2);
    socketOf(stranger).write(head);
    t.equal(await stranger.closedBy(), FAULTS['too-large'].close);
    logged(t, scene, 'too-large');
  }),
);

t.test('no text at all: bytes that are no UTF-8, and frames that are none', (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await asWeb1(t, scene);
    // A text frame of two bytes, masked with zeros.
    const socket = socketOf(stranger);
    socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]));
    t.equal(await stranger.closedBy(), 1007);
    logged(t, scene, 'frame-invalid');
    const other = await asWeb1(t, scene);
    socketOf(other).write(Buffer.from([0xff, 0xff, 0xff]));
    t.equal(await other.closedBy(), 1002);
  }),
);

t.test('duplicated: an error with a code, once delivered, and the connection goes on', (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await asWeb1(t, scene);
    stranger.send({ ...SAMPLES.event, seq: 1 });
    stranger.send({ ...SAMPLES.event, seq: 1 });
    t.equal((await stranger.next('error')).code, 'duplicate');
    stranger.send({ ...SAMPLES.event, seq: 2, name: 'changed' });
    await until('the next event', () => scene.comings.includes('web-1 says changed'));
    t.equal(scene.comings.filter((line) => line === 'web-1 says staged').length, 1);
    t.equal(stranger.closed, null);
    logged(t, scene, 'duplicate');
  }),
);

t.test('replayed: a whole exchange that was overheard does nothing again', async (t) => {
  let calls = 0;
  const scene = await CoordinatorScene.begin(t, {
    application: {
      call: async () => {
        calls++;
        return calls;
      },
    },
  });
  const stranger = await asWeb1(t, scene);
  stranger.send({ ...SAMPLES.call, seq: 1 });
  await stranger.next('result');
  stranger.send({ ...SAMPLES.call, seq: 2 });
  await until('the reply again', () => stranger.got.filter(({ type }) => type === 'result').length === 2);
  t.same(
    stranger.got.flatMap((message) => (message.type === 'result' ? [message.value] : [])),
    [1, 1],
  );
  // Over another connection, as it was sent: the hello is that of a host that is connected.
  const replayer = await scene.stranger(t, tokenOf('web-1'));
  replayer.send(helloOf('web-1'));
  t.equal((await replayer.next('refused')).code, 'identity-in-use');
  stranger.ws.close();
  await until('the connection to be lost', () => scene.comings.includes('web-1 lost'));
  const again = await asWeb1(t, scene);
  again.send({ ...SAMPLES.call, seq: 1 });
  t.equal((await again.next('result')).value, 1, 'in a new session it gets the reply of then');
  t.equal(calls, 1);
  t.ok(scene.log.events().includes('request-replayed'));
});

t.test('unauthenticated: no WebSocket at all, and no word of the token in the log', (t) =>
  withBystander(t, async ({ scene }) => {
    for (const token of [
      null,
      'token-of-nobody-0000',
      tokenOf('web-1').slice(0, -1),
      `${tokenOf('web-1')}x`,
    ]) {
      const stranger = await scene.stranger(t, token);
      t.match(stranger.refused, { status: 401, body: { code: 'unauthenticated' } });
    }
    logged(t, scene, 'unauthenticated');
    t.notMatch(JSON.stringify(scene.log.lines), /token-of/);
    t.same(
      scene.hellos.map(({ host }) => host),
      ['web-2'],
    );
  }),
);

t.test("wrong cell, and another's name: refused with a code", (t) =>
  withBystander(t, async ({ scene }) => {
    for (const [hello, code] of [
      [helloOf('web-1', { cell: 'west' }), 'wrong-cell'],
      [helloOf('web-2', { boot: 9 }), 'wrong-host'],
      [helloOf('db-1', { cell: 'west' }), 'wrong-host'],
    ] as const) {
      const stranger = await scene.stranger(t, tokenOf('web-1'));
      stranger.send(hello);
      t.equal((await stranger.next('refused')).code, code);
      t.equal(await stranger.closedBy(), FAULTS[code].close);
      logged(t, scene, code);
    }
  }),
);

t.test("an answer in another's name ends the session of the one who gave it", (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await asWeb1(t, scene);
    const probed = scene.server.probe('web-1', { volume: VOLUME, seqs: [] }, 60_000);
    const { id } = await stranger.next('probe');
    stranger.send({ ...SAMPLES.answer, id, ack: 1, answer: answerOf('web-2') });
    t.equal(await stranger.closedBy(), FAULTS['wrong-host'].close);
    t.equal(await probed, null, 'it counts as no answer');
    logged(t, scene, 'wrong-host');
  }),
);

t.test('two agents with one identity: the second is refused while the first lives', (t) =>
  withBystander(t, async ({ scene }) => {
    const first = await scene.joined(t, 'web-1');
    const second = scene.agent(t, 'web-1', { facts: { storeId: idOf(0xc10e) } });
    scene.clock.pass(0);
    await until('a refusal', () => second.log.events().includes('refused'));
    t.match(
      second.log.lines.find(({ event }) => event === 'refused'),
      { code: 'identity-in-use' },
    );
    logged(t, scene, 'identity-in-use');
    t.ok(first.client.isConnected && !second.client.isConnected);
    t.same(first.ended, []);
    second.client.stop();
  }),
);

t.test('the same host, started again: its old connection is closed', (t) =>
  withBystander(t, async ({ scene }) => {
    const old = await asWeb1(t, scene);
    await scene.joined(t, 'web-1', { facts: { boot: 2 } });
    t.equal((await old.next('error')).code, 'superseded');
    t.equal(await old.closedBy(), FAULTS.superseded.close);
    t.ok(scene.log.events().includes('connection-superseded'));
  }),
);

t.test('a clock that jumps is in the log and decides nothing', (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await asWeb1(t, scene);
    const beat = async (number: number, clockMs: number) => {
      scene.clock.pass(TIMES.heartbeatMs);
      await until('a heartbeat', () =>
        stranger.got.some((message) => message.type === 'ping' && message.number === number),
      );
      await until('the bystander to have answered', () => scene.server.isConnected('web-2'));
      stranger.send({ type: 'pong', number, ack: 0, clockMs, uptimeMs: number * 5_000 });
    };
    await beat(1, 1_800_000_000_000);
    await beat(2, 5);
    await until('an event', () => scene.log.events().includes('clock-jumped'));
    t.match(
      scene.log.lines.find(({ event }) => event === 'clock-jumped'),
      { host: 'web-1', level: 'warn' },
    );
    const probed = scene.server.probe('web-1', { volume: VOLUME, seqs: [] }, 60_000);
    const { id } = await stranger.next('probe');
    stranger.send({ ...SAMPLES.answer, id, ack: 1 });
    t.equal((await probed)?.epoch, 4);
    t.equal(stranger.closed, null);
  }),
);

t.test('a newer version: told which ones are spoken', (t) =>
  withBystander(t, async ({ scene }) => {
    for (const protocols of [['cellblock.v2', 'cellblock.v3'], ['chat'], []]) {
      const stranger = await scene.stranger(t, tokenOf('web-1'), protocols);
      t.match(stranger.refused, { status: 426, body: { code: 'version-unsupported', versions: [1] } });
    }
    const both = await scene.stranger(t, tokenOf('web-1'), ['cellblock.v2', 'cellblock.v1']);
    t.equal(both.ws.protocol, 'cellblock.v1');
    both.ws.send('{"type":"hello","versions":[2],"whatever":{"it":"says"}}');
    t.match(await both.next('refused'), { code: 'version-unsupported', versions: [1] });
    t.equal(await both.closedBy(), FAULTS['version-unsupported'].close);
    logged(t, scene, 'version-unsupported');
  }),
);

t.test('no hello in time: the connection ends', (t) =>
  withBystander(t, async ({ scene }) => {
    const stranger = await scene.stranger(t, tokenOf('web-1'));
    scene.clock.pass(TIMES.helloMs + TIMES.tickMs);
    t.equal((await stranger.next('refused')).code, 'hello-late');
    t.equal(await stranger.closedBy(), FAULTS['hello-late'].close);
    logged(t, scene, 'hello-late');
  }),
);

t.test('a request of HTTP, an upgrade of a page in a browser, and another path', (t) =>
  withBystander(t, async ({ scene }) => {
    t.equal((await fetch(`http://127.0.0.1:${scene.port}/`)).status, 426);
    const upgrade = async (path: string, more: string) => {
      const socket = connect(scene.port, '127.0.0.1');
      const token = `Authorization: Bearer ${tokenOf('web-1')}`;
      const key =
        'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: cellblock.v1';
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${token}\r\n${key}\r\n${more}\r\n`,
      );
      const [answer] = (await once(socket, 'data')) as [Buffer];
      socket.destroy();
      return /^HTTP\/1.1 (\d+)/.exec(String(answer))?.[1];
    };
    t.equal(await upgrade('/', ''), '101');
    t.equal(await upgrade('/', 'Origin: https://example.org\r\n'), '403');
    t.equal(await upgrade('/other', ''), '404');
  }),
);

t.test('a host that does not read is dropped, and the others are not', async (t) => {
  const scene = await CoordinatorScene.begin(t, { bufferedBytes: 256 * 1024 });
  await scene.joined(t, 'web-2');
  const stranger = await asWeb1(t, scene);
  stranger.ws.pause();
  const seqs = Array.from({ length: LIMITS.lineage }, (_, index) => 10 ** 12 + index);
  const asked: Promise<unknown>[] = [];
  await until('it to be dropped', () => {
    if (scene.log.events().includes('slow-reader')) return true;
    asked.push(scene.server.probe('web-1', { volume: VOLUME, seqs }, 60_000));
    return false;
  });
  logged(t, scene, 'slow-reader');
  t.match(
    scene.log.lines.find(({ event }) => event === 'slow-reader')?.detail,
    /does not read/,
    'by what its socket owes, long before what it has not acknowledged',
  );
  t.notOk(scene.server.isConnected('web-1'));
  t.same([...new Set(await Promise.all(asked))], [null], 'what it was asked counts as not answered');
  t.equal((await scene.server.probe('web-2', { volume: VOLUME, seqs: [] }, 60_000))?.host, 'web-2');
  t.same(scene.comings, ['web-2 joined', 'web-1 joined', 'web-1 lost', 'web-1 left']);
});

t.test('a host that floods waits in its own socket', async (t) => {
  let events = 0;
  const scene = await CoordinatorScene.begin(t, { application: { event: () => void events++ } });
  await scene.joined(t, 'web-2');
  const stranger = await asWeb1(t, scene);
  const many = 4 * LIMITS.messagesPerTick;
  for (let seq = 1; seq <= many; seq++) stranger.send({ ...SAMPLES.event, seq });
  await until('its share to be taken', () => events >= LIMITS.messagesPerTick);
  // A round trip of another host: what the flood could have had meanwhile it would have had.
  for (let round = 0; round < 20; round++)
    t.ok(await scene.server.probe('web-2', { volume: VOLUME, seqs: [] }, 60_000), { diagnostic: false });
  t.ok(events < many, `${events} of ${many} were taken in one tick`);
  await until('the rest, tick by tick', () => {
    scene.clock.pass(TIMES.tickMs);
    return events === many;
  });
  t.equal(stranger.closed, null);
});
