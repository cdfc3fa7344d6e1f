// What a sync claims, shown on a real daemon with real disks: a new empty map, what was overwritten found and put back and nothing else
// written, reads through to the snapshot, writes of its own.
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { CMD, MIB } from '../support/nbd-wire.js';
import { must, run } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import {
  blkid,
  DiskPairs,
  isClean,
  noDiskTools,
  type Report,
  ROOT,
  type Scene,
  type SyncAnswer,
} from '../support/sync-scene.js';
import { until } from '../support/waiting.js';

t.setTimeout(180_000);
const skip = noDiskTools;
const BLOCK = 4096;

const disks = new DiskPairs(t, skip);
const KEEP = ['--identity', 'all=keep'];
const identityOf = ({ disks }: SyncAnswer): Report => disks[0]!.identity;

/** `cellblock identity show`, by field. */
async function fieldsOf(scene: Scene, name: string): Promise<Record<string, string>> {
  const { fields } = JSON.parse(await scene.must('identity', 'show', name, '--json')) as {
    fields: { field: string; value: string }[];
  };
  return Object.fromEntries(fields.map(({ field, value }) => [field, value]));
}

t.test('the new map holds the identity blocks and nothing else', { skip }, async (t) => {
  const { scene, web, prod, now } = await disks.pair();
  const whole = await scene.space(prod);
  await scene.sync(web, '--from', now, ...KEEP, '--no-safety');
  const { exclusiveBytes, allocatedBytes } = await scene.space(web);
  t.ok(allocatedBytes >= whole.allocatedBytes, 'it reads all that the snapshot holds');
  t.ok(
    exclusiveBytes > 0 && exclusiveBytes <= 16 * BLOCK,
    `of its own it has ${exclusiveBytes / BLOCK} blocks`,
  );
  const [mine, theirs] = [await scene.copyOf(web), await scene.copyOf(now)];
  const { stdout } = await run('cmp', ['-l', mine, theirs]);
  const different = new Set(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => Math.floor((Number(line.trim().split(/\s+/)[0]) - 1) / BLOCK)),
  );
  t.equal(exclusiveBytes, different.size * BLOCK, 'as many as differ from the snapshot');
});

t.test('without an identity to put back the new map stays empty', { skip }, async (t) => {
  const { scene, web, now } = await disks.pair();
  const answer = await scene.sync(web, '--from', now, '--identity', 'all=take', '--no-safety');
  t.equal((await scene.space(web)).exclusiveBytes, 0, 'not one block');
  t.same(identityOf(answer).restored, []);
  t.equal(await scene.sha256(web), await scene.sha256(now), 'it is the snapshot, bit by bit');
});

t.test('overwritten identity is found, and every captured value reads back', { skip }, async (t) => {
  const { scene, web, now } = await disks.pair();
  const before = await fieldsOf(scene, web);
  const report = identityOf(await scene.sync(web, '--from', now, ...KEEP));
  const overwritten = report.overwritten.map(({ field }) => field);
  for (const field of [
    'disk/disk.disk-guid',
    'partition-1/partition.guid',
    'partition-2/partition.guid',
    'partition-2/partition.name',
    'partition-1/fs.serial',
    'partition-1/fs.label',
    'partition-2/fs.uuid',
    'partition-2/fs.label',
  ])
    t.ok(overwritten.includes(field), `${field} was overwritten`);
  t.same(report.restored, report.overwritten, 'all of it was restored');
  t.same(Object.fromEntries(report.captured.map(({ field, value }) => [field, value])), before);
  t.same(await fieldsOf(scene, web), before, 'as the agent reads it');
  const image = await scene.copyOf(web);
  t.equal((await blkid(image, ROOT)).UUID, before['partition-2/fs.uuid'], 'as blkid reads it');
  t.match(await must('sgdisk', ['-p', image]), before['disk/disk.disk-guid']!, 'as sgdisk reads it');
  t.equal(await isClean.gpt(image), null);
  t.equal(await isClean.ext4(image, ROOT.at), null);
});

t.test('what the target writes is unseen in the source and its snapshot', { skip }, async (t) => {
  const { scene, web, prod, now } = await disks.pair();
  const before = [await scene.sha256(prod), await scene.sha256(now)];
  await scene.sync(web, '--from', now, ...KEEP);
  const { client } = await RawNbd.open(scene.daemon.nbdPath, web);
  for (let at = 0; at < 20; at++) {
    const payload = randomBytes(65536);
    const { error } = await client.command({ type: CMD.write, offset: at * 3 * MIB, length: 65536 }, payload);
    t.equal(error, 0);
  }
  await client.leave();
  t.same([await scene.sha256(prod), await scene.sha256(now)], before);
});

t.test(
  'the source and its snapshot are deleted with their space, and the target reads right',
  { skip },
  async (t) => {
    const { scene, web, prod, now } = await disks.pair();
    await scene.sync(web, '--from', now, ...KEEP, '--no-safety');
    const before = await scene.sha256(web);
    await scene.must('snapshot', 'delete', now, '--wait');
    await scene.must('volume', 'delete', prod, '--with-snapshots', '--wait');
    await until('the end of all tasks', async () => {
      const tasks = JSON.parse(await scene.must('task', 'list', '--json')) as { state: string }[];
      return tasks.every(({ state }) => state !== 'running' && state !== 'waiting');
    });
    t.equal(await scene.sha256(web), before);
    await scene.daemon.restart('stop');
    t.equal(await scene.sha256(web), before, 'after a restart too');
    const image = await scene.copyOf(web);
    t.equal(await isClean.ext4(image, ROOT.at), null);
    t.equal(await isClean.gpt(image), null);
    t.ok((await scene.daemon.api.check()).clean);
  },
);
