// Limits of the wire at a live daemon: clients that never finish their handshake, more clients than may be served, clients
// that are half gone. Nothing here measures time: limits are short where they have to be met, and far away where meeting
// them would be the failure.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { ConnectionEnded, last } from '../support/nbd-answers.js';
import { CMD, ERRNO, infoRequest, MIB, OPT, optionMessage, REP, u32 } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

const SHORT = { nbd: { handshake_timeout_ms: 100 } };
const FAR = 600_000;
const LIMIT = 3;

/** Speaks without end and never opens an export; resolves when the server has had enough. */
async function chatter(client: RawNbd): Promise<void> {
  try {
    for (;;) await client.optionEnd(OPT.list);
  } catch (error) {
    if (!(error instanceof ConnectionEnded)) throw error;
  }
}

/** GO, as often as it is refused for the limit: connections of others that have ended may still be counted for a moment. */
function opened(daemon: Daemon, name: string): Promise<RawNbd> {
  return until('a place among the connections', async () => {
    const client = await RawNbd.negotiate(daemon.nbdPath);
    if ((await client.optionEnd(OPT.go, infoRequest(name))) === REP.ack) return client;
    client.close();
    return null;
  });
}

t.test('whoever has not opened an export in time is dropped, and the log says so', async (t) => {
  const daemon = await Daemon.start(t, { configuration: SHORT });
  await daemon.api.createVolume('disk', 64 * MIB);

  const mute = await RawNbd.connect(daemon.nbdPath);
  await mute.greeting();
  t.equal((await mute.readToEnd()).length, 0, 'a client that says nothing');

  const unfinished = await RawNbd.connect(daemon.nbdPath);
  await unfinished.greeting();
  unfinished.send(u32(3), optionMessage(OPT.go, Buffer.alloc(4096)).subarray(0, 40));
  t.equal((await unfinished.readToEnd()).length, 0, 'a client that stops within an option');

  const dripping = await RawNbd.negotiate(daemon.nbdPath);
  await t.resolves(chatter(dripping), 'a client that asks for the list for ever');

  const said = (): number => daemon.output.split('the handshake did not finish in time').length - 1;
  await until('three lines in the log', () => said() >= 3);
  t.equal(said(), 3);
});

t.test('a client that has opened an export may be silent', async (t) => {
  const daemon = await Daemon.start(t, { configuration: SHORT });
  await daemon.api.createVolume('disk', 64 * MIB);
  const settled = await opened(daemon, 'disk');
  // Who came later has run into the limit, so it is over for this one as well.
  const later = await RawNbd.connect(daemon.nbdPath);
  await later.readToEnd();
  t.equal((await settled.command({ type: CMD.read, length: 4096 })).error, 0);
  settled.close();
});

t.test('beyond the limit of connections a client is told so, and gets in when another leaves', async (t) => {
  const configuration = { nbd: { max_connections: LIMIT, handshake_timeout_ms: FAR } };
  const daemon = await Daemon.start(t, { configuration });
  await daemon.api.createVolume('disk', 64 * MIB);
  const inside: RawNbd[] = [];
  for (let i = 0; i < LIMIT; i++) inside.push(await opened(daemon, 'disk'));

  for (const option of [OPT.go, OPT.info]) {
    const late = await RawNbd.negotiate(daemon.nbdPath);
    const { type, data } = last(await late.option(option, infoRequest('disk')));
    t.equal(type, REP.errPolicy);
    t.equal(data.toString(), `too many connections, the limit is ${LIMIT}`);
    late.close();
  }
  const said = `too many connections, the limit is ${LIMIT}`;
  await until('the log says it too', () => daemon.output.includes(said));
  for (const client of inside) {
    t.equal((await client.command({ type: CMD.read, length: 4096 })).error, 0, 'who is in is served');
  }

  await inside.pop()?.leave();
  inside.push(await opened(daemon, 'disk'));
  for (const client of inside) client.close();
});

t.test('a crowd at the door is closed on without a word, and harms nobody inside', async (t) => {
  const configuration = { nbd: { max_connections: LIMIT, handshake_timeout_ms: FAR } };
  const daemon = await Daemon.start(t, { configuration });
  await daemon.api.createVolume('disk', 64 * MIB);
  const inside = await opened(daemon, 'disk');
  const crowd = await Promise.all(Array.from({ length: 300 }, () => RawNbd.connect(daemon.nbdPath)));
  await until('the first to be turned away', () => crowd.some((client) => client.hasEnded));
  t.equal((await inside.command({ type: CMD.read, length: 4096 })).error, 0);
  for (const client of crowd) client.close();
  const next = await opened(daemon, 'disk');
  t.equal(
    (await next.command({ type: CMD.read, length: 4096 })).error,
    0,
    'and when it is gone, others get in',
  );
  next.close();
  inside.close();
});

t.test('a client that has ended its side gets its answers, and its place is free again', async (t) => {
  const configuration = { nbd: { max_connections: 1, handshake_timeout_ms: FAR } };
  const daemon = await Daemon.start(t, { configuration });
  await daemon.api.createVolume('disk', 64 * MIB);

  const asking = await until('a place', async () => {
    const client = await RawNbd.negotiate(daemon.nbdPath);
    if ((await client.optionEnd(OPT.list)) === REP.ack) return client;
    client.close();
    return null;
  });
  asking.send(optionMessage(OPT.list));
  asking.endSending();
  t.equal((await asking.readOptionReply()).type, REP.server);
  t.equal((await asking.readOptionReply()).type, REP.ack);
  t.equal((await asking.readToEnd()).length, 0, 'in the handshake');

  const working = await opened(daemon, 'disk');
  working.request({ type: CMD.write, length: 4096 }, Buffer.alloc(4096, 7));
  working.request({ type: CMD.read, length: 4096 });
  working.request({ type: CMD.read, offset: 64 * MIB, length: 4096 });
  working.endSending();
  const errors = [];
  for (let i = 0; i < 3; i++) {
    const { cookie, error } = await working.readSimple();
    errors.push(error);
    if (cookie === 2n) await working.read(4096);
  }
  t.same(
    errors.sort((a, b) => a - b),
    [0, 0, ERRNO.inval],
  );
  t.equal((await working.readToEnd()).length, 0, 'in transmission');

  const silent = await opened(daemon, 'disk');
  silent.endSending();
  t.equal((await silent.readToEnd()).length, 0, 'with nothing asked');
  (await opened(daemon, 'disk')).close();
});

t.test('one user may have so many connections, is told so beyond them, and is counted apart', async (t) => {
  const configuration = { nbd: { max_connections_per_client: LIMIT, handshake_timeout_ms: FAR } };
  const port = 40_000 + (process.pid % 10_000);
  const daemon = await Daemon.start(t, { configuration, args: ['--nbd', `tcp:127.0.0.1:${port}`] });
  await daemon.api.createVolume('disk', 64 * MIB);
  const inside: RawNbd[] = [];
  for (let i = 0; i < LIMIT; i++) inside.push(await opened(daemon, 'disk'));

  const uid = process.getuid?.();
  const late = await RawNbd.negotiate(daemon.nbdPath);
  const { type, data } = last(await late.option(OPT.go, infoRequest('disk')));
  t.equal(type, REP.errPolicy);
  t.equal(data.toString(), `too many connections of uid ${uid}, the limit for each is ${LIMIT}`);
  late.close();

  const elsewhere = await RawNbd.open(`tcp:127.0.0.1:${port}`, 'disk');
  t.equal(elsewhere.info.size, BigInt(64 * MIB), 'an address is another client');
  elsewhere.client.close();

  const metrics = await daemon.api.call<string>('GET', '/metrics');
  t.match(metrics, /cellblock_connections_refused_total\{reason="limit"\} 0\n/);
  t.match(metrics, /cellblock_connections_refused_total\{reason="client-limit"\} [1-9]\d*\n/);
  t.match(metrics, /cellblock_connections_refused_total\{reason="access"\} 0\n/);
  await inside.pop()?.leave();
  inside.push(await opened(daemon, 'disk'));
  for (const client of inside) client.close();
});

t.test('a client refused by an access list, and one dropped for its silence, are counted', async (t) => {
  const daemon = await Daemon.start(t, { configuration: SHORT });
  const path = '/v1/volumes';
  await daemon.api.call('POST', path, { name: 'mine', size: '64M', allow: ['uid:4000000000'] });
  const mute = await RawNbd.connect(daemon.nbdPath);
  await mute.readToEnd();
  await until('a refusal', async () => {
    const client = await RawNbd.negotiate(daemon.nbdPath);
    const end = await client.optionEnd(OPT.go, infoRequest('mine')).catch(() => 0);
    client.close();
    return end === REP.errPolicy;
  });
  await daemon.says('a client may not use this export');
  const metrics = await daemon.api.call<string>('GET', '/metrics');
  t.match(metrics, /cellblock_connections_refused_total\{reason="access"\} [1-9]\d*\n/);
  t.match(metrics, /cellblock_handshakes_timed_out_total [1-9]\d*\n/);
});
