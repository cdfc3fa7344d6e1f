// The agent is killed at random moments of syncs, with others writing: after every start the target has the state before or after, wholly,
// with its own identity. kill -9 leaves the page cache, so this says nothing of power loss: test/unit/operations/sync.test.ts does.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import t from 'tap';
import { byEffort } from '../support/effort.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { must } from '../support/programs.js';
import { randomOf } from '../support/random.js';
import { RawNbd } from '../support/raw-nbd.js';
import { seed } from '../support/replay.js';
import { blankFile, noDiskTools, Scene } from '../support/sync-scene.js';

t.setTimeout(900_000);
const KILLS = byEffort({ quick: 3, normal: 15, long: 150 });
const SIZE = 16 * MIB;

/** All of a volume. */
async function bytesOf(scene: Scene, name: string): Promise<Buffer> {
  const { client } = await RawNbd.open(scene.daemon.nbdPath, name);
  const { error, data } = await client.command({ type: CMD.read, offset: 0, length: SIZE });
  client.close();
  if (error !== 0) throw new Error(`${name} cannot be read: ${error}`);
  return data;
}

function hashOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex', 1024 + 0x68, 1024 + 0x78);
}

/** Writes into a volume of its own until the agent is gone. */
async function noise(scene: Scene, isOver: () => boolean): Promise<void> {
  try {
    const { client } = await RawNbd.open(scene.daemon.nbdPath, 'noise');
    const payload = randomBytes(65536);
    for (let at = 0; !isOver(); at = (at + 65536) % SIZE) {
      await client.command({ type: CMD.write, offset: at, length: payload.length }, payload);
      if (at % MIB === 0) await client.command({ type: CMD.flush });
    }
    client.close();
  } catch (error) {
    if (!isOver()) throw error;
  }
}

t.test(
  'killed at random moments of syncs: wholly before or wholly after',
  { skip: noDiskTools },
  async (t) => {
    t.comment(`CELLBLOCK_SEED=${seed}`);
    const random = randomOf(seed);
    const scene = await Scene.start(t);
    const own = randomUUID();
    const contents = new Map<string, string>();
    for (const name of ['web', 'prod', 'test']) {
      const file = blankFile(scene.path(`${name}.img`), SIZE);
      const uuid = name === 'web' ? own : randomUUID();
      await must('mkfs.ext4', ['-qF', '-L', name, '-U', uuid, file]);
      await scene.import(name, file);
      if (name !== 'web') await scene.must('snapshot', 'create', `${name}@s`);
    }
    for (const name of ['prod', 'test']) {
      await scene.must('sync', 'web', '--from', `${name}@s`);
      contents.set(name, hashOf(await bytesOf(scene, 'web')));
    }
    t.equal(new Set(contents.values()).size, 2, 'they can be told apart');
    await scene.daemon.api.createVolume('noise', SIZE);

    let state = 'test';
    const seen = { before: 0, after: 0 };
    for (let kill = 1; kill <= KILLS; kill++) {
      let isOver = false;
      let asked = state;
      const sync = async (): Promise<void> => {
        try {
          for (let turn = 0; !isOver; turn++) {
            asked = asked === 'prod' ? 'test' : 'prod';
            await scene.daemon.api.call('POST', '/v1/syncs', {
              target: 'web',
              from: `${asked}@s`,
              safety: turn % 2 === 0,
            });
            state = asked;
          }
        } catch (error) {
          if (!isOver) throw error;
        }
      };
      const work = [sync(), noise(scene, () => isOver), noise(scene, () => isOver)];
      await new Promise((resolve) => setTimeout(resolve, 20 + random() * 250));
      isOver = true;
      await scene.daemon.kill();
      await Promise.all(work);
      await scene.daemon.run();
      const bytes = await bytesOf(scene, 'web');
      const content = hashOf(bytes);
      t.equal(uuidOf(bytes), own.replaceAll('-', ''), `kill ${kill}: its own identity`);
      t.ok(
        [contents.get(state), contents.get(asked)].includes(content),
        `kill ${kill}: ${state} or ${asked}, wholly`,
      );
      if (asked !== state) seen[content === contents.get(asked) ? 'after' : 'before']++;
      if (content === contents.get(asked)) state = asked;
      const check = await scene.daemon.api.check();
      t.ok(check.clean, `kill ${kill}: the store is clean ${JSON.stringify(check.raw).slice(0, 300)}`);
      const syncs = await scene.daemon.api.call<{ phase: string }[]>('GET', '/v1/syncs');
      t.ok(
        syncs.every(({ phase }) => phase === 'done' || phase === 'undone'),
        'no sync is left in the middle',
      );
    }
    t.comment(JSON.stringify(seen));
  },
);
