// Hostile and broken clients beside a well-behaved one. What does not depend on time: that one is served and gets its own data,
// the agent's memory stays within its bounds, and when they are gone nothing of them is left. `npm run hostile` is the long form,
// which measures too.
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { byEffort } from '../support/effort.js';
import { MIB } from '../support/nbd-wire.js';
import { type Attack, attacks, type Victim } from './attacks.js';
import { Bystander } from './bystander.js';
import { anonymousBytes, released, settled, sockets } from './footprint.js';
import { type Moment, sendAndReset, session } from './resets.js';

const ROUNDS = byEffort({ quick: 30, normal: 200, long: 2000 });
/** The budget of bytes in flight is 512 MiB for all connections, and never more than twice that (ByteBudget in native/plane/wire.h). */
const MOST_GROWTH = 1024 * MIB;
/** Garbage of JavaScript that was not collected yet, and buffers kept for the next request. */
const SLACK = 48 * MIB;
/** So that JavaScript's own garbage does not hide what is looked for. */
const SMALL_HEAP = { NODE_OPTIONS: '--max-semi-space-size=1' };

async function start(t: Test): Promise<{ daemon: Daemon; victim: Victim; port: number }> {
  const port = 21_000 + (process.pid % 20_000);
  const configuration = { nbd: { handshake_timeout_ms: 600_000 } };
  const args = ['--nbd', `tcp:127.0.0.1:${port}`];
  const daemon = await Daemon.start(t, { configuration, env: SMALL_HEAP, args });
  await daemon.api.createVolume('attacked', 64 * MIB);
  await daemon.api.createVolume('own', 64 * MIB);
  return { daemon, victim: { address: `unix:${daemon.nbdPath}`, name: 'attacked' }, port };
}

/** Looks at the daemon's memory again and again while something goes on; gives the most it was. */
async function mostMemory(daemon: Daemon, during: Promise<unknown>): Promise<number> {
  let most = 0;
  let over = false;
  const ended = during.finally(() => {
    over = true;
  });
  while (!over) {
    most = Math.max(most, anonymousBytes(daemon));
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 20))]);
  }
  await ended;
  return most;
}

t.test('a well-behaved client is served among them, and nothing of them is left', async (t) => {
  const { daemon, victim } = await start(t);
  const bystander = await Bystander.connect(victim.address, 'own');
  const first = bystander.work();
  bystander.stop();
  await first;
  for (const attack of attacks) {
    await t.test(attack.name, async (t) => {
      const before = { memory: anonymousBytes(daemon), sockets: sockets(daemon) };
      const beside = await Bystander.connect(victim.address, 'own');
      const work = beside.work();
      const most = await mostMemory(daemon, Promise.race([attack.run(victim, ROUNDS), work]));
      beside.stop();
      await work;
      t.pass(`${beside.served} blocks were written, and read back as they were`);
      await beside.leave();
      await settled(daemon, 1);
      const growth = most - before.memory;
      t.ok(growth < MOST_GROWTH, `memory grew by ${Math.round(growth / MIB)} MiB`);
      await released(daemon, before.sockets);
    });
  }
  await bystander.leave();
  t.ok((await daemon.api.check()).clean, 'the store is clean afterwards');
  t.equal(await daemon.stop(), 0, 'and the agent stops in order');
});

t.test('a reset at every byte of a session leaves nothing', async (t) => {
  const { daemon, victim, port } = await start(t);
  const bytes = session(victim.name);
  const bystander = await Bystander.connect(victim.address, 'own');
  const work = bystander.work();
  const before = sockets(daemon);
  for (const moment of ['at once', 'after an answer'] satisfies Moment[]) {
    for (let cut = 0; cut <= bytes.length; cut += byEffort({ quick: 7, normal: 1, long: 1 })) {
      await sendAndReset(port, bytes.subarray(0, cut), moment);
    }
  }
  bystander.stop();
  await work;
  await settled(daemon, 1);
  await released(daemon, before);
  await bystander.leave();
  t.ok((await daemon.api.check()).clean, 'the store is clean afterwards');
});

t.test('what one attack costs, twice as much of it does not cost again', async (t) => {
  const { daemon, victim } = await start(t);
  const twice: Attack[] = attacks.filter(({ name }) => /come and go|byte by byte|garbage/.test(name));
  const all = async (): Promise<void> => {
    for (const attack of twice) await attack.run(victim, ROUNDS * 4);
    await settled(daemon, 0);
  };
  await all();
  const once = anonymousBytes(daemon);
  await all();
  const growth = anonymousBytes(daemon) - once;
  t.ok(growth < SLACK, `the second half made it grow by ${Math.round(growth / MIB)} MiB`);
});
