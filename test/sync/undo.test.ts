// Back again: undo, undo of the undo, an own snapshot with the identity of now; and targets of another size than the source.
import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import t from 'tap';
import { MIB } from '../support/nbd-wire.js';
import { must, run } from '../support/programs.js';
import {
  BOOT_BYTES,
  blankFile,
  blkid,
  DiskPairs,
  isClean,
  makeDataDisk,
  noDiskTools,
  ROOT,
  type Scene,
  type SyncAnswer,
} from '../support/sync-scene.js';

t.setTimeout(240_000);
const skip = noDiskTools;
const KEEP = ['--identity', 'all=keep'];
const disks = new DiskPairs(t, skip);

t.test('undo gives the earlier bytes, and an undo of the undo those after the sync', { skip }, async (t) => {
  const { scene, web, now } = await disks.pair();
  const before = await scene.sha256(web);
  const answer = await scene.sync(web, '--from', now, ...KEEP);
  const after = await scene.sha256(web);
  t.not(after, before);
  t.same(answer.safety, [`${web}@before-sync-${answer.id}`]);
  const said = await scene.must('sync', 'undo', web);
  t.match(said, `${web} has again the state of ${web}@before-sync-${answer.id}`);
  t.equal(await scene.sha256(web), before, 'all bytes of the disk are the earlier ones');
  await scene.must('sync', 'undo', web);
  t.equal(await scene.sha256(web), after, 'and back');
  t.match(await scene.must('sync', 'list'), new RegExp(`undo +${web} .*\\n.*undo +${web} `));
});

for (const rules of [[], ['all=take'], ['all=new'], ['fs=keep', 'partition-2/fs.uuid=new']]) {
  const said = rules.join(', ') || 'no rules';
  t.test(`what was taken or made anew comes back with an undo: ${said}`, { skip }, async (t) => {
    const { scene, web, now } = await disks.pair();
    const before = await scene.sha256(web);
    await scene.must('sync', web, '--from', now, ...rules.flatMap((rule) => ['--identity', rule]));
    t.not(await scene.sha256(web), before);
    await scene.must('sync', 'undo', web);
    t.equal(await scene.sha256(web), before);
  });
}

t.test('an own snapshot is restored with the identity of now', { skip }, async (t) => {
  const { scene } = await disks.pair();
  const { file, uuid } = await makeDataDisk(scene, 'own');
  await scene.import('own', file);
  await scene.must('snapshot', 'create', 'own@early');
  const changed = await scene.copyOf('own');
  const now = randomUUID();
  await must('xfs_admin', ['-U', now, changed]);
  await scene.must('volume', 'import', 'own', changed, '--force');
  const said = JSON.parse(await scene.must('restore', 'own@early', '--json')) as SyncAnswer;
  t.equal(said.kind, 'restore');
  t.match(said.disks[0]?.identity.restored, [{ field: 'disk/fs.uuid', target: now, source: uuid, now }]);
  const image = await scene.copyOf('own');
  t.equal((await blkid(image)).UUID, now);
  t.equal(await isClean.xfs(image), null);
});

/** A disk of another size than the source's, with one partition that holds nothing. */
async function diskOf(scene: Scene, name: string, bytes: number): Promise<string> {
  const file = blankFile(scene.path(`${name}.img`), bytes);
  await must('sgdisk', ['-n', '1:2048:+20M', file]);
  return file;
}

t.test('a larger source with --grow: the GPT backup is at the new end', { skip }, async (t) => {
  const { scene, now } = await disks.pair();
  await scene.import('small', await diskOf(scene, 'small', 40 * MIB));
  const refused = await scene.cli('sync', 'small', '--from', now);
  t.equal(refused.code, 7, refused.stderr);
  t.match(refused.stderr, /only 41943040\. Give --grow/);
  await scene.must('sync', 'small', '--from', now, '--grow');
  const grown = await scene.copyOf('small');
  t.equal(statSync(grown).size, BOOT_BYTES);
  t.equal(await isClean.gpt(grown), null);
  t.equal(await isClean.ext4(grown, ROOT.at), null);
  await scene.must('sync', 'undo', 'small');
  const back = await scene.copyOf('small');
  t.equal(await isClean.gpt(back), null, 'after an undo the table is right for the size it has');
});

t.test('a smaller source: zeros behind it, and the GPT backup at the end', { skip }, async (t) => {
  const { scene, now } = await disks.pair();
  const large = await diskOf(scene, 'large', 120 * MIB);
  const noise = ['if=/dev/urandom', `of=${large}`, 'bs=1M', 'seek=90', 'count=4', 'conv=notrunc'];
  await must('dd', [...noise, 'status=none']);
  await scene.import('large', large);
  await scene.must('sync', 'large', '--from', now);
  const same = await scene.copyOf('large');
  t.equal(await isClean.gpt(same), null);
  t.equal(await isClean.ext4(same, ROOT.at), null);
  const tail = ['-n', String(53 * MIB), '-i', `${66 * MIB}:0`, same, '/dev/zero'];
  t.equal((await run('cmp', tail)).code, 0, 'zeros behind the source up to the backup');
});
