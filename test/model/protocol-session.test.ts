// Random histories of the coordinator's protocol: whatever is lost, cut and repeated, a request is settled once and carried out once, and what
// is told arrives once and in order. And whatever is sent by strangers and liars, nothing throws and nobody else is touched.

import fc from 'fast-check';
import t from 'tap';
import { encode } from '../../src/protocol/codec.js';
import { LIMITS, TIMES } from '../../src/protocol/limits.js';
import { ALL_SAMPLES, helloOf, idOf, VOLUME } from '../support/protocol-samples.js';
import { ADMITTED, ProtocolWorld, type WorldHost } from '../support/protocol-world.js';
import { replay } from '../support/replay.js';

type Step =
  | { do: 'ask' | 'call' | 'tell'; host: number }
  | { do: 'answer' | 'reply'; host: number; which: number }
  | { do: 'carry'; host: number; texts: number }
  | { do: 'cut'; host: number; who: 'both' | 'host' }
  | { do: 'connect'; host: number }
  | { do: 'pass'; ticks: number };

const HOSTS = 3;
const host = fc.nat(HOSTS - 1);
const which = fc.nat(50);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constantFrom('ask', 'call', 'tell'), host }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('answer', 'reply'), host, which }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('carry'), host, texts: fc.integer({ min: 1, max: 5 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cut'), host, who: fc.constantFrom('both', 'host') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('connect'), host }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pass'), ticks: fc.integer({ min: 1, max: 300 }) }) },
) as fc.Arbitrary<Step>;

/** A world and what was asked and told in it. */
class History {
  readonly world = new ProtocolWorld();
  readonly asked: string[] = [];
  readonly called: string[] = [];
  readonly told = new Map<WorldHost, number[]>();
  #ids = 0;

  constructor() {
    for (let number = 0; number < HOSTS; number++)
      this.told.set(this.world.host(`web-${number}`).connect(), []);
    this.world.settle();
  }

  take(step: Step): void {
    if (step.do === 'pass') this.world.pass(step.ticks * TIMES.tickMs, { settling: false });
    else this.#takeAt(this.world.hosts[step.host]!, step);
  }

  #takeAt(host: WorldHost, step: Exclude<Step, { do: 'pass' }>): void {
    switch (step.do) {
      case 'ask':
        this.asked.push(idOf(++this.#ids));
        this.world.ask(host.name, this.#ids, 20_000);
        break;
      case 'call':
        this.called.push(idOf(++this.#ids));
        host.call(this.#ids, 20_000);
        break;
      case 'tell':
        this.#tell(host);
        break;
      case 'answer': {
        const request = host.seen.requests[step.which];
        if (request)
          host.run(host.machine.reply({ type: 'failed', id: request.id, code: 'no', message: '', hint: '' }));
        break;
      }
      case 'reply': {
        const request = this.world.seen.requests[step.which];
        if (request) this.world.reply(host.name, Number.parseInt(request.id, 16), 1);
        break;
      }
      case 'carry':
        this.world.carry(host, step.texts);
        break;
      case 'cut':
        if (host.wire) host.cut(step.who);
        break;
      case 'connect':
        if (!host.wire) host.connect();
        break;
    }
  }

  #tell(host: WorldHost): void {
    const done = ++this.#ids;
    const event = {
      type: 'progress',
      of: null,
      volume: VOLUME,
      move: null,
      stage: 'x',
      done,
      total: null,
    } as const;
    // Without a session nobody is told: the next hello says how things are.
    if (host.resumed.length > host.ended.length + host.resumed.filter(Boolean).length)
      this.told.get(host)!.push(done);
    host.tell(event);
  }

  /** Faults are over: everybody connects, and time passes. */
  quiet(): void {
    this.world.pass(TIMES.resumeMs + TIMES.silenceMs, { settling: true });
    for (const host of this.world.hosts) {
      if (host.wire && !host.machine.isLive) host.cut();
      if (!host.wire) host.connect();
    }
    this.world.pass(30_000);
  }
}

const once = (ids: readonly string[]) => new Set(ids).size === ids.length;

t.test('requests and what is told, over connections that break', async () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const history = new History();
      for (const each of steps) history.take(each);
      history.quiet();
      const { world } = history;
      const same = (a: readonly string[], b: readonly string[]) =>
        a.length === b.length && new Set([...a, ...b]).size === a.length;
      if (
        !same(
          world.seen.settled.map(({ id }) => id),
          history.asked,
        )
      )
        throw new Error('a probe is not settled once');
      const settled = world.hosts.flatMap(({ seen }) => seen.settled.map(({ id }) => id));
      if (!same(settled, history.called)) throw new Error('a call is not settled once');
      if (!once(world.seen.requests.map(({ id }) => id))) throw new Error('a call is carried out twice');
      for (const { seen, ended, machine } of world.hosts) {
        if (!once(seen.requests.map(({ id }) => id))) throw new Error('a probe is carried out twice');
        if (seen.logs.some(({ event }) => event === 'out-of-order'))
          throw new Error('an honest peer is blamed');
        if (!machine.isLive) throw new Error(`a host does not come back: ${ended}`);
      }
      for (const host of world.hosts) {
        const arrived = world.seen.told.flatMap((told) => (told.type === 'progress' ? [told.done] : []));
        const sent = history.told.get(host)!;
        const mine = arrived.filter((done) => sent.includes(done));
        if (mine.some((done, index) => index > 0 && done <= mine[index - 1]!))
          throw new Error('told out of order or twice');
        if (host.ended.length === 0 && mine.length !== sent.length) throw new Error('something told is lost');
      }
    }),
    replay({ quick: 200, normal: 1_000, long: 20_000 }),
  );
});

/** Texts as liars send them: noise, and messages with a piece changed. */
const noise = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.json(),
  fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
);
const value = fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 0, 2 ** 53, '', idOf(1), null, [], {}));
const sample = fc.constantFrom(...ALL_SAMPLES);
const mutated = fc.tuple(sample, fc.nat(20), value, fc.nat(3)).map(([message, at, by, how]) => {
  const keys = Object.keys(message);
  const key = keys[at % keys.length]!;
  const copy: Record<string, unknown> = { ...message };
  if (how === 0) delete copy[key];
  else if (how === 1) copy[`${key}x`] = by;
  else copy[key] = by;
  return JSON.stringify(copy);
});
const cutShort = fc.tuple(sample, fc.nat(400)).map(([message, at]) => encode(message).slice(0, at));
const spliced = fc.tuple(sample, fc.nat(400), fc.string()).map(([message, at, piece]) => {
  const text = encode(message);
  return text.slice(0, at) + piece + text.slice(at);
});
const lie = fc.oneof(noise, mutated, cutShort, spliced, sample.map(encode));

function quietWorld() {
  const world = new ProtocolWorld();
  const bystander = world.host('bystander').connect();
  world.settle();
  return { world, bystander };
}

/** The bystander is asked, and answers. */
function isUndisturbed(world: ProtocolWorld, bystander: WorldHost): boolean {
  const [before, seen] = [bystander.seen.requests.length, bystander.seen.logs.length];
  world.ask('bystander', 0xbbbb + before);
  world.settle();
  return (
    bystander.machine.isLive &&
    bystander.seen.requests.length === before + 1 &&
    bystander.seen.logs.length === seen
  );
}

t.test('who never says a hello that fits gets a refusal at most', async () => {
  const withoutHello = lie.filter((text) => !text.includes('"hello"'));
  fc.assert(
    fc.property(
      fc.array(withoutHello, { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      (texts, authenticated) => {
        const { world, bystander } = quietWorld();
        world.admission = ADMITTED;
        const comings = world.comings.length;
        const wire = world.open(authenticated ? { host: 'stranger', cell: 'east' } : null);
        for (const text of texts) world.text(wire, text);
        const types = wire.toHost.map((text) => (JSON.parse(text) as { type: string }).type);
        if (types.join() !== 'refused') throw new Error(`it got ${types}`);
        if (wire.closed === null) throw new Error('its connection is open');
        if (world.comings.length !== comings || world.seen.requests.length > 0 || world.seen.told.length > 0)
          throw new Error('something was done for it');
        if (!isUndisturbed(world, bystander)) throw new Error('the bystander is disturbed');
      },
    ),
    replay({ quick: 300, normal: 3_000, long: 100_000 }),
  );
});

t.test('a host that lies costs itself alone', async () => {
  fc.assert(
    fc.property(fc.array(lie, { minLength: 1, maxLength: 20 }), (texts) => {
      const { world, bystander } = quietWorld();
      const wire = world.open({ host: 'liar', cell: 'east' });
      world.text(wire, encode(helloOf('liar')));
      world.ask('liar', 1);
      for (const text of texts) world.text(wire, text);
      if (!isUndisturbed(world, bystander)) throw new Error('the bystander is disturbed');
      // Nobody can be spoken for by it.
      if (world.comings.some((line) => line.startsWith('bystander') && line !== 'bystander joined'))
        throw new Error('the bystander is spoken for');
      world.pass(TIMES.silenceMs + TIMES.resumeMs);
      const settled = world.seen.settled.filter(({ id }) => id === idOf(1));
      if (settled.length !== 1) throw new Error('what it was asked is not settled once');
    }),
    replay({ quick: 300, normal: 3_000, long: 100_000 }),
  );
});

t.test('a coordinator that lies does not throw a host, before its welcome or after', async () => {
  fc.assert(
    fc.property(fc.array(lie, { maxLength: 20 }), fc.boolean(), (texts, welcomed) => {
      const world = new ProtocolWorld();
      if (!welcomed) world.admission = null;
      const host = world.host('web-1').connect();
      world.settle();
      host.call(1);
      for (const text of texts) host.run(host.machine.text(text, world.now));
      if (!host.wire) host.connect();
      world.pass(TIMES.dialMs + TIMES.resumeMs);
      if (!welcomed && host.seen.requests.length > 0 && host.resumed.length === 0)
        throw new Error('it was asked something before its welcome');
      world.pass(1_000_000, { stepMs: 100_000 });
      if (host.seen.settled.filter(({ id }) => id === idOf(1)).length !== 1)
        throw new Error('its call is not settled once');
    }),
    replay({ quick: 300, normal: 3_000, long: 100_000 }),
  );
});

t.test('what fits in a frame is decoded in bounded time, however it is nested', async (t) => {
  const { world, bystander } = quietWorld();
  for (const piece of ['[', '{"a":', '"', '\\', '"\\'])
    for (const length of [10, 1_000, LIMITS.messageBytes / piece.length]) {
      const wire = world.open({ host: 'liar', cell: 'east' });
      world.text(wire, piece.repeat(length));
      t.ok(wire.closed, `${piece} ${length}`);
    }
  t.ok(isUndisturbed(world, bystander));
});
