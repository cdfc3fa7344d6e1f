// What the service manager hears, and what of the environment it takes.
import { Writable } from 'node:stream';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { ServiceManager } from '../../../src/agent/service-manager.js';

interface Sent {
  message: string;
  descriptors: number;
}

function scene(environment: NodeJS.ProcessEnv, { failing = false } = {}) {
  const sent: Sent[] = [];
  const log: string[] = [];
  const sink = new Writable({
    write(line, _encoding, done) {
      log.push(JSON.parse(String(line)).msg);
      done();
    },
  });
  const manager = new ServiceManager({
    environment,
    pid: 42,
    log: pino(sink),
    notifications: () => ({
      notifyServiceManager: (address, message, descriptors) => {
        if (failing) throw Object.assign(new Error('no'), { code: 'ECONNREFUSED' });
        sent.push({ message: `${address} ${message}`, descriptors: descriptors.length });
      },
      sealedFile: () => 0,
      socketCookie: () => 0n,
    }),
    monotonicUs: () => 123n,
  });
  const said = () => sent.map(({ message }) => message.replace('/run/n ', ''));
  return { manager, sent, said, log };
}

const NOTIFY = { NOTIFY_SOCKET: '/run/n' };

/** Turns of the event loop: what was to be said has been said. */
const turns = async () => {
  for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
};

function fakeTimers(t: Test) {
  const ticks: (() => void)[] = [];
  t.intercept(globalThis, 'setInterval', {
    value: (tick: () => void) => {
      ticks.push(tick);
      return { unref: () => null };
    },
  });
  return () => {
    for (const tick of ticks) tick();
  };
}

t.test('its variables are taken, so that no child speaks for this process', async (t) => {
  const environment = { ...NOTIFY, WATCHDOG_USEC: '1', WATCHDOG_PID: '42', FDSTORE: '9', OTHER: 'stays' };
  const { manager } = scene(environment);
  t.same(environment, { OTHER: 'stays' });
  t.ok(manager.listens);
});

t.test('without a manager nothing is said, and nothing is kept', async (t) => {
  for (const environment of [{}, { NOTIFY_SOCKET: '' }, { WATCHDOG_USEC: '1000' }]) {
    const { manager, sent } = scene(environment);
    manager.ready(() => 'Serving');
    manager.watch(async () => void t.fail('not asked'));
    manager.reload(() => undefined);
    manager.stopping();
    t.notOk(manager.keep('x', [1]));
    t.same(sent, []);
    manager.end();
  }
});

t.test('a life', async (t) => {
  const tick = fakeTimers(t);
  const { manager, said } = scene({ ...NOTIFY });
  let status = 'Serving 1 volume\nto nobody';
  manager.ready(() => status);
  tick();
  t.same(
    said(),
    ['READY=1\nSTATUS=Serving 1 volume to nobody'],
    'the same is not said again; a status is one line',
  );
  status = 'Serving 2 volumes';
  tick();
  t.equal(said().at(-1), 'STATUS=Serving 2 volumes');
  let reloaded = false;
  manager.reload(() => {
    t.equal(said().at(-1), 'RELOADING=1\nMONOTONIC_USEC=123', 'before');
    reloaded = true;
  });
  t.ok(reloaded);
  t.equal(said().at(-1), 'READY=1\nSTATUS=Serving 2 volumes', 'after');
  manager.stopping();
  t.equal(said().at(-1), 'STOPPING=1\nSTATUS=Stopping');
  manager.reload(() => undefined);
  t.equal(
    said().at(-1),
    'STOPPING=1\nSTATUS=Stopping',
    'a reload that comes late does not make it ready again',
  );
});

t.test('the watchdog hears of it as long as nothing hangs or fails', async (t) => {
  const tick = fakeTimers(t);
  const { manager, said, log } = scene({ ...NOTIFY, WATCHDOG_USEC: '3000000', WATCHDOG_PID: '42' });
  let alive: () => Promise<void> = async () => undefined;
  let asked = 0;
  manager.watch(() => {
    asked++;
    return alive();
  });
  await turns();
  t.same(said(), ['WATCHDOG=1'], 'at once');
  alive = () => new Promise(() => undefined);
  tick();
  tick();
  tick();
  await turns();
  t.same(said(), ['WATCHDOG=1'], 'silence while it hangs');
  t.equal(asked, 2, 'it is not asked again meanwhile');
  const second = scene({ ...NOTIFY, WATCHDOG_USEC: '3000000' });
  second.manager.watch(async () => {
    throw new Error('broken');
  });
  await turns();
  t.same(second.said(), []);
  t.match(second.log, [/not alive/]);
  t.same(log, []);
});

t.test('a watchdog of another process, or of no time, is not fed', async (t) => {
  for (const more of [
    { WATCHDOG_PID: '7', WATCHDOG_USEC: '1000' },
    { WATCHDOG_USEC: 'often' },
    { WATCHDOG_USEC: '0' },
  ]) {
    const { manager, said } = scene({ ...NOTIFY, ...more });
    manager.watch(async () => void t.fail('asked'));
    await turns();
    t.same(said(), []);
  }
});

t.test('more descriptors than one message takes', async (t) => {
  const { manager, sent } = scene({ ...NOTIFY });
  t.ok(
    manager.keep(
      'many',
      Array.from({ length: 600 }, (_, n) => n),
    ),
  );
  t.same(
    sent.map(({ descriptors }) => descriptors),
    [253, 253, 94],
  );
  t.ok(sent.every(({ message }) => message === '/run/n FDSTORE=1\nFDNAME=many'));
});

t.test('a manager that does not answer is logged, and stops nothing', async (t) => {
  const { manager, log } = scene({ ...NOTIFY }, { failing: true });
  manager.failed('The store\nis locked.');
  t.notOk(manager.keep('x', [1]));
  t.match(log, [/could not be told/, /could not be told/]);
});
