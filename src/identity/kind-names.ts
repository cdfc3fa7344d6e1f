// The names of all kinds of content, in one place: what rules call them, and which claim on an area is stronger.

import type { FieldGroup } from './kind.js';

interface KindName {
  /** The name of the Kind, and those that `blkid` prints for it. */
  readonly names: readonly string[];
  readonly group: FieldGroup;
  /** The names behind the first one are of different things: an ext3 is no ext4. */
  readonly variants?: true;
}

/**
 * Strongest claim first. Members of something larger come before what they hold: the file system of an md mirror shows at the start of
 * its members as well. Then those whose superblock has a checksum, then by how much of the format they check.
 */
const KIND_NAMES: readonly KindName[] = [
  // Formats of files: they begin with words of their own.
  { names: ['vmdk'], group: 'image' },
  { names: ['libvirt'], group: 'vm' },
  { names: ['vmx'], group: 'vm' },
  { names: ['md', 'linux_raid_member'], group: 'md' },
  { names: ['luks', 'crypto_LUKS'], group: 'luks' },
  { names: ['lvm', 'LVM2_member'], group: 'lvm' },
  { names: ['btrfs'], group: 'fs' },
  { names: ['xfs'], group: 'fs' },
  { names: ['ext', 'ext2', 'ext3', 'ext4'], group: 'fs', variants: true },
  { names: ['ntfs'], group: 'fs' },
  { names: ['exfat'], group: 'fs' },
  { names: ['fat', 'vfat'], group: 'fs' },
  { names: ['swap'], group: 'swap' },
];

/** 0 is the strongest. Kinds that are not known come last. */
export function claimRank(kind: string): number {
  const rank = KIND_NAMES.findIndex(({ names }) => names.includes(kind));
  return rank < 0 ? KIND_NAMES.length : rank;
}

/** Every name of every kind, with its group, in lower case. */
export function groupsByKind(): Map<string, FieldGroup> {
  return new Map(KIND_NAMES.flatMap(({ names, group }) => names.map((name) => [name.toLowerCase(), group])));
}

/** Under which names rules may speak of what a Kind of this name found as this: `ext`, `ext3`; `fat`, `vfat`. */
export function namesOfKind(family: string, found: string): string[] {
  const kind = KIND_NAMES.find(({ names }) => names.includes(family));
  const general = kind?.variants ? kind.names.slice(0, 1) : (kind?.names ?? []);
  return [...new Set([family, found, ...general].map((name) => name.toLowerCase()))];
}
