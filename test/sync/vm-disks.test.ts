// Which disks of a virtual machine are in a sync, and whose ids they have afterwards by default.
import t, { type Test } from 'tap';
import { must } from '../support/programs.js';
import { blkid, guestFile, isClean, makeVm, noDiskTools, ROOT, Scene } from '../support/sync-scene.js';

t.setTimeout(240_000);
const skip = noDiskTools;

async function twoVms(t: Test) {
  const scene = await Scene.start(t);
  return { scene, web: await makeVm(scene, 'web', 1), prod: await makeVm(scene, 'prod', 2) };
}

t.test('only the disks that are listed change, and a data disk alone keeps its ids', { skip }, async (t) => {
  const { scene, web } = await twoVms(t);
  await scene.must('vm', 'snapshot', 'prod@now');
  const boot = await scene.sha256('web-root');
  const answer = await scene.sync('web', '--from', 'prod@now', '--disks', 'vdb:vdb');
  t.equal(await scene.sha256('web-root'), boot, 'the boot disk is byte-identical');
  t.same(answer.disks.length, 1);
  const image = await scene.copyOf('web-data');
  t.equal((await blkid(image)).UUID, web.data.uuid, 'kept by default');
  t.equal(await isClean.xfs(image), null);
  t.equal(answer.config, null, 'nor is the configuration touched');
});

t.test(
  'with a boot disk in the sync all ids are those of the source, but the ESP partition’s',
  { skip },
  async (t) => {
    const { scene, web, prod } = await twoVms(t);
    await scene.must('vm', 'snapshot', 'prod@now');
    const guids = async (file: string, number: number): Promise<string | undefined> =>
      /unique GUID: (\S+)/.exec(await must('sgdisk', ['-i', String(number), file]))?.[1];
    const text = await scene.must('sync', 'web', '--from', 'prod@now', '--dry-run');
    t.match(text, /^web would take the state of prod-root@now, prod-data@now; nothing was changed\./);
    t.match(text, 'It is a boot disk (partition 1 is an EFI system partition)');
    t.notMatch(text, /^\d+ bytes .* were written/m, 'a dry run says of nothing that it was done');
    t.match(text, /^When done: \d+ bytes of the partition table were written\.$/m);
    await scene.must('sync', 'web', '--from', 'prod@now');
    const images = { root: await scene.copyOf('web-root'), data: await scene.copyOf('web-data') };
    t.equal((await blkid(images.root, ROOT)).UUID, prod.boot.rootUuid);
    t.equal((await blkid(images.data)).UUID, prod.data.uuid);
    t.equal(await guids(images.root, 2), await guids(prod.boot.file, 2));
    t.equal(await guids(images.root, 1), await guids(web.boot.file, 1), 'the firmware’s boot entry names it');
    t.not(await guids(web.boot.file, 1), await guids(prod.boot.file, 1));
    const fstab = await guestFile(images.root, '/etc/fstab');
    t.ok(fstab.includes(prod.boot.rootUuid) && fstab.includes(prod.data.uuid), 'its fstab finds every disk');
  },
);
