// Sessions of hosts with a coordinator, machine to machine: order, repetition, loss and resumption, heartbeats, and who is who.

import t from 'tap';
import { encode } from '../../../src/protocol/codec.js';
import { LIMITS, TIMES } from '../../../src/protocol/limits.js';
import type { Body, Message, Reply } from '../../../src/protocol/messages.js';
import { answerOf, helloOf, idOf, SAMPLES, STORE, VOLUME } from '../../support/protocol-samples.js';
import { ProtocolWorld, type WorldHost } from '../../support/protocol-world.js';

const EAST_1 = { host: 'web-1', cell: 'east' };

function oneHost(): { world: ProtocolWorld; host: WorldHost } {
  const world = new ProtocolWorld();
  const host = world.host('web-1').connect();
  world.settle();
  return { world, host };
}

/** Answers a probe that the host was asked. */
function answer(host: WorldHost, number: number): void {
  const reply = { type: 'answer', id: idOf(number), volume: VOLUME, answer: answerOf(host.name) } as const;
  host.run(host.machine.reply(reply));
}

const codes = (logs: { event: string }[]) => logs.map(({ event }) => event);
const typesOf = (settled: { reply: Reply | null }[]) => settled.map(({ reply }) => reply?.type ?? 'silent');
/** What the coordinator has sent down a wire and nobody has taken. */
const said = (texts: readonly string[]) =>
  texts.map((text) => JSON.parse(text) as Message & { code?: string });

t.test('hello is answered by welcome, and then both ask and answer', async (t) => {
  const { world, host } = oneHost();
  t.same(host.resumed, [false]);
  t.same(world.comings, ['web-1 joined']);
  t.ok(world.machine.isConnected('web-1') && host.machine.isLive);
  t.same(
    world.machine.hosts.map((hello) => hello.host),
    ['web-1'],
  );
  world.ask('web-1', 1);
  host.call(2);
  world.settle();
  t.same(host.seen.requests, [{ type: 'probe', id: idOf(1), volume: VOLUME, seqs: [], seq: 1, ack: 0 }]);
  answer(host, 1);
  world.reply('web-1', 2, { done: true });
  world.settle();
  t.same(typesOf(world.seen.settled), ['answer']);
  t.match(host.seen.settled, [{ id: idOf(2), reply: { type: 'result', value: { done: true } } }]);
});

t.test('before the hello is answered nothing else is taken', async (t) => {
  for (const sample of Object.values(SAMPLES).filter(({ type }) => type !== 'hello')) {
    const world = new ProtocolWorld();
    const wire = world.open(EAST_1);
    world.text(wire, encode(sample));
    t.match(said(wire.toHost), [{ type: 'refused', code: 'hello-expected' }], sample.type);
    t.equal(wire.closed, 'hello-expected');
    t.same(world.comings, []);
  }
  const world = new ProtocolWorld();
  world.admission = null;
  const wire = world.open(EAST_1);
  world.text(wire, encode(helloOf('web-1')));
  world.text(wire, encode(SAMPLES.call));
  t.match(said(wire.toHost), [{ type: 'refused', code: 'hello-expected' }], 'nor while it is looked at');
  const twice = world.open({ host: 'web-2', cell: 'east' });
  world.text(twice, encode(helloOf('web-2')));
  world.text(twice, encode(helloOf('web-2')));
  t.match(said(twice.toHost), [{ type: 'refused', code: 'hello-expected' }], 'not even another hello');
});

t.test('who is nobody gets a refusal and nothing else', async (t) => {
  const world = new ProtocolWorld();
  const wire = world.open(null);
  world.text(wire, encode(helloOf('web-1')));
  t.match(said(wire.toHost), [{ type: 'refused', code: 'unauthenticated' }]);
  t.equal(wire.closed, 'unauthenticated');
  t.same([world.comings, codes(world.seen.logs)], [[], ['unauthenticated']]);
});

t.test('a hello that claims another name or cell is refused', async (t) => {
  const { world } = oneHost();
  for (const [identity, code] of [
    [{ host: 'web-2', cell: 'east' }, 'wrong-host'],
    [{ host: 'web-1', cell: 'west' }, 'wrong-cell'],
  ] as const) {
    const wire = world.open(identity);
    world.text(wire, encode(helloOf('web-1', { boot: 9 })));
    t.match(said(wire.toHost), [{ type: 'refused', code }]);
    t.equal(codes(world.seen.logs).at(-1), code);
  }
  t.ok(world.machine.isConnected('web-1'), 'the one who is it stays');
});

t.test('a hello that names a volume twice is refused', async (t) => {
  const world = new ProtocolWorld();
  const volumes = [helloOf('web-1').volumes[0]!, helloOf('web-1').volumes[0]!];
  world.host('web-1').connect({ volumes });
  world.settle();
  t.same(world.hosts[0]!.refusals, ['malformed']);
});

t.test('what the coordinator makes of a hello reaches the host', async (t) => {
  const world = new ProtocolWorld();
  const leader = { coordinator: 'c2', address: 'wss://c2:1' };
  world.admission = { admit: false, code: 'not-leader', message: 'c2 leads.', leader, retryAfterMs: null };
  const host = world.host('web-1').connect();
  world.settle();
  t.same(host.refusals, ['not-leader']);
  t.equal(host.wire, null);
  t.equal(world.wires.get(1)!.closed, 'not-leader');
});

t.test('a hello nobody looks at, and a connection without one, end in time', async (t) => {
  const world = new ProtocolWorld();
  world.admission = null;
  const silent = world.open(EAST_1);
  const host = world.host('web-2').connect({}, { host: 'web-2', cell: 'east' });
  world.pass(TIMES.helloMs - TIMES.tickMs);
  t.equal(silent.closed, null);
  world.pass(TIMES.tickMs);
  t.equal(silent.closed, 'hello-late');
  world.pass(TIMES.admissionMs);
  t.same(host.refusals, ['busy']);
  world.run(
    world.machine.admitted(2, { admit: true, regressed: false, leader: null, highest: [] }, world.now),
  );
  t.same(world.comings, [], 'an admission that comes too late admits nobody');
});

t.test('a second host of one name is refused while the first lives', async (t) => {
  const { world, host } = oneHost();
  for (const more of [{}, { storeId: idOf(0xbad), boot: 7 }, { boot: 0.5 + 0.5 }]) {
    const second = world.host('web-1').connect(more);
    world.settle();
    t.same(second.refusals, ['identity-in-use'], JSON.stringify(more));
  }
  t.equal(codes(world.seen.logs).filter((code) => code === 'identity-in-use').length, 3);
  host.call(1);
  world.settle();
  t.equal(world.seen.requests.length, 1, 'the first goes on');
  host.cut();
  const later = world.host('web-1').connect();
  world.settle();
  t.same(later.resumed, [false], 'when the first is gone the name is free');
});

t.test('a later start of the same store takes the place of the one before', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  const again = world.host('web-1').connect({ boot: 2 });
  world.settle();
  t.same(again.resumed, [false]);
  t.equal(world.wires.get(1)!.closed, 'superseded');
  t.ok(host.wire === null && !host.machine.isLive);
  t.same(typesOf(world.seen.settled), ['silent'], 'what the one before was asked is not answered');
  t.same(world.comings, ['web-1 joined', 'web-1 lost', 'web-1 left', 'web-1 joined']);
});

t.test('a session goes on over a new connection: nothing is lost, nothing comes twice', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  world.settle();
  world.ask('web-1', 2);
  answer(host, 1);
  host.call(3);
  host.cut();
  world.ask('web-1', 4);
  host.call(5);
  host.connect();
  world.settle();
  t.same(host.resumed, [false, true]);
  t.same(
    host.seen.requests.map((request) => request.id),
    [1, 2, 4].map(idOf),
  );
  t.same(
    world.seen.requests.map((request) => request.id),
    [3, 5].map(idOf),
  );
  t.same(typesOf(world.seen.settled), ['answer']);
  t.same(world.comings, ['web-1 joined', 'web-1 lost', 'web-1 resumed']);
});

t.test('who holds a volume is known by the last hello of every host that is connected', async (t) => {
  const world = new ProtocolWorld();
  const [other, third] = [idOf(0xb), idOf(0xc)];
  const holding = (...ids: string[]) =>
    ids.map((id) => ({ id, epoch: 1, head: null, state: 'ACTIVE' as const }));
  const first = world.host('web-1').connect({ volumes: holding(VOLUME, other) });
  const second = world.host('web-2').connect({ volumes: holding(VOLUME) });
  const gone = { id: VOLUME, epoch: 1, head: null, state: 'GONE' as const };
  const tombstone = world.host('web-3').connect({ volumes: [gone, ...holding(third)] });
  t.same(world.machine.holdersOf(VOLUME), [], 'nobody before the hello is admitted');
  world.settle();
  const holders = () =>
    Object.fromEntries([VOLUME, other, third].map((id) => [id, world.machine.holdersOf(id).sort()]));
  t.same(holders(), { [VOLUME]: ['web-1', 'web-2'], [other]: ['web-1'], [third]: ['web-3'] });
  first.cut();
  t.same(holders(), { [VOLUME]: ['web-2'], [other]: [], [third]: ['web-3'] }, 'not without a connection');
  first.connect({ volumes: holding(third) });
  world.settle();
  t.same(first.resumed, [false, true]);
  t.same(holders(), { [VOLUME]: ['web-2'], [other]: [], [third]: ['web-1', 'web-3'] }, 'as it says now');
  world.host('web-3').connect({ boot: 2, volumes: holding(other) });
  world.settle();
  t.equal(tombstone.wire, null);
  t.same(holders(), { [VOLUME]: ['web-2'], [other]: ['web-3'], [third]: ['web-1'] }, 'nor as it was before');
  second.cut();
  world.pass(TIMES.resumeMs + TIMES.tickMs);
  second.connect({ volumes: holding(VOLUME) });
  world.settle();
  t.same(holders()[VOLUME], ['web-2'], 'once, after its session of before has ended');
  world.run(world.machine.dismiss());
  t.same(holders(), { [VOLUME]: [], [other]: [], [third]: [] });
});

t.test('a host whose side of the connection died takes its session up at once', async (t) => {
  const { world, host } = oneHost();
  host.cut('host');
  host.connect();
  world.settle();
  t.same(host.resumed, [false, true]);
  t.equal(world.wires.get(1)!.closed, 'superseded');
});

t.test('a session that nobody takes up in time is over', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  host.call(2);
  host.cut();
  world.pass(TIMES.resumeMs);
  t.same(typesOf(world.seen.settled), ['silent']);
  world.ask('web-1', 3);
  t.same(typesOf(world.seen.settled), ['silent', 'silent'], 'who is not there says nothing');
  host.connect();
  world.settle();
  t.same(host.resumed, [false, false]);
  t.same(typesOf(host.seen.settled), ['silent']);
  t.equal(host.ended.length, 1);
});

t.test('a session is taken up by nobody but its own run', async (t) => {
  const { world, host } = oneHost();
  host.cut();
  const session = JSON.parse(world.wires.get(1)!.toHost[0] ?? '{"session":"?"}') as { session: string };
  t.equal(session.session, '?', 'everything had arrived');
  for (const resume of [
    { session: idOf(0xbad), received: 0 },
    { session: idOf(0x1001), received: 99 },
  ]) {
    const wire = world.open(EAST_1);
    world.text(wire, encode(helloOf('web-1', { resume })));
    t.match(said(wire.toHost), [{ type: 'welcome', resumed: false }]);
    world.run(world.machine.closed(wire.id, world.now));
  }
  t.equal(host.seen.requests.length, 0);
  const other = world.open(EAST_1);
  world.text(other, encode(helloOf('web-1', { boot: 2, resume: { session: idOf(0x1003), received: 0 } })));
  t.match(said(other.toHost), [{ type: 'welcome', resumed: false }], 'not by a later start');
});

t.test(
  'a number that comes again is not delivered again; one that is left out ends the session',
  async (t) => {
    const { world, host } = oneHost();
    const wire = host.wire!;
    world.text(wire, encode({ ...SAMPLES.call, seq: 1 }));
    world.text(wire, encode({ ...SAMPLES.call, seq: 1 }));
    t.equal(world.seen.requests.length, 1);
    t.match(said(wire.toHost), [{ type: 'error', code: 'duplicate', id: SAMPLES.call.id }]);
    t.equal(wire.closed, null);
    world.text(wire, encode({ ...SAMPLES.event, seq: 3 }));
    t.equal(wire.closed, 'out-of-order');
    t.same(world.seen.told, []);
    t.equal(world.comings.at(-1), 'web-1 left');
  },
);

t.test('a host that lacks what it has acknowledged does not go on: a session begins anew', async (t) => {
  const { world, host } = oneHost();
  const resume = { session: idOf(0x1001), received: 0 };
  world.ask('web-1', 1);
  world.settle();
  answer(host, 1);
  world.settle();
  host.cut();
  const wire = world.open(EAST_1);
  world.text(wire, encode(helloOf('web-1', { resume })));
  t.match(said(wire.toHost), [{ type: 'welcome', resumed: false }]);
  const honest = oneHost();
  honest.host.cut();
  const same = honest.world.open(EAST_1);
  honest.world.text(same, encode(helloOf('web-1', { resume })));
  t.match(said(same.toHost), [{ type: 'welcome', resumed: true }], 'of one that lacks nothing it does');
});

t.test('acknowledging what was never sent ends the session', async (t) => {
  const { world, host } = oneHost();
  world.text(host.wire!, encode({ type: 'ack', ack: 1 }));
  t.equal(world.wires.get(1)!.closed, 'out-of-order');
});

t.test('a request that comes again gets the same reply, and is carried out once', async (t) => {
  const { world, host } = oneHost();
  const wire = host.wire!;
  world.text(wire, encode({ ...SAMPLES.call, seq: 1 }));
  world.text(wire, encode({ ...SAMPLES.call, seq: 2 }));
  t.equal(world.seen.requests.length, 1, 'while it is worked on it waits');
  world.reply('web-1', 1, 'first');
  world.reply('web-1', 1, 'second');
  world.text(wire, encode({ ...SAMPLES.call, seq: 3 }));
  t.equal(world.seen.requests.length, 1);
  t.match(
    said(wire.toHost).filter(({ type }) => type === 'result'),
    [{ value: 'first' }, { value: 'first' }],
  );
  world.text(wire, encode({ ...SAMPLES.call, seq: 4, call: { verb: 'cell-list', arguments: {} } }));
  t.match(said(wire.toHost).at(-1), { type: 'error', code: 'request-id-reused' });
  t.equal(wire.closed, null);
});

t.test('also in a session that begins anew', async (t) => {
  const { world, host } = oneHost();
  host.call(1);
  world.settle();
  world.reply('web-1', 1, 'done');
  host.cut();
  const again = world.host('web-1').connect({ boot: 2 });
  world.settle();
  again.call(1);
  world.settle();
  t.equal(world.seen.requests.length, 1);
  t.match(again.seen.settled, [{ reply: { value: 'done' } }]);
});

t.test('also at a host, and when its answer comes after the session', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  world.settle();
  host.cut();
  world.pass(TIMES.resumeMs);
  answer(host, 1);
  host.connect();
  world.settle();
  world.ask('web-1', 1);
  world.settle();
  t.equal(host.seen.requests.length, 1, 'it is not asked again');
  t.same(typesOf(world.seen.settled), ['silent', 'answer']);
});

t.test('a reply that fits nothing: of another kind, about another volume, for another host', async (t) => {
  const wrong: [Body, string][] = [
    [{ type: 'outcome', id: idOf(1), outcome: { kind: 'done' } }, 'reply-mismatch'],
    [{ type: 'answer', id: idOf(1), volume: idOf(0xb), answer: answerOf('web-1') }, 'reply-mismatch'],
    [{ type: 'answer', id: idOf(1), volume: VOLUME, answer: answerOf('web-2') }, 'wrong-host'],
    [
      { type: 'answer', id: idOf(1), volume: VOLUME, answer: { ...answerOf('web-1'), cell: 'west' } },
      'wrong-cell',
    ],
    [
      { type: 'answer', id: idOf(1), volume: VOLUME, answer: { ...answerOf('web-1'), storeId: idOf(9) } },
      'wrong-store',
    ],
  ];
  for (const [body, code] of wrong) {
    const { world, host } = oneHost();
    world.ask('web-1', 1);
    world.text(host.wire!, encode({ ...body, seq: 1, ack: 1 } as Message));
    t.equal(world.wires.get(1)!.closed, code);
    t.same(typesOf(world.seen.settled), ['silent']);
  }
});

t.test('a second reply to one request settles nothing', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  for (const seq of [1, 2])
    world.text(host.wire!, encode({ ...SAMPLES.answer, id: idOf(1), seq, answer: answerOf('web-1') }));
  t.same(typesOf(world.seen.settled), ['answer']);
});

t.test('a late answer is dropped, and nobody is blamed', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1, 500);
  world.settle();
  world.pass(500);
  t.same(typesOf(world.seen.settled), ['silent']);
  answer(host, 1);
  world.settle();
  t.same(typesOf(world.seen.settled), ['silent']);
  t.equal(codes(world.seen.logs).at(-1), 'reply-late');
  t.ok(host.machine.isLive);
});

t.test('messages of the other side are refused', async (t) => {
  const { world, host } = oneHost();
  world.text(host.wire!, encode(SAMPLES.probe));
  t.equal(world.wires.get(1)!.closed, 'wrong-direction');
  const other = oneHost();
  other.host.run(other.host.machine.text(encode(SAMPLES.call), other.world.now));
  t.equal(other.host.wire, null);
  t.equal(codes(other.host.seen.logs).at(-1), 'wrong-direction');
  const third = oneHost();
  third.world.text(third.host.wire!, encode(helloOf('web-1')));
  t.equal(third.world.wires.get(1)!.closed, 'hello-repeated');
});

t.test('heartbeats keep a quiet session; who is silent is let go and may come back', async (t) => {
  const { world, host } = oneHost();
  world.pass(10 * TIMES.silenceMs);
  t.ok(world.machine.isConnected('web-1') && host.machine.isLive);
  world.pass(TIMES.silenceMs + TIMES.heartbeatMs, { settling: false });
  t.equal(world.wires.get(1)!.closed, 'silent');
  t.equal(codes(host.seen.logs).at(-1), 'silent', 'and the host says the same of the coordinator');
  t.notOk(world.comings.includes('web-1 left'));
  host.connect();
  world.settle();
  t.same(host.resumed, [false, true]);
});

t.test('a coordinator that was held up itself blames nobody', async (t) => {
  const { world, host } = oneHost();
  world.pass(TIMES.tickMs);
  world.pass(10 * TIMES.silenceMs, { stepMs: 10 * TIMES.silenceMs });
  t.ok(world.machine.isConnected('web-1') && host.machine.isLive);
  const waiting = world.open({ host: 'web-2', cell: 'east' });
  world.pass(10 * TIMES.helloMs, { stepMs: 10 * TIMES.helloMs });
  t.equal(waiting.closed, null);
});

t.test('a heartbeat is answered once, and only one that was sent', async (t) => {
  const { world, host } = oneHost();
  world.pass(TIMES.heartbeatMs);
  world.text(host.wire!, encode(SAMPLES.pong));
  t.match(said(host.wire!.toHost), [{ type: 'error', code: 'duplicate' }]);
  world.text(host.wire!, encode({ ...SAMPLES.pong, number: 99 }));
  t.equal(world.wires.get(1)!.closed, 'out-of-order');
});

t.test('a clock that jumps is told and decides nothing', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1, 60_000);
  const { wire } = host;
  // The heartbeats of this host are the test's own.
  const pong = (number: number, clockMs: number) => {
    world.pass(TIMES.heartbeatMs);
    world.text(wire!, encode({ type: 'pong', number, ack: 0, clockMs, uptimeMs: number * 5_000 }));
  };
  world.hosts.splice(0);
  pong(1, 1_000_000_000);
  pong(2, 1_000_005_400);
  t.notOk(codes(world.seen.logs).includes('clock-jumped'), 'a clock that is slewed is none');
  pong(3, 0);
  t.match(world.seen.logs.at(-1), {
    event: 'clock-jumped',
    facts: { host: 'web-1', jumpMs: -1_000_010_400 },
  });
  t.ok(world.machine.isConnected('web-1'));
  t.equal(world.seen.settled.length, 0);
  world.now = { ...world.now, clockMs: world.now.clockMs + 365 * 86_400_000 };
  world.pass(TIMES.tickMs);
  t.equal(codes(world.seen.logs).at(-1), 'own-clock-jumped');
  t.ok(world.machine.isConnected('web-1'));
  const before1970 = oneHost();
  before1970.world.now = { ...before1970.world.now, clockMs: -5 };
  before1970.world.pass(2 * TIMES.silenceMs);
  t.ok(
    before1970.world.machine.isConnected('web-1') && before1970.host.machine.isLive,
    'not even before 1970',
  );
});

t.test('what was received is acknowledged, and kept no longer', async (t) => {
  const { world, host } = oneHost();
  for (let number = 1; number <= 3 * LIMITS.unacknowledged; number++) {
    host.tell({
      type: 'progress',
      of: null,
      volume: VOLUME,
      move: null,
      stage: 'copying',
      done: number,
      total: null,
    });
    if (number % 100 === 0) world.settle();
  }
  world.settle();
  t.equal(world.seen.told.length, 3 * LIMITS.unacknowledged);
  t.ok(host.machine.isLive, 'so there is no end to what may be told');
});

t.test('who has nothing to say acknowledges after a while, or after much, and once', async (t) => {
  const { world, host } = oneHost();
  const wire = host.wire!;
  const acks = (texts: readonly string[]) => said(texts).filter(({ type }) => type === 'ack');
  const tell = (stage: string) =>
    host.tell({ type: 'progress', of: null, volume: VOLUME, move: null, stage, done: 1, total: null });
  const pass = (milliseconds: number) => world.pass(milliseconds, { settling: false });
  /** What the coordinator says to that stays on the wire. */
  const arrives = () => {
    for (const text of wire.toCoordinator.splice(0)) world.text(wire, text);
  };
  tell('first');
  arrives();
  pass(750);
  tell('second');
  arrives();
  t.same(acks(wire.toHost), [], 'what is said meanwhile would acknowledge it too');
  pass(250);
  t.same(acks(wire.toHost), [{ type: 'ack', ack: 2 }], 'a second after the first of them');
  pass(750);
  t.equal(acks(wire.toHost).length, 1, 'of nothing new nothing is said');
  world.settle();
  for (let number = 1; number <= 64; number++) tell('many');
  arrives();
  t.same(acks(wire.toHost), [{ type: 'ack', ack: 66 }], 'at once when they are many');
  world.settle();
  for (const number of [1, 2]) host.call(number);
  world.settle();
  for (const number of [1, 2]) world.reply('web-1', number, 'x'.repeat(600_000));
  for (const text of wire.toHost.splice(0)) host.run(host.machine.text(text, world.now));
  t.same(acks(wire.toCoordinator), [{ type: 'ack', ack: 2 }], 'or large');
});

t.test('more than the bounds that nobody acknowledges ends the session', async (t) => {
  const { world, host } = oneHost();
  for (let number = 1; number <= LIMITS.unacknowledged + 1; number++) world.ask('web-1', number);
  t.equal(world.wires.get(1)!.closed, 'slow-reader');
  t.equal(world.seen.settled.length, LIMITS.unacknowledged + 1, 'and everything is settled, as silence');
  t.equal(host.seen.requests.length, 0);
  const away = oneHost();
  away.host.cut();
  for (let number = 1; number <= LIMITS.unacknowledged + 1; number++) away.world.ask('web-1', number);
  t.equal(away.world.comings.at(-1), 'web-1 left', 'also while it has no connection');
});

t.test('more requests than are worked on are refused one by one', async (t) => {
  const { world, host } = oneHost();
  for (let number = 1; number <= LIMITS.requestsInProgress + 1; number++) host.call(number);
  world.settle();
  t.equal(world.seen.requests.length, LIMITS.requestsInProgress);
  t.match(host.seen.settled, [{ reply: { type: 'failed', code: 'too-many-requests' } }]);
  world.reply('web-1', 1, null);
  host.call(LIMITS.requestsInProgress + 1);
  world.settle();
  t.equal(world.seen.requests.length, LIMITS.requestsInProgress + 1, 'asked again later it is taken');
});

t.test('goodbye ends a session at once, from either side', async (t) => {
  const { world, host } = oneHost();
  world.ask('web-1', 1);
  host.run(host.machine.stop('restarting'));
  t.same(world.comings, ['web-1 joined', 'web-1 left']);
  t.same(typesOf(world.seen.settled), ['silent']);
  const other = oneHost();
  other.host.call(1);
  other.world.run(other.world.machine.stop());
  other.world.settle();
  t.same(typesOf(other.host.seen.settled), ['silent']);
  t.equal(other.host.ended.length, 1);
  t.same(other.world.machine.hosts, []);
});

t.test('a host takes no welcome it did not ask for', async (t) => {
  for (const more of [{ resumed: true }, { version: 9 }]) {
    const world = new ProtocolWorld();
    world.admission = null;
    const host = world.host('web-1').connect();
    host.run(host.machine.text(encode({ ...SAMPLES.welcome, ...more }), world.now));
    t.same([host.resumed, host.wire], [[], null], JSON.stringify(more));
  }
  const { world, host } = oneHost();
  host.run(host.machine.text(encode(SAMPLES.welcome), world.now));
  t.equal(host.wire, null, 'nor a second one');
});

t.test('a host whose hello is not answered lets go in time', async (t) => {
  const world = new ProtocolWorld();
  world.admission = null;
  const host = world.host('web-1').connect();
  world.pass(TIMES.dialMs, { settling: false });
  t.equal(host.wire, null);
});

t.test('what it is to send must fit its schema', async (t) => {
  const { world, host } = oneHost();
  t.throws(() => world.machine.request('web-1', { ...SAMPLES.probe, volume: 'v' }, 1, world.now), TypeError);
  t.throws(() => host.machine.tell({ ...SAMPLES.progress, stage: '' }), TypeError);
  world.ask('web-1', 2);
  world.settle();
  t.equal(host.seen.requests.length, 1, 'and leaves no gap behind');
  t.equal(STORE.length, 32);
});
