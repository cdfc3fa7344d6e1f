// D10: a write that was replied to survives kill -9 of the daemon, and so does a snapshot that was answered. The page cache
// survives as well, so this says nothing about power loss; the simulated disk of the C++ tests does that.
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { byEffort, tooLongForQuick } from '../support/effort.js';
import { CMD, infoRequest, MIB, OPT, REP } from '../support/nbd-wire.js';
import { missing, Running } from '../support/programs.js';
import { randomOf } from '../support/random.js';
import { RawNbd } from '../support/raw-nbd.js';
import { seed } from '../support/replay.js';
import { LoggedWriter } from './logged-writer.js';

const KILLS = byEffort({ quick: 1, normal: 5, long: 50 });
const SIZE = 48 * MIB;
const CONNECTIONS = 3;

const open = async (daemon: Daemon, name: string): Promise<RawNbd> =>
  (await RawNbd.open(daemon.nbdPath, name, { structured: false })).client;

const exists = async (daemon: Daemon, name: string): Promise<boolean> => {
  const client = await RawNbd.negotiate(daemon.nbdPath);
  const end = await client.optionEnd(OPT.info, infoRequest(name));
  client.close();
  return end === REP.ack;
};

/** A volume under test with what is known of it and of its snapshots. */
class Subject {
  readonly writer: LoggedWriter;
  /** Snapshots of a quiet moment, with what they hold. */
  readonly quiet = new Map<string, Uint32Array>();
  /** Snapshots taken under load that were answered. */
  readonly answered = new Set<string>();
  #taken = 0;

  constructor(
    readonly daemon: Daemon,
    readonly name: string,
    random: () => number,
  ) {
    this.writer = new LoggedWriter(SIZE, random);
  }

  async quietSnapshot(): Promise<void> {
    const target = `${this.name}@quiet${this.#taken++}`;
    await this.daemon.api.snapshot(target);
    this.quiet.set(target, this.writer.state());
    if (this.quiet.size <= 2) return;
    const [oldest] = this.quiet.keys();
    await this.daemon.api.deleteSnapshot(oldest as string);
    this.quiet.delete(oldest as string);
  }

  /** Snapshots, clones and deletes until the daemon is gone. */
  async churn(isOver: () => boolean): Promise<void> {
    try {
      while (!isOver()) {
        const target = `${this.name}@busy${this.#taken}`;
        const clone = `${this.name}-clone${this.#taken++}`;
        await this.daemon.api.snapshot(target);
        this.answered.add(target);
        await this.daemon.api.clone(target, clone);
        const [oldest] = this.answered;
        if (this.answered.size > 2 && oldest) {
          this.answered.delete(oldest); // whether this one is still there is open once the delete is asked for
          await this.daemon.api.deleteSnapshot(oldest);
        }
        await this.daemon.api.deleteVolume(clone);
      }
    } catch (error) {
      if (!isOver()) throw error;
    }
  }

  async load(enough: () => boolean): Promise<void> {
    const clients = await Promise.all(
      Array.from({ length: CONNECTIONS }, () => open(this.daemon, this.name)),
    );
    await Promise.all(clients.map((client) => this.writer.load(client, enough)));
    for (const client of clients) client.close();
  }

  async verify(t: Test): Promise<void> {
    const client = await open(this.daemon, this.name);
    t.same((await this.writer.verify(client)).slice(0, 10), [], `${this.name}: every replied write is there`);
    t.equal((await client.command({ type: CMD.flush })).error, 0, `${this.name}: FLUSH works at once`);
    await this.writer.repair(client);
    client.close();
    for (const [target, state] of this.quiet) {
      const reader = await open(this.daemon, target);
      t.same((await this.writer.verifyState(reader, state)).slice(0, 10), [], `${target} is what it was`);
      reader.close();
    }
    for (const target of this.answered)
      t.ok(await exists(this.daemon, target), `${target} was answered and is there`);
  }
}

t.test('everything replied to survives kill -9 under load', async (t) => {
  t.comment(`CELLBLOCK_SEED=${seed}`);
  const random = randomOf(seed);
  const daemon = await Daemon.start(t);
  const subjects = ['one', 'two'].map((name) => new Subject(daemon, name, random));
  for (const { name } of subjects) await daemon.api.createVolume(name, SIZE);
  await daemon.api.createVolume('noise', SIZE);

  for (let kill = 1; kill <= KILLS; kill++) {
    for (const subject of subjects) await subject.quietSnapshot();
    const noise = missing('fio')
      ? null
      : new Running('fio', [
          '--name=noise',
          '--thread', // else its job outlives it
          '--ioengine=nbd',
          `--uri=${daemon.uri('noise')}`,
          `--size=${SIZE}`,
          '--rw=randwrite',
          '--bs=4k',
          '--iodepth=16',
          '--fsync=32',
          '--time_based',
          '--runtime=3600',
        ]);
    const replies = 200 + Math.floor(random() * 3000);
    let killed: Promise<void> | null = null;
    const total = (): number => subjects.reduce((sum, { writer }) => sum + writer.replies, 0);
    for (const { writer } of subjects) writer.replies = 0;
    const isOver = (): boolean => killed !== null;
    // The load never pauses before the kill: `enough` only says when to pull the trigger.
    const enough = (): boolean => {
      if (killed === null && total() >= replies) killed = daemon.kill();
      return false;
    };
    await Promise.all(subjects.flatMap((subject) => [subject.load(enough), subject.churn(isOver)]));
    await killed;
    await noise?.stop('SIGKILL');
    await daemon.run();
    const check = await daemon.api.check();
    t.ok(
      check.clean,
      `kill ${kill} after ${total()} replies: the store is clean ${JSON.stringify(check.raw).slice(0, 300)}`,
    );
    for (const subject of subjects) await subject.verify(t);
  }
});

t.test('kill -9 while starting up loses nothing either', { skip: tooLongForQuick }, async (t) => {
  const random = randomOf(seed + 1);
  const daemon = await Daemon.start(t);
  const subject = new Subject(daemon, 'disk', random);
  await daemon.api.createVolume('disk', SIZE);
  await subject.load(() => subject.writer.replies > 2000);
  await subject.quietSnapshot();
  await subject.load(() => subject.writer.replies > 4000);
  await daemon.kill();
  for (let i = 0; i < KILLS; i++) await daemon.startAndKill({ afterMs: random() * 600 });
  await daemon.run();
  t.ok((await daemon.api.check()).clean);
  await subject.verify(t);
});
