// What a sync cannot keep is never lost in silence: it is reported with the reason, or the sync is refused and the target is as it was.
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import t, { type Test } from 'tap';
import { attach, mount, noBlockDevices } from '../support/block-device.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';
import {
  blankFile,
  blkid,
  isClean,
  makeBootDisk,
  makeDataDisk,
  noDiskTools,
  type Report,
  ROOT,
  Scene,
} from '../support/sync-scene.js';

t.setTimeout(240_000);
const skip = noDiskTools;
const theScene = skip ? null : Scene.start(t);
const identityOf = ({ disks }: { disks: { identity: Report }[] }): Report => disks[0]!.identity;

interface Made {
  scene: Scene;
  /** Each test has volumes of its own. */
  name: (what: string) => string;
}

let tests = 0;
async function begin(): Promise<Made> {
  const number = ++tests;
  return { scene: await theScene!, name: (what) => `${what}${number}` };
}

async function ext4(scene: Scene, name: string, ...options: string[]): Promise<string> {
  const file = blankFile(scene.path(`${name}.img`), 32 * MIB);
  await must('mkfs.ext4', ['-qF', '-L', name, ...options, file]);
  return file;
}

function flip(file: string, at: number): void {
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 0xff;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

/** Refused with identity-damaged and the reason; the target is bit by bit what it was, and all=take goes through. */
async function refusedAsDamaged(
  t: Test,
  { scene }: Made,
  { target, from, says }: { target: string; from: string; says: RegExp },
): Promise<void> {
  const before = await scene.sha256(target);
  for (const words of [[], ['--dry-run']]) {
    const refused = await scene.cli('sync', target, '--from', from, ...words);
    t.not(refused.code, 0);
    t.match(refused.stderr, says);
    t.match(refused.stderr, '--identity all=take');
    t.equal(refused.stderr.trimEnd().split('\n').length, 1, 'one line');
  }
  t.equal(await scene.sha256(target), before, 'exactly as it was');
  await scene.must('sync', target, '--from', from, '--identity', 'all=take');
  t.equal(await scene.sha256(target), await scene.sha256(from), 'all=take gives the source, bit by bit');
}

t.test(
  'a blank target: the ids of the source are taken and listed as foreign; or made anew when asked',
  { skip },
  async (t) => {
    const { scene, name } = await begin();
    const [prod, blank, anew] = [name('prod'), name('blank'), name('anew')];
    const { file, uuid } = await makeDataDisk(scene, prod);
    await scene.import(prod, file);
    await scene.must('snapshot', 'create', `${prod}@s`);
    for (const one of [blank, anew]) await scene.daemon.api.createVolume(one, 64 * MIB);
    const text = await scene.must('sync', blank, '--from', `${prod}@s`);
    t.match(text, new RegExp(`^disk/fs\\.uuid +xfs +foreign +${uuid} +- +${uuid}$`, 'm'));
    t.equal((await blkid(await scene.copyOf(blank))).UUID, uuid);

    const report = identityOf(await scene.sync(anew, '--from', `${prod}@s`, '--identity', 'fs=new'));
    const image = await scene.copyOf(anew);
    const { UUID: made } = await blkid(image);
    t.not(made, uuid);
    t.match(report.fresh, [{ field: 'disk/fs.uuid', now: made, target: null, source: uuid }]);
    t.equal(await isClean.xfs(image), null);
  },
);

t.test(
  'clone --new-identity: the clone is mounted beside its origin',
  { skip: skip || noBlockDevices() },
  async (t) => {
    const { scene, name } = await begin();
    const [prod, twin] = [name('prod'), name('twin')];
    const { file } = await makeDataDisk(scene, prod);
    await scene.import(prod, file);
    await scene.must('snapshot', 'create', `${prod}@s`);
    t.match(await scene.must('clone', `${prod}@s`, twin, '--new-identity'), `${twin} continues ${prod}@s`);
    for (const volume of [prod, twin]) await mount(t, (await attach(t, scene.daemon, volume)).device);
    t.pass('the kernel mounted two XFS, which it does not with one UUID');
  },
);

t.test(
  'ext4 with stable_inodes keeps the UUID its files are encrypted with, and the report says so',
  { skip },
  async (t) => {
    const { scene, name } = await begin();
    const [web, prod, uuid] = [name('web'), name('prod'), randomUUID()];
    await scene.import(web, await ext4(scene, web));
    await scene.import(prod, await ext4(scene, prod, '-O', 'stable_inodes', '-U', uuid));
    await scene.must('snapshot', 'create', `${prod}@s`);
    const text = await scene.must('sync', web, '--from', `${prod}@s`);
    t.match(text, /^disk\/fs\.uuid +ext4 +NOT KEPT /m);
    t.match(text, /^disk\/fs\.uuid was not kept\. .*stable_inodes/m);
    const image = await scene.copyOf(web);
    t.match(await blkid(image), { UUID: uuid, LABEL: web }, 'the label is no part of the keys');
    t.equal(await isClean.ext4(image), null);
  },
);

t.test(
  'ext4 with an external journal: not touched, reported',
  { skip: skip || noBlockDevices() },
  async (t) => {
    const { scene, name } = await begin();
    const [web, prod, uuid] = [name('web'), name('prod'), randomUUID()];
    const journal = blankFile(scene.path(name('journal')), 16 * MIB);
    const device = (await must('losetup', ['--find', '--show', journal])).trim();
    try {
      await must('mke2fs', ['-qF', '-b', '4096', '-O', 'journal_dev', device]);
      const file = await ext4(scene, prod, '-b', '4096', '-U', uuid, '-J', `device=${device}`);
      await scene.import(prod, file);
    } finally {
      await must('losetup', ['-d', device]);
    }
    await scene.import(web, await ext4(scene, web));
    await scene.must('snapshot', 'create', `${prod}@s`);
    const text = await scene.must('sync', web, '--from', `${prod}@s`);
    t.match(text, /^disk\/fs\.uuid was not kept\. .*journal/m);
    t.equal((await blkid(await scene.copyOf(web))).UUID, uuid);
  },
);

t.test(
  'btrfs of two devices: one of them alone is not changed, and the report says why',
  { skip: skip || missing('mkfs.btrfs') },
  async (t) => {
    const { scene, name } = await begin();
    const [web, prod] = [name('web'), name('prod')];
    const pair = [prod, name('other')].map((one) => blankFile(scene.path(`${one}.img`), 128 * MIB));
    await must('mkfs.btrfs', ['-qf', '-d', 'raid1', ...pair]);
    const single = blankFile(scene.path(`${web}.img`), 128 * MIB);
    await must('mkfs.btrfs', ['-qf', single]);
    await scene.import(prod, pair[0]!);
    await scene.import(web, single);
    await scene.must('snapshot', 'create', `${prod}@s`);
    const text = await scene.must('sync', web, '--from', `${prod}@s`);
    t.match(text, /^disk\/fs\.uuid was not kept\. .*devices/m);
    t.equal((await blkid(await scene.copyOf(web))).UUID, (await blkid(pair[0]!)).UUID);
  },
);

t.test(
  'LUKS: refused without --take-keys; with it the keys are the source’s and the UUID the target’s',
  { skip: skip || missing('cryptsetup') },
  async (t) => {
    const { scene, name } = await begin();
    const [web, prod] = [name('web'), name('prod')];
    const uuids: Record<string, string> = {};
    for (const one of [web, prod]) {
      const file = blankFile(scene.path(`${one}.img`), 24 * MIB);
      const cheap = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000', '--key-file', '-'];
      await must('cryptsetup', ['luksFormat', '-q', ...cheap, file], { input: one });
      uuids[one] = (await must('cryptsetup', ['luksUUID', file])).trim();
      await scene.import(one, file);
    }
    await scene.must('snapshot', 'create', `${prod}@s`);
    const before = await scene.sha256(web);
    for (const words of [[], ['--dry-run']]) {
      const refused = await scene.cli('sync', web, '--from', `${prod}@s`, ...words);
      t.equal(refused.code, 7, refused.stderr);
      t.match(refused.stderr, /encrypted.*key slots come along.*--take-keys/);
    }
    t.equal(await scene.sha256(web), before);
    await scene.must('sync', web, '--from', `${prod}@s`, '--take-keys');
    const image = await scene.copyOf(web);
    const opens = async (key: string): Promise<boolean> =>
      (await run('cryptsetup', ['open', '--test-passphrase', '--key-file', '-', image], { input: key }))
        .code === 0;
    t.equal((await must('cryptsetup', ['luksUUID', image])).trim(), uuids[web]);
    t.same([await opens(prod), await opens(web)], [true, false], 'the passphrase of the source opens it');
  },
);

t.test('a superblock of the target with a wrong checksum: refused', { skip }, async (t) => {
  const made = await begin();
  const { scene, name } = made;
  const [web, prod] = [name('web'), name('prod')];
  const file = await ext4(scene, web);
  flip(file, 1024 + 0x3fc);
  await scene.import(web, file);
  await scene.import(prod, await ext4(scene, prod));
  await scene.must('snapshot', 'create', `${prod}@s`);
  await refusedAsDamaged(t, made, {
    target: web,
    from: `${prod}@s`,
    says: /identity of the target .*checksum/,
  });
});

t.test('a GPT of the target with both copies damaged: refused', { skip }, async (t) => {
  const made = await begin();
  const { scene, name } = made;
  const [web, prod] = [name('web'), name('prod')];
  const { file } = await makeBootDisk(scene, web, randomUUID());
  for (const header of [512, 66 * MIB - 512]) flip(file, header + 0x10);
  await scene.import(web, file);
  await scene.import(prod, (await makeBootDisk(scene, prod, randomUUID())).file);
  await scene.must('snapshot', 'create', `${prod}@s`);
  await refusedAsDamaged(t, made, { target: web, from: `${prod}@s`, says: /identity of the target .*GPT/ });
  t.equal(await isClean.ext4(await scene.copyOf(web), ROOT.at), null);
});

t.test(
  'a source whose superblock cannot be believed: refused, and the target is as it was',
  { skip },
  async (t) => {
    const made = await begin();
    const { scene, name } = made;
    const [web, prod] = [name('web'), name('prod')];
    await scene.import(web, await ext4(scene, web));
    const file = await ext4(scene, prod);
    flip(file, 1024 + 0x3fc);
    await scene.import(prod, file);
    await scene.must('snapshot', 'create', `${prod}@s`);
    await refusedAsDamaged(t, made, {
      target: web,
      from: `${prod}@s`,
      says: /identity of the source .*checksum/,
    });
  },
);

t.test(
  'a source of no known format: said, with what the target had and has no place for',
  { skip },
  async (t) => {
    const { scene, name } = await begin();
    const [web, noise] = [name('web'), name('noise')];
    await scene.import(web, await ext4(scene, web));
    const file = scene.path(`${noise}.img`);
    await must('dd', ['if=/dev/urandom', `of=${file}`, 'bs=1M', 'count=32', 'status=none']);
    await scene.import(noise, file);
    await scene.must('snapshot', 'create', `${noise}@s`);
    const text = await scene.must('sync', web, '--from', `${noise}@s`);
    t.match(text, 'No identity was found in it.');
    t.match(text, /^disk\/fs\.uuid \(.*\) of the target has no place in the new content\.$/m);
    t.equal(await scene.sha256(web), await scene.sha256(`${noise}@s`));
  },
);
