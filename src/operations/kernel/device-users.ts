// Who uses a block device, read from the kernel's tables of mounts and of swap. Pure functions over their text.

export interface DeviceUser {
  kind: 'mount' | 'swap' | 'holder';
  /** `/dev/nbd0p1`, or what is mapped onto it. */
  device: string;
  /** Mount point, or the name of what is mapped onto it; empty for swap. */
  where: string;
}

export interface LookedFor {
  /** `43:0` */
  number: string;
  path: string;
  /** Other names of it that may stand in the tables. */
  aliases: readonly string[];
}

/** Both tables write a space as `\040`, byte by byte. */
export function unescapeOctal(text: string): string {
  const bytes = Buffer.from(text).toString('latin1');
  const plain = bytes.replace(/\\([0-7]{3})/g, (_all, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
  return Buffer.from(plain, 'latin1').toString();
}

/** By number; btrfs has one of its own there, so by the source too. */
export function mountsOf(mountinfo: string, device: LookedFor): DeviceUser[] {
  return mountinfo.split('\n').flatMap((line): DeviceUser[] => {
    const [before = '', behind = ''] = line.split(' - ');
    const [, , number, , point] = before.split(' ');
    const source = unescapeOctal(behind.split(' ')[1] ?? '');
    if (point === undefined || (number !== device.number && !isNamed(device, source))) return [];
    return [{ kind: 'mount', device: device.path, where: unescapeOctal(point) }];
  });
}

export function swapsOf(swaps: string, device: LookedFor): DeviceUser[] {
  return swaps.split('\n').flatMap((line): DeviceUser[] => {
    const source = unescapeOctal(line.split(/\s/)[0] ?? '');
    return isNamed(device, source) ? [{ kind: 'swap', device: device.path, where: '' }] : [];
  });
}

function isNamed({ path, aliases }: LookedFor, source: string): boolean {
  return source === path || aliases.includes(source);
}

/** `mounted on /mnt/data`; joined with `and`. */
export function describeUsers(users: readonly DeviceUser[]): string {
  return users.map(describeUser).join(' and ');
}

function describeUser({ kind, device, where }: DeviceUser): string {
  switch (kind) {
    case 'mount':
      return `${device} is mounted on ${where}`;
    case 'swap':
      return `${device} is swap`;
    case 'holder':
      return `${device} is used by ${where}`;
  }
}
