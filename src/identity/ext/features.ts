// The features a file system of ext2, ext3 or ext4 may have: three sets of bits in the superblock. One that is not
// known may give the UUID a further meaning (as stable_inodes did), so then the UUID is not changed.

export const COMPAT = {
  hasJournal: 0x4,
  sparseSuper2: 0x200,
  fastCommit: 0x400,
  stableInodes: 0x800,
  orphanFile: 0x1000,
} as const;
export const INCOMPAT = {
  compression: 0x1,
  fileType: 0x2,
  recover: 0x4,
  journalDevice: 0x8,
  metaBg: 0x10,
  extents: 0x40,
  bits64: 0x80,
  mmp: 0x100,
  flexBg: 0x200,
  eaInode: 0x400,
  dirData: 0x1000,
  checksumSeed: 0x2000,
  largeDir: 0x4000,
  inlineData: 0x8000,
  encrypt: 0x10000,
  caseFold: 0x20000,
} as const;
export const RO_COMPAT = {
  sparseSuper: 0x1,
  largeFile: 0x2,
  btreeDir: 0x4,
  hugeFile: 0x8,
  groupChecksum: 0x10,
  quota: 0x100,
  bigAlloc: 0x200,
  metadataChecksum: 0x400,
  project: 0x2000,
  orphanPresent: 0x10000,
} as const;
/** dir_nlink, extra_isize, snapshot, replica, read-only, shared_blocks, verity: known, and of no account here. */
const RO_COMPAT_OTHER = 0x20 | 0x40 | 0x80 | 0x800 | 0x1000 | 0x4000 | 0x8000;

const allOf = (bits: Record<string, number>): number =>
  Object.values(bits).reduce((all, bit) => all | bit, 0);
/** dir_prealloc, imagic_inodes, ext_attr, resize_inode, dir_index, lazy_bg, exclude_inode, exclude_bitmap: likewise. */
const COMPAT_OTHER = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x100;
export const KNOWN_COMPAT = allOf(COMPAT) | COMPAT_OTHER;
export const KNOWN_INCOMPAT = allOf(INCOMPAT);
export const KNOWN_RO_COMPAT = allOf(RO_COMPAT) | RO_COMPAT_OTHER;
export const EXT3_INCOMPAT = INCOMPAT.fileType | INCOMPAT.recover | INCOMPAT.metaBg;
export const EXT3_RO_COMPAT = RO_COMPAT.sparseSuper | RO_COMPAT.largeFile | RO_COMPAT.btreeDir;
