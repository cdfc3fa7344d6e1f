// An export as a block device of this machine: the kernel's loop driver on a file that nbdfuse serves from the daemon.
// Mount points and folders are not the test's own (t.testdir): that is removed before teardowns run.
import { accessSync, constants, existsSync, mkdtempSync, rmdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Daemon, Teardown } from './daemon.js';
import { missing, must, mustNow, Running, run } from './programs.js';
import { until } from './waiting.js';

/** Why this machine cannot do it, or false. */
export function noBlockDevices(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for mount and losetup';
  for (const device of ['/dev/fuse', '/dev/loop-control']) {
    try {
      accessSync(device, constants.R_OK | constants.W_OK);
    } catch {
      return `no access to ${device}`;
    }
  }
  return missing('nbdfuse', 'losetup', 'mount', 'umount', 'fusermount3');
}

/** A piece of a disk. */
export interface Part {
  at: number;
  bytes: number;
}

export interface BlockDevice {
  device: string;
  /** Gone when it resolves; done after the test at the latest. */
  detach(): Promise<void>;
}

/** The export, or a part of it, as a loop device. */
export async function attach(t: Teardown, daemon: Daemon, name: string, part?: Part): Promise<BlockDevice> {
  const folder = mkdtempSync(path.join(daemon.directory, 'fuse-'));
  const file = path.join(folder, 'disk');
  // nbdfuse with a file argument makes a file system of one file at that path's folder.
  const fuse = new Running('nbdfuse', ['-C', '4', file, daemon.uri(name)]);
  let device: string | null = null;
  let isOver = false;
  const detach = async (): Promise<void> => {
    if (isOver) return;
    isOver = true;
    if (device !== null) mustNow('losetup', ['-d', device]);
    if (!fuse.isOver) await until('the end of nbdfuse', () => unmountFuse(folder, fuse));
    await fuse.ended;
  };
  t.teardown(detach);
  await until('nbdfuse', () => {
    if (fuse.isOver) throw new Error(`nbdfuse ended: ${fuse.output}`);
    return existsSync(file);
  });
  const piece = part ? ['--offset', String(part.at), '--sizelimit', String(part.bytes)] : [];
  device = (await must('losetup', ['--find', '--show', ...piece, file])).trim();
  return { device, detach };
}

/** The loop device lets go of the file a little after it is detached. */
async function unmountFuse(folder: string, fuse: Running): Promise<boolean> {
  return (await run('fusermount3', ['-u', folder])).code === 0 || fuse.isOver;
}

export interface Mount {
  folder: string;
  unmount(): Promise<void>;
}

/** Mounted until it is unmounted, after the test at the latest. */
export async function mount(t: Teardown, device: string, options = 'noatime'): Promise<Mount> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'cellblock-mnt-'));
  let isMounted = false;
  const unmount = async (): Promise<void> => {
    if (!isMounted) return;
    await until('umount', async () => (await run('umount', [folder])).code === 0);
    isMounted = false;
  };
  t.teardown(async () => {
    await unmount();
    rmdirSync(folder);
  });
  await must('mount', ['-o', options, device, folder]);
  isMounted = true;
  return { folder, unmount };
}
