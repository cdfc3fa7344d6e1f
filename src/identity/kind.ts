// What a kind of identity inside a disk is: one file of pure functions that finds its fields, and writes them back into a disk that
// holds another container's content. Formats are those of docs/identity.md.

import { CellblockError } from '../base/errors.js';
import type { Reading, Writing } from './steps.js';

/** What policies and people call a set of fields. */
export type FieldGroup = 'disk' | 'partition' | 'fs' | 'swap' | 'luks' | 'md' | 'lvm' | 'image' | 'vm';

/**
 * How a value is written: `uuid` 8-4-4-4-12 lower case as the bytes come; `guid` the same in upper case with the first three parts
 * little-endian (GPT); `hex32`, `hex64`, `hex128` lower-case digits without prefix (MBR signature, NTFS serial, VMDK content); `fat` XXXX-XXXX; `lvm` LVM's 6-4-4-4-4-4-6; `text` a
 * label or name.
 */
export type FieldFormat = 'uuid' | 'guid' | 'hex32' | 'hex64' | 'hex128' | 'fat' | 'lvm' | 'text';

export interface Field {
  /** Within its kind, and the same in both containers where it means the same: `uuid`, `label`. */
  readonly name: string;
  readonly group: FieldGroup;
  readonly format: FieldFormat;
  /** As the owner's own tool prints it; empty: there is none. */
  readonly value: string;
}

/** A field that is there and is not written, with the reason in one sentence: what, where, the value seen. */
export interface Unsupported {
  readonly field: string;
  readonly reason: string;
}

export interface Found {
  /** As `blkid` names it where it does: `ext4`, `xfs`, `btrfs`, `vfat`, `LVM2_member`... */
  readonly kind: string;
  readonly fields: readonly Field[];
  readonly unsupported: readonly Unsupported[];
  /** What people should know besides: a journal to replay, a device of several. One sentence each. */
  readonly notes: readonly string[];
  /** The content brings key slots along: after a sync only the source's passphrases open it. */
  readonly keySlots?: true;
}

export interface Restored {
  /** Names of the fields that have the wanted value now. */
  readonly written: readonly string[];
  readonly unsupported: readonly Unsupported[];
  /** Sentences for the report: what else was done (a journal was replayed), and how many bytes it took. */
  readonly notes: readonly string[];
}

export interface Kind {
  readonly name: string;
  /**
   * Looks whether a disk (or partition) of so many bytes holds this kind. Null: it does not. Throws `identity-damaged` when it does but its
   * identity cannot be believed: a bad checksum, a length that leads outside.
   */
  detect(bytes: bigint): Reading<Found | null>;
  /**
   * Gives the fields named in `wanted` these values, in the content that is there now (another container's). Fields that are not in
   * the content are no error: they are not in `written`. A field that cannot be written safely is in `unsupported`, and nothing of
   * it was written. Values were read by `detect` of the same kind (or made in the field's format); a malformed one throws
   * `identity-invalid`.
   */
  restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored>;
}

/** @param what a sentence without its full stop: "the checksum of the ext4 superblock at 1024 is wrong". */
export function damaged(what: string): CellblockError {
  return new CellblockError('identity-damaged', `${capital(what)}.`, {
    hint: 'Repair it with the tool it was made with, or leave this disk out.',
  });
}

export function invalidValue(field: string, value: string, wanted: string): CellblockError {
  return new CellblockError('identity-invalid', `${JSON.stringify(value)} is no ${field}: ${wanted}.`, {
    hint: 'Give a value in the form in which `cellblock identity show` prints it.',
  });
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
