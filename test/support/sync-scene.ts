// Disks and virtual machines for the tests of syncs: made by the owners' own tools, held by a real daemon, judged by those tools again.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { type Outcome, runCli } from '../cli/run-cli.js';
import type { Part } from './block-device.js';
import { Daemon, type DaemonOptions } from './daemon.js';
import { MIB } from './nbd-wire.js';
import { missing, must, run } from './programs.js';
import { makeXfs } from './xfs-images.js';

export const noDiskTools: string | false = missing(
  'sgdisk',
  'mkfs.vfat',
  'mkfs.ext4',
  'mkfs.xfs',
  'e2fsck',
  'debugfs',
  'xfs_repair',
  'blkid',
  'nbdcopy',
);

/** Where things lie on a boot disk. */
export const ESP: Part = { at: MIB, bytes: 16 * MIB };
export const ROOT: Part = { at: 17 * MIB, bytes: 48 * MIB };
export const BOOT_BYTES = 66 * MIB;
export const DATA_BYTES = 64 * MIB;

const NO_DATA_DISK = '00000000-0000-4000-8000-000000000000';

/** One field in one of the lists of a report. */
export interface ReportedField {
  field: string;
  kind: string;
  target: string | null;
  source: string | null;
  now: string | null;
  reason: string | null;
}

export interface Report {
  boot: string | null;
  captured: { field: string; kind: string; value: string }[];
  overwritten: ReportedField[];
  restored: ReportedField[];
  unsupported: ReportedField[];
  skipped: ReportedField[];
  foreign: ReportedField[];
  fresh: ReportedField[];
  same: ReportedField[];
  gone: { field: string }[];
  damaged: { disk: string; reason: string }[];
  notes: string[];
}

/** What the command line answers about a sync with --json. */
export interface SyncAnswer {
  id: number | null;
  kind: string;
  phase: string;
  disks: {
    target: string;
    from: string;
    identity: Report;
    guest: {
      restored: { path: string }[];
      same: { path: string }[];
      foreign: string[];
      rewritten: string[];
      unsupported: { path: string; reason: string }[];
    } | null;
  }[];
  config: { restored: { field: string; target: string }[] } | null;
  safety: string[];
  heldMs: number | null;
}

/** A daemon, a folder for images, and the command line. */
export class Scene {
  private constructor(
    readonly daemon: Daemon,
    readonly folder: string,
  ) {}

  static async start(t: Test, options: DaemonOptions = {}): Promise<Scene> {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'cellblock-images-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    return new Scene(await Daemon.start(t, options), folder);
  }

  path(name: string): string {
    return path.join(this.folder, name);
  }

  cli(...words: string[]): Promise<Outcome> {
    return runCli(words, { api: this.daemon.apiPath });
  }

  /** A command that has to succeed; gives what it printed. */
  async must(...words: string[]): Promise<string> {
    const outcome = await this.cli(...words);
    if (outcome.code !== 0) throw new Error(`cellblock ${words.join(' ')}\n${outcome.stderr}`);
    return outcome.stdout;
  }

  async sync(...words: string[]): Promise<SyncAnswer> {
    return JSON.parse(await this.must('sync', ...words, '--json')) as SyncAnswer;
  }

  /** A new volume with the content of a file. */
  async import(name: string, file: string): Promise<void> {
    await this.must('volume', 'import', name, file);
  }

  /** All of a volume or snapshot in a new sparse file. */
  async copyOf(name: string): Promise<string> {
    const file = this.path(`${name.replaceAll('/', '_')}-${randomBytes(4).toString('hex')}.raw`);
    await must('nbdcopy', [this.daemon.uri(name), file]);
    return file;
  }

  async sha256(name: string): Promise<string> {
    const file = await this.copyOf(name);
    try {
      return createHash('sha256').update(readFileSync(file)).digest('hex');
    } finally {
      rmSync(file);
    }
  }

  async space(name: string): Promise<{ allocatedBytes: number; exclusiveBytes: number }> {
    const all = JSON.parse(await this.must('store', 'status', '--json')) as {
      volumes: { name: string; allocatedBytes: number; exclusiveBytes: number }[];
      snapshots: { name: string; allocatedBytes: number; exclusiveBytes: number }[];
    };
    const found = [...all.volumes, ...all.snapshots].find((one) => one.name === name);
    if (!found) throw new Error(`store status does not know ${name}`);
    return found;
  }
}

export function blankFile(file: string, bytes: number): string {
  writeFileSync(file, '');
  truncateSync(file, bytes);
  return file;
}

export const isClean = {
  /** Null: clean; else what e2fsck said. */
  async ext4(file: string, at = 0): Promise<string | null> {
    const { code, story } = await run('e2fsck', ['-fn', at === 0 ? file : `${file}?offset=${at}`]);
    return code === 0 ? null : story;
  },
  async xfs(file: string): Promise<string | null> {
    const { code, story } = await run('xfs_repair', ['-n', file]);
    return code === 0 ? null : story;
  },
  async gpt(file: string): Promise<string | null> {
    const { stdout, story } = await run('sgdisk', ['-v', file]);
    return stdout.includes('No problems found') ? null : story;
  },
};

/** Values by key, without the kernel's cache; of a part of a file when its place is given. */
export async function blkid(file: string, part?: Part): Promise<Record<string, string>> {
  const piece = part ? ['-O', String(part.at), '-S', String(part.bytes)] : [];
  const { stdout } = await run('blkid', ['-p', '-o', 'export', ...piece, file]);
  const lines = stdout.split('\n').filter((line) => line.includes('='));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

export interface Guest {
  machineId: string;
  hostname: string;
  hostKey: string;
}

export interface BootDisk {
  file: string;
  rootUuid: string;
  guest: Guest;
}

/** A GPT with an EFI system partition and a root of ext4, whose fstab names itself and the data disk. */
export async function makeBootDisk(scene: Scene, name: string, dataUuid: string): Promise<BootDisk> {
  const file = blankFile(scene.path(`${name}.img`), BOOT_BYTES);
  const sectors = (bytes: number): string => String(bytes / 512);
  await must('sgdisk', [
    '-n',
    `1:${sectors(ESP.at)}:+${ESP.bytes / MIB}M`,
    '-t',
    '1:ef00',
    '-n',
    `2:${sectors(ROOT.at)}:+${ROOT.bytes / MIB}M`,
    '-t',
    '2:8300',
    '-c',
    `2:${name}`,
    file,
  ]);
  await must('mkfs.vfat', [
    `--offset=${sectors(ESP.at)}`,
    '-n',
    name.toUpperCase(),
    file,
    String(ESP.bytes / 1024),
  ]);
  const rootUuid = randomUUID();
  const guest: Guest = {
    machineId: `${randomBytes(16).toString('hex')}\n`,
    hostname: `${name}\n`,
    hostKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${randomBytes(200).toString('base64')}\n-----END\n`,
  };
  const tree = guestTree(scene.path(`${name}-root`), guest, { rootUuid, dataUuid });
  const options = ['-qF', '-U', rootUuid, '-L', name, '-d', tree, '-E', `offset=${ROOT.at}`];
  await must('mkfs.ext4', [...options, file, `${ROOT.bytes / MIB}M`]);
  rmSync(tree, { recursive: true });
  return { file, rootUuid, guest };
}

function guestTree(folder: string, guest: Guest, ids: { rootUuid: string; dataUuid: string }): string {
  mkdirSync(path.join(folder, 'etc/ssh'), { recursive: true });
  mkdirSync(path.join(folder, 'srv'));
  const put = (name: string, text: string): void => writeFileSync(path.join(folder, name), text);
  put('etc/machine-id', guest.machineId);
  put('etc/hostname', guest.hostname);
  put('etc/ssh/ssh_host_ed25519_key', guest.hostKey);
  put('etc/fstab', `UUID=${ids.rootUuid} / ext4 defaults 0 1\nUUID=${ids.dataUuid} /srv xfs defaults 0 2\n`);
  for (let index = 0; index < 8; index++)
    put(`srv/file-${index}`, randomBytes(20_000 + index).toString('hex'));
  return folder;
}

/** A bare XFS of 64 MiB. The kernel remembers ids of XFS, so every run has its own. */
export async function makeDataDisk(scene: Scene, name: string): Promise<{ file: string; uuid: string }> {
  const uuid = randomUUID();
  const file = await makeXfs(scene.path(`${name}.img`), ['-m', `uuid=${uuid}`, '-L', name.slice(0, 12)]);
  return { file, uuid };
}

export interface MachineFiles {
  boot: BootDisk;
  data: { file: string; uuid: string };
  xml: string;
}

/** The head of a UEFI firmware's variables as EDK II writes it, and something behind it. */
export function firmwareVariables(): Buffer {
  const head = Buffer.alloc(72);
  head.write('8d2bf1ff96768b4ca9852747075b4f50', 16, 'hex');
  head.writeBigUInt64LE(0x84000n, 32);
  head.write('_FVH', 40, 'latin1');
  return Buffer.concat([head, randomBytes(3000)]);
}

/** A virtual machine of two volumes, NAME-root (vda) and NAME-data (vdb), in the store, and of a file NAME-vars (nvram) when asked. */
export async function makeVm(
  scene: Scene,
  name: string,
  number: number,
  { variables }: { variables?: Buffer } = {},
): Promise<MachineFiles> {
  const data = await makeDataDisk(scene, `${name}-data`);
  const boot = await makeBootDisk(scene, name, data.uuid);
  await scene.import(`${name}-root`, boot.file);
  await scene.import(`${name}-data`, data.file);
  const xml = scene.path(`${name}.xml`);
  writeFileSync(xml, domainXml(name, number));
  const disks = ['--disk', `vda=${name}-root`, '--disk', `vdb=${name}-data`];
  if (variables) {
    const file = scene.path(`${name}-vars`);
    writeFileSync(file, variables);
    await scene.must('file', 'import', `${name}-vars`, file);
    disks.push('--disk', `nvram=${name}-vars`);
  }
  await scene.must('vm', 'create', name, '--config', xml, ...disks);
  return { boot, data, xml };
}

export function domainXml(name: string, number: number): string {
  const disk = (volume: string, target: string): string => `    <disk type='network' device='disk'>
      <source protocol='nbd' name='${volume}'><host transport='unix' socket='/run/nbd.sock'/></source>
      <target dev='${target}' bus='virtio'/>
    </disk>
`;
  return `<domain type='kvm'>
  <name>${name}</name>
  <uuid>${String(number).repeat(8)}-1111-4111-8111-111111111111</uuid>
  <memory unit='MiB'>256</memory>
  <os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>
  <devices>
${disk(`${name}-root`, 'vda')}${disk(`${name}-data`, 'vdb')}    <interface type='network'><mac address='52:54:00:00:00:0${number}'/><source network='default'/></interface>
  </devices>
</domain>
`;
}

/** Name and hash of every file below a folder. */
export function hashesOf(folder: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    result[path.relative(folder, file)] = createHash('sha256').update(readFileSync(file)).digest('hex');
  }
  return result;
}

/** A file of the root file system of a boot disk's image, without mounting it. */
export async function guestFile(image: string, name: string): Promise<string> {
  return must('debugfs', ['-R', `cat ${name}`, `${image}?offset=${ROOT.at}`]);
}

/** Two disks with a partition table and an ext4 each, made once a file; each test has volumes of its own of them. */
export class DiskPairs {
  readonly #scene: Promise<Scene> | null;
  #used = 0;

  constructor(t: Test, skip: string | false) {
    this.#scene = skip ? null : DiskPairs.#make(t);
  }

  static async #make(t: Test): Promise<Scene> {
    const scene = await Scene.start(t);
    for (const name of ['web', 'prod']) await makeBootDisk(scene, name, NO_DATA_DISK);
    return scene;
  }

  /** `web` is to take the state of `now`, a snapshot of `prod`. */
  async pair(): Promise<{ scene: Scene; web: string; prod: string; now: string }> {
    const scene = await this.#scene!;
    const [web, prod] = [`web${++this.#used}`, `prod${this.#used}`];
    await scene.import(web, scene.path('web.img'));
    await scene.import(prod, scene.path('prod.img'));
    await scene.must('snapshot', 'create', `${prod}@now`);
    return { scene, web, prod, now: `${prod}@now` };
  }
}
