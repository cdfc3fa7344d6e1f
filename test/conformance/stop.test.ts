// An orderly stop, seen from the wire: who is served until when, and what the others are told. A client that does not read holds its
// stop open, so everything here happens in an order of the test's making.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { ConnectionEnded } from '../support/nbd-answers.js';
import { CHUNK, CMD, ERRNO, FLAG, MIB, OPT, REP } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

t.setTimeout(300_000);

const FAR = { limits: { stop_deadline_ms: 600_000 } };
const READ_BYTES = 32 * MIB;
/** Far more than may be in flight for one client (64 MiB) and lie in sockets. */
const READS = 24;

interface Reply {
  cookie: number;
  error: number;
}

async function readReply(client: RawNbd): Promise<Reply> {
  if (client.extended) {
    const { cookie, type, data } = await client.readChunk();
    return { cookie: Number(cookie), error: type === CHUNK.error ? data.readUInt32BE(0) : 0 };
  }
  const { cookie, error } = await client.readSimple();
  if (error === 0) await client.read(READ_BYTES);
  return { cookie: Number(cookie), error };
}

/** Replies of reads, as they come, until the connection ends. */
async function readReplies(client: RawNbd): Promise<Reply[]> {
  const replies: Reply[] = [];
  for (;;) {
    try {
      replies.push(await readReply(client));
    } catch (error) {
      if (error instanceof ConnectionEnded) return replies;
      throw error;
    }
  }
}

for (const extended of [false, true]) {
  const headers = extended ? 'extended headers' : 'simple replies';
  t.test(`what has begun is finished; later requests get ESHUTDOWN; ${headers}`, async (t) => {
    const daemon = await Daemon.start(t, { configuration: FAR });
    await daemon.api.createVolume('disk', 64 * MIB);
    const busy = (await RawNbd.open(daemon.nbdPath, 'disk', { structured: extended, extended })).client;
    busy.pauseReading();
    // Whole, zeros included: what is not there would take no room.
    const flags = extended ? FLAG.df : 0;
    for (let i = 0; i < READS; i++) {
      busy.request({ type: CMD.read, flags, cookie: BigInt(i), length: READ_BYTES });
    }
    const silent = (await RawNbd.open(daemon.nbdPath, 'disk', { structured: false })).client;
    t.equal((await silent.command({ type: CMD.flush })).error, 0);
    const negotiating = await RawNbd.negotiate(daemon.nbdPath);
    t.equal(await negotiating.optionEnd(OPT.list), REP.ack);

    process.kill(daemon.pid, 'SIGTERM');
    await until('the log to say so', () => daemon.output.includes('"msg":"stopping"'));
    t.equal((await negotiating.readToEnd()).length, 0, 'in the handshake');
    t.equal((await silent.readToEnd()).length, 0, 'nothing in flight: closed');
    await t.rejects(RawNbd.connect(daemon.nbdPath), { code: /ENOENT|ECONNREFUSED/ }, 'nobody else comes in');
    t.notOk(daemon.hasEnded, 'it waits for the one that is busy');

    busy.resumeReading();
    const replies = await readReplies(busy);
    const errors = [...replies].sort((a, b) => a.cookie - b.cookie).map(({ error }) => error);
    t.equal(errors.length, READS, 'every request is answered');
    const refused = errors.indexOf(ERRNO.shutdown);
    t.ok(refused > 0, 'some were in flight, and some were not');
    t.ok(errors.slice(0, refused).every((error) => error === 0));
    t.ok(errors.slice(refused).every((error) => error === ERRNO.shutdown));
    await until('the end of the daemon', () => daemon.hasEnded);
    t.equal(await daemon.stop(), 0, 'a clean one');
  });
}

t.test('whoever does not read is waited for no longer than the deadline', async (t) => {
  const daemon = await Daemon.start(t, { configuration: { limits: { stop_deadline_ms: 100 } } });
  await daemon.api.createVolume('disk', 64 * MIB);
  const busy = (await RawNbd.open(daemon.nbdPath, 'disk', { structured: false })).client;
  busy.pauseReading();
  for (let i = 0; i < READS; i++) busy.request({ type: CMD.read, cookie: BigInt(i), length: READ_BYTES });
  t.equal(await daemon.stop(), 0);
  busy.close();
});
