// Every kind of identity a disk or partition may have, besides its partition table.

import { btrfs } from './btrfs.js';
import { exfat } from './exfat.js';
import { ext } from './ext/ext.js';
import { fat } from './fat.js';
import type { Kind } from './kind.js';
import { libvirtDomain } from './libvirt-domain.js';
import { luks } from './luks.js';
import { lvm } from './lvm.js';
import { md } from './md.js';
import { ntfs } from './ntfs.js';
import { swap } from './swap.js';
import { vmdk } from './vmdk.js';
import { vmx } from './vmx.js';
import { xfs } from './xfs/xfs.js';

export const KINDS: readonly Kind[] = [md, luks, lvm, btrfs, xfs, ext, ntfs, exfat, fat, swap];

/** Of a file: those of VMs, then those of a disk, as it may be the image of one. */
export const FILE_KINDS: readonly Kind[] = [vmdk, vmx, libvirtDomain, ...KINDS];
