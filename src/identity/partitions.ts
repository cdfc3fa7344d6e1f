// What both kinds of partition table say about a disk: where its partitions lie, and whether one boots from it.

import type { Found, Kind } from './kind.js';
import type { Area, Reading } from './steps.js';

export interface Partition extends Area {
  /** As Linux counts: the slot of the table, from 1; logical ones of an MBR from 5. */
  readonly number: number;
  /** `<first sector>:<type>`, by which partitions of two disks are paired. */
  readonly key: string;
  /** GPT: the type GUID; MBR: two hexadecimal digits. */
  readonly type: string;
  readonly role: 'esp' | 'bios-boot' | null;
  /** MBR: the active flag; GPT: the attribute "legacy BIOS bootable". */
  readonly active: boolean;
}

export interface FoundTable extends Found {
  /** Those that lie on the disk, by number; keys are unique. */
  readonly partitions: readonly Partition[];
  /** Why it is a boot disk, as part of a sentence ("partition 1 is an EFI system partition"), or null. */
  readonly bootable: string | null;
}

export interface TableKind extends Kind {
  detect(bytes: bigint): Reading<FoundTable | null>;
}

export const ESP_TYPE = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';
export const BIOS_BOOT_TYPE = '21686148-6449-6E6F-744E-656564454649';

/** Why a disk with these partitions is a boot disk, or null. */
export function bootReason(partitions: readonly Partition[]): string | null {
  for (const { number, role, active } of partitions) {
    if (role === 'esp') return `partition ${number} is an EFI system partition`;
    if (role === 'bios-boot') return `partition ${number} is a BIOS boot partition`;
    if (active) return `partition ${number} is active`;
  }
  return null;
}

/** The partitions that can be told apart and lie on the disk, and a sentence for each that is left out. */
export function admitted(
  all: readonly Partition[],
  disk: { bytes: bigint; from: bigint },
): { partitions: Partition[]; notes: string[] } {
  const partitions = new Map<string, Partition>();
  const notes: string[] = [];
  for (const partition of all) {
    const { key, number, at, bytes } = partition;
    let why: string | null = null;
    if (bytes <= 0n) why = 'ends before it begins';
    else if (at < disk.from) why = 'covers the partition table itself';
    else if (at + bytes > disk.bytes) why = 'ends behind the end of the disk';
    else if (partitions.has(key))
      why = `has the start and the type of partition ${partitions.get(key)!.number}`;
    if (why === null) partitions.set(key, partition);
    else notes.push(`Partition ${number} ${why} and was not looked into.`);
  }
  return { partitions: [...partitions.values()], notes };
}
