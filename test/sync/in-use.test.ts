// A sync and those who use the target meanwhile: refused, their connections ended, or held without noticing; and the caller's own commands
// before and after.
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { CMD, MIB } from '../support/nbd-wire.js';
import { must, repositoryRoot, run } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { blankFile, noDiskTools, Scene } from '../support/sync-scene.js';
import { until } from '../support/waiting.js';

t.setTimeout(240_000);
const skip = noDiskTools;
const SIZE = 32 * MIB;
const SYNCS = 20;

/** Three file systems of ext4: the target, and two sources with a snapshot `s` each. */
async function threeDisks(t: Test): Promise<{ scene: Scene; uuid: string }> {
  const scene = await Scene.start(t);
  const uuid = randomUUID();
  for (const name of ['web', 'prod', 'test']) {
    const file = blankFile(scene.path(`${name}.img`), SIZE);
    await must('mkfs.ext4', ['-qF', '-L', name, '-U', name === 'web' ? uuid : randomUUID(), file]);
    await scene.import(name, file);
    if (name !== 'web') await scene.must('snapshot', 'create', `${name}@s`);
  }
  return { scene, uuid };
}

/** UUID and label as a client sees them in the superblock. */
async function seenBy(client: RawNbd): Promise<{ uuid: string; label: string; error: number }> {
  const { error, data } = await client.command({ type: CMD.read, offset: 1024, length: 1024 });
  const hex = data.toString('hex', 0x68, 0x78);
  const uuid = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  return { uuid, label: data.toString('latin1', 0x78, 0x88).replace(/\0.*$/, ''), error };
}

t.test(
  'in use: refused with what to do, and nothing is changed; --force ends the connections',
  { skip },
  async (t) => {
    const { scene, uuid } = await threeDisks(t);
    const before = await scene.sha256('web');
    await until('the end of that connection', async () => {
      const { connections } = JSON.parse(await scene.must('volume', 'show', 'web', '--json')) as {
        connections: number;
      };
      return connections === 0;
    });
    const { client } = await RawNbd.open(scene.daemon.nbdPath, 'web');
    const refused = await scene.cli('sync', 'web', '--from', 'prod@s');
    t.equal(refused.code, 5, refused.stderr);
    t.match(
      refused.stderr,
      /The volume "web" is in use by 1 connection\. End them, or give --force .* or --online/,
    );
    t.same(await scene.sync('web', '--from', 'prod@s', '--dry-run').then(({ phase }) => phase), 'planned');
    t.match(await seenBy(client), { uuid, error: 0 }, 'the client goes on');
    t.equal(
      (await scene.cli('sync', 'web', '--from', 'prod@s', '--force', '--online')).code,
      2,
      'one of the two',
    );

    await scene.must('sync', 'web', '--from', 'prod@s', '--force');
    await t.rejects(seenBy(client), { message: /^connection ended/ });
    const again = await RawNbd.open(scene.daemon.nbdPath, 'web');
    t.match(await seenBy(again.client), { uuid, label: 'web' });
    await scene.must('sync', 'undo', 'web', '--force');
    await t.rejects(seenBy(again.client), { message: /^connection ended/ });
    t.equal(await scene.sha256('web'), before);
  },
);

t.test(
  '--online: over twenty syncs a busy client sees no error and never another identity',
  { skip },
  async (t) => {
    const { scene, uuid } = await threeDisks(t);
    const clients = await Promise.all(
      [0, 1, 2].map(() => RawNbd.open(scene.daemon.nbdPath, 'web').then((opened) => opened.client)),
    );
    let isOver = false;
    const seen = new Map<string, number>();
    const note = (what: string): void => void seen.set(what, (seen.get(what) ?? 0) + 1);
    const busy = async (client: RawNbd, number: number): Promise<void> => {
      const payload = Buffer.alloc(8192, number + 1);
      for (let turn = 0; !isOver; turn++) {
        const read = await seenBy(client);
        note(`read ${read.error} ${read.uuid} ${read.label}`);
        const offset = SIZE - (number + 1) * MIB + (turn % 64) * 8192;
        const { error } = await client.command({ type: CMD.write, offset, length: payload.length }, payload);
        note(`write ${error}`);
        if (turn % 16 === 0) note(`flush ${(await client.command({ type: CMD.flush })).error}`);
      }
    };
    const work = clients.map(busy);
    try {
      for (let turn = 0; turn < SYNCS; turn++) {
        const from = turn % 2 === 0 ? 'prod@s' : 'test@s';
        const { phase, heldMs } = await scene.sync('web', '--from', from, '--online', '--no-safety');
        t.equal(phase, 'done');
        t.ok(heldMs !== null && heldMs < 5000, `clients were held for ${heldMs} ms`);
      }
    } finally {
      isOver = true;
      await Promise.all(work);
    }
    t.same([...seen.keys()].sort(), ['flush 0', `read 0 ${uuid} web`, 'write 0'], JSON.stringify([...seen]));
    t.ok((seen.get('write 0') ?? 0) > SYNCS, 'it was busy');
    for (const client of clients) client.close();
    t.ok((await scene.daemon.api.check()).clean);
  },
);

t.test(
  '--pre fails or hangs: nothing is changed; --post runs whatever became of the sync',
  { skip },
  async (t) => {
    const { scene } = await threeDisks(t);
    const before = await scene.sha256('web');
    const mark = scene.path('mark');
    const sync = (...words: string[]) => scene.cli('sync', 'web', '--from', 'prod@s', ...words);

    const failed = await sync('--pre', 'exit 3', '--post', `touch ${mark}`);
    t.equal(failed.code, 7);
    t.equal(
      failed.stderr,
      'cellblock: The --pre command ended with exit code 3. Nothing was changed; mend the command, or leave it out.\n',
    );
    t.notOk(existsSync(mark), '--post has nothing to put back');

    const started = Date.now();
    const hung = await sync(
      '--pre',
      `(trap '' TERM; exec sleep 600) & echo $! > ${mark}; wait`,
      '--hook-timeout',
      '0.5',
    );
    t.equal(hung.code, 7);
    t.match(hung.stderr, /The --pre command did not end within 0\.5 s and was ended\. Nothing was changed;/);
    t.ok(Date.now() - started < 60_000);
    const child = readFileSync(mark, 'utf8').trim();
    const lives = (): boolean =>
      existsSync(`/proc/${child}/cmdline`) &&
      readFileSync(`/proc/${child}/cmdline`, 'latin1').includes('600');
    await until('the end of what the hook had started, which ignores SIGTERM', () => !lives());
    rmSync(mark);
    t.equal(await scene.sha256('web'), before, 'nothing was changed');

    const refused = await sync('--identity', 'nonsense=keep', '--post', `echo $CELLBLOCK_TARGET > ${mark}`);
    t.equal(refused.code, 2);
    t.equal(readFileSync(mark, 'utf8'), 'web\n', '--post ran though the sync was refused');

    const late = await sync('--post', 'exit 4');
    t.equal(late.code, 7, 'a script sees that something is left to do');
    t.match(late.stdout, /^Sync 2: web has the state of prod@s/, 'the report comes all the same');
    t.match(late.stderr, /The --post command ended with exit code 4\. The sync itself was done; /);
    t.not(await scene.sha256('web'), before);
  },
);

t.test('--pre unmounts what is in use, and the sync goes through', { skip }, async (t) => {
  const { scene } = await threeDisks(t);
  const { client } = await RawNbd.open(scene.daemon.nbdPath, 'web');
  const mark = scene.path('go');
  const leave = until('the hook', () => existsSync(mark)).then(() => client.leave());
  t.match(
    await scene.must('sync', 'web', '--from', 'prod@s', '--pre', `touch ${mark}; sleep 1`),
    'web has the state',
  );
  await leave;
});

t.test(
  'hooks run as the caller, not as the agent',
  { skip: skip || (process.getuid?.() !== 0 && 'needs root') },
  async (t) => {
    const { scene } = await threeDisks(t);
    chmodSync(scene.daemon.directory, 0o755);
    chmodSync(scene.daemon.apiPath, 0o666);
    const program = path.join(repositoryRoot, 'dist/src/main/cellblock.js');
    const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, program];
    const words = ['--api', scene.daemon.apiPath, 'sync', 'web', '--from', 'prod@s', '--pre', 'id -u; id -g'];
    const { code, stderr, story } = await run('setpriv', [...nobody, ...words]);
    t.equal(code, 0, story);
    t.match(stderr, /^65534\n65534\n/, 'and what they print is on stderr, apart from the report');
  },
);
