// Which disks of a virtual machine are in a sync, and whose ids they have afterwards by default.
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { must } from '../support/programs.js';
import {
  blkid,
  domainXml,
  firmwareVariables,
  guestFile,
  isClean,
  makeVm,
  noDiskTools,
  ROOT,
  Scene,
} from '../support/sync-scene.js';
import { makeXfs } from '../support/xfs-images.js';

t.setTimeout(240_000);
const skip = noDiskTools;

async function twoVms(t: Test, options: { variables?: Buffer } = {}) {
  const scene = await Scene.start(t);
  const web = await makeVm(scene, 'web', 1, options);
  return { scene, web, prod: await makeVm(scene, 'prod', 2, options) };
}

async function guids(file: string, number: number): Promise<string | undefined> {
  return /unique GUID: (\S+)/.exec(await must('sgdisk', ['-i', String(number), file]))?.[1];
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

t.test(
  'with the firmware’s variables in the sync, their boot entries name the source’s ESP: its id comes along',
  { skip },
  async (t) => {
    const { scene, web, prod } = await twoVms(t, { variables: firmwareVariables() });
    await scene.must('vm', 'snapshot', 'prod@now');
    await scene.must('sync', 'web', '--from', 'prod@now');
    const without = await scene.copyOf('web-root');
    t.equal(await guids(without, 1), await guids(web.boot.file, 1), 'they stay outside by default');
    await scene.must('sync', 'web', '--from', 'prod@now', '--files');
    const image = await scene.copyOf('web-root');
    t.equal(await guids(image, 1), await guids(prod.boot.file, 1));
  },
);

t.test('a file that holds something else is no firmware’s', { skip }, async (t) => {
  const { scene, web } = await twoVms(t, { variables: Buffer.alloc(3000, 'seed') });
  await scene.must('vm', 'snapshot', 'prod@now');
  await scene.must('sync', 'web', '--from', 'prod@now', '--files');
  t.equal(await guids(await scene.copyOf('web-root'), 1), await guids(web.boot.file, 1));
});

t.test('the disk a domain boots from is a boot disk without a sign of that on it', { skip }, async (t) => {
  const { scene, prod } = await twoVms(t);
  const bare = ['web-bare', 'prod-bare'];
  for (const name of bare) {
    await scene.import(name, prod.data.file);
    const xml = scene.path(`${name}.xml`);
    writeFileSync(xml, domainXml(name, 3));
    await scene.must('vm', 'create', `${name}-vm`, '--config', xml, '--disk', `vda=${name}`);
  }
  const own = randomUUID();
  const other = await makeXfs(scene.path('other.img'), ['-m', `uuid=${own}`]);
  await scene.must('volume', 'import', 'web-bare', other, '--force');
  await scene.must('vm', 'snapshot', 'prod-bare-vm@now');
  const text = await scene.must('sync', 'web-bare-vm', '--from', 'prod-bare-vm@now');
  t.match(text, 'It is a boot disk ("web-bare-vm" boots from it)');
  t.equal((await blkid(await scene.copyOf('web-bare'))).UUID, prod.data.uuid, 'taken by default');
});
