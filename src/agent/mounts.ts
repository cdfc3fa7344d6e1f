// Which mount a path lies on, read from the kernel's table. Pure functions over its text.

import { unescapeOctal } from '../operations/kernel/device-users.js';

export interface Mount {
  point: string;
  /** `ext4`, `fuse.sshfs` */
  type: string;
  /** `/dev/sda1`, `server:/export` */
  source: string;
  /** Of the mount, then of the file system. */
  options: string[];
}

/** `mountinfo`: of /proc/PID/mountinfo; `path`: absolute, without symbolic links. Null: the table does not say. */
export function mountOf(mountinfo: string, path: string): Mount | null {
  let nearest: Mount | null = null;
  for (const line of mountinfo.split('\n')) {
    const mount = parseMount(line);
    if (!mount || !isBelow(path, mount.point)) continue;
    // Of two at one place the later one covers the earlier.
    if (nearest === null || mount.point.length >= nearest.point.length) nearest = mount;
  }
  return nearest;
}

function parseMount(line: string): Mount | null {
  const [before = '', behind] = line.split(' - ');
  const [, , , , point, ofMount = ''] = before.split(' ');
  if (point === undefined || behind === undefined) return null;
  const [type = '', source = '', ofFileSystem = ''] = behind.split(' ');
  const options = `${ofMount},${ofFileSystem}`.split(',').filter((option) => option !== '');
  return {
    point: unescapeOctal(point),
    type,
    source: unescapeOctal(source),
    options: [...new Set(options)],
  };
}

function isBelow(path: string, point: string): boolean {
  return point === '/' || path === point || path.startsWith(`${point}/`);
}
