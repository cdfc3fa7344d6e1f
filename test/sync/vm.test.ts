// A virtual machine takes the state of another one that was snapshotted while it was being written: both run side by side afterwards,
// each with its own ids, and what was not in the sync is untouched.
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { attach, mount, noBlockDevices } from '../support/block-device.js';
import {
  blkid,
  guestFile,
  hashesOf,
  isClean,
  type MachineFiles,
  makeVm,
  noDiskTools,
  ROOT,
  Scene,
  type SyncAnswer,
} from '../support/sync-scene.js';

t.setTimeout(240_000);
const skip = noDiskTools || noBlockDevices();

/** The guest's own files: those that a sync with --guest-identity may change. */
const GUEST = ['etc/machine-id', 'etc/hostname', 'etc/ssh/ssh_host_ed25519_key', 'etc/fstab'];

/** Appends to files of a folder with fsync, until it is told to stop. Answers how many records are known to be stable. */
function startWriter(folders: readonly string[]): { stable: () => number; stop: () => Promise<void> } {
  const files = folders.map((folder) => openSync(path.join(folder, 'records'), 'a'));
  let stable = 0;
  let isOver = false;
  const work = async (): Promise<void> => {
    for (let record = 0; !isOver; record++) {
      for (const file of files) {
        writeSync(file, `${String(record).padStart(9, '0')}\n`);
        fsyncSync(file);
      }
      stable = record + 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const file of files) closeSync(file);
  };
  const ended = work();
  return {
    stable: () => stable,
    stop: () => {
      isOver = true;
      return ended;
    },
  };
}

/** Root and data file system of a VM, mounted from the live exports or from clones. */
async function mountVm(
  t: Test,
  scene: Scene,
  volumes: { root: string; data: string },
  dataOptions = 'noatime',
) {
  const root = await attach(t, scene.daemon, volumes.root, ROOT);
  const data = await attach(t, scene.daemon, volumes.data);
  const mounts = [await mount(t, root.device), await mount(t, data.device, dataOptions)] as const;
  const folders = mounts.map(({ folder }) => folder) as [string, string];
  const close = async (): Promise<void> => {
    for (const one of mounts) await one.unmount();
    for (const one of [root, data]) await one.detach();
  };
  return { root: folders[0], data: folders[1], folders, close };
}

/** `prod@live`, taken in the middle of writes; answers how many records were stable before. */
async function snapshotUnderLoad(t: Test, scene: Scene): Promise<number> {
  const prod = await mountVm(t, scene, { root: 'prod-root', data: 'prod-data' });
  const writer = startWriter(prod.folders);
  try {
    while (writer.stable() < 20) await new Promise((resolve) => setTimeout(resolve, 5));
    const stable = writer.stable();
    await scene.must('vm', 'snapshot', 'prod@live');
    const later = writer.stable();
    while (writer.stable() < later + 10) await new Promise((resolve) => setTimeout(resolve, 5));
    return stable;
  } finally {
    await writer.stop();
    await prod.close();
  }
}

/** What the snapshot itself holds after its own replay: a clone of it is mounted by the kernel. */
async function replayed(
  t: Test,
  scene: Scene,
): Promise<{ root: Record<string, string>; data: Record<string, string> }> {
  await scene.must('clone', 'prod-root@live', 'judge-root');
  await scene.must('clone', 'prod-data@live', 'judge-data');
  const judge = await mountVm(t, scene, { root: 'judge-root', data: 'judge-data' });
  const content = { root: hashesOf(judge.root), data: hashesOf(judge.data) };
  await judge.close();
  return content;
}

function without(files: Record<string, string>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(files).filter(([name]) => !names.includes(name)));
}

interface Pair {
  scene: Scene;
  web: MachineFiles;
  prod: MachineFiles;
}

async function twoVms(t: Test): Promise<Pair> {
  const scene = await Scene.start(t);
  return { scene, web: await makeVm(scene, 'web', 1), prod: await makeVm(scene, 'prod', 2) };
}

const KEEP = ['--identity', 'fs=keep', '--guest-identity'];

t.test(
  'a snapshot of a running VM becomes the state of another, and both are mounted side by side',
  { skip },
  async (t) => {
    const { scene, web, prod } = await twoVms(t);
    const stable = await snapshotUnderLoad(t, scene);
    const before = [await scene.sha256('web-root'), await scene.sha256('web-data')];
    const expected = await replayed(t, scene);

    const text = await scene.must('sync', 'web', '--from', 'prod@live', ...KEEP);
    t.match(text, /Sync 1: web has the state of prod-root@live, prod-data@live in \d+(\.\d)? ms\./);
    t.match(text, 'Undo it within 24 h with: cellblock sync undo web');
    const answer = JSON.parse(await scene.must('sync', 'show', '1', '--json')) as SyncAnswer;
    const [rootReport, dataReport] = answer.disks.map(({ identity }) => identity);
    t.match(
      rootReport?.restored.map(({ field }) => field),
      ['partition-1/partition.guid', 'partition-1/fs.serial', 'partition-1/fs.label', 'partition-2/fs.uuid'],
    );
    t.match(
      dataReport?.restored.map(({ field }) => field),
      ['disk/fs.uuid', 'disk/fs.label'],
    );

    const images = { root: await scene.copyOf('web-root'), data: await scene.copyOf('web-data') };
    t.equal(await isClean.ext4(images.root, ROOT.at), null, 'e2fsck -fn');
    t.equal(await isClean.gpt(images.root), null, 'sgdisk -v');
    t.equal((await blkid(images.root, ROOT)).UUID, web.boot.rootUuid, 'blkid sees the id of the target');
    t.equal((await blkid(images.data)).UUID, web.data.uuid);
    t.equal(await guestFile(images.root, '/etc/machine-id'), web.boot.guest.machineId);
    t.equal(await guestFile(images.root, '/etc/hostname'), web.boot.guest.hostname);
    t.equal(await guestFile(images.root, '/etc/ssh/ssh_host_ed25519_key'), web.boot.guest.hostKey);
    const fstab = await guestFile(images.root, '/etc/fstab');
    t.ok(
      fstab.includes(web.boot.rootUuid) && fstab.includes(web.data.uuid),
      'fstab names the ids that are there',
    );
    t.notOk(
      fstab.includes(prod.boot.rootUuid) || fstab.includes(prod.data.uuid),
      'and not those of the source',
    );
    t.same(answer.disks[0]?.guest?.rewritten, ['/etc/fstab']);

    const live = await mountVm(t, scene, { root: 'prod-root', data: 'prod-data' });
    // The kernel mounts no two XFS of one UUID.
    const mine = await mountVm(t, scene, { root: 'web-root', data: 'web-data' });
    t.same(
      without(hashesOf(mine.root), GUEST),
      without(expected.root, GUEST),
      'the files are those of the snapshot',
    );
    t.same(hashesOf(mine.data), expected.data, 'on the data disk too');
    for (const folder of mine.folders) {
      const records = readFileSync(path.join(folder, 'records'), 'latin1').split('\n');
      t.ok(records.length > stable, 'what was stable before the snapshot is there');
    }
    await mine.close();
    await live.close();

    // xfs_repair reads no log, so it can judge only what the kernel has replayed.
    t.equal(await isClean.xfs(await scene.copyOf('web-data')), null, 'xfs_repair -n');
    t.equal(await isClean.ext4(await scene.copyOf('web-root'), ROOT.at), null, 'e2fsck -fn after all that');

    const config = readFileSync(web.xml, 'utf8');
    t.equal(await scene.must('vm', 'show', 'web', '--config'), config, 'its configuration is its own');
    const undone = await scene.must('sync', 'undo', 'web');
    t.match(undone, /web has again the state of web-root@before-sync-1, web-data@before-sync-1/);
    t.same(
      [await scene.sha256('web-root'), await scene.sha256('web-data')],
      before,
      'the bytes of both disks',
    );
    t.equal(await scene.must('vm', 'show', 'web', '--config'), config);
    t.ok((await scene.daemon.api.check()).clean);
  },
);
