// ext2, ext3 and ext4: UUID and label, which lie in the superblock.
//
// What else follows the UUID:
// * metadata_csum: every checksum begins with it, unless metadata_csum_seed says the seed itself. So the seed is written down first, and
//   only the superblock changes. The same holds for multi-mount protection, the orphan file and values of attributes in inodes.
// * uninit_bg (before metadata_csum): the checksums of all group descriptors, which are made anew.
// * An internal journal has a UUID of its own, which nobody compares and from which its checksums are made: it stays.
// * A journal to replay holds older copies of the superblock, so it is replayed first.
// * Backup superblocks: tune2fs and the kernel write all of them, e2fsck takes both and brings them up to date in silence. Here those with
//   the old UUID get the new one (there are few, about twenty on 4 TiB), but not with uninit_bg: there the copies of the descriptors
//   beside them have checksums of the old UUID, and the pair stays true.
// * Keys of encrypted files (stable_inodes), an external journal, hashes of attributes in inodes without metadata_csum: not written.

import { formatUuid, parseUuid } from '../formats.js';
import { type Found, invalidValue, type Kind, type Restored, type Unsupported } from '../kind.js';
import { type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { COMPAT, INCOMPAT } from './features.js';
import { backupGroups, firstBlockOf, renewOldChecksums, wrongOldChecksum } from './groups.js';
import { replay } from './replay.js';
import { LABEL_BYTES, readSuperblock, SUPERBLOCK_AT, SUPERBLOCK_BYTES, Superblock } from './superblock.js';

const NO_UUID = Buffer.alloc(16);

export const ext: Kind = { name: 'ext', detect, restore };

function* detect(bytes: bigint): Reading<Found | null> {
  const superblock = yield* readSuperblock(bytes);
  if (superblock === null) return null;
  const label = labelText(superblock);
  const fields: Found['fields'] = [
    { name: 'uuid', group: 'fs', format: 'uuid', value: uuidText(superblock) },
    ...(label === null ? [] : [{ name: 'label', group: 'fs', format: 'text', value: label } as const]),
  ];
  return {
    kind: superblock.kind,
    fields,
    unsupported: unsupportedOf(superblock),
    notes: notesOf(superblock),
  };
}

function uuidText(superblock: Superblock): string {
  return superblock.uuid.equals(NO_UUID) ? '' : formatUuid(superblock.uuid);
}

/** Null: it is no text, and would come back as something else. */
function labelText(superblock: Superblock): string | null {
  const text = superblock.label.toString('utf8');
  return Buffer.from(text).equals(superblock.label) ? text : null;
}

function unsupportedOf(superblock: Superblock): Unsupported[] {
  const found: Unsupported[] = [];
  const uuid = whyNotUuid(superblock);
  if (uuid !== null) found.push({ field: 'uuid', reason: uuid });
  const label = whyNotLabel(superblock);
  if (label !== null) found.push({ field: 'label', reason: label });
  return found;
}

function whyNotUuid(superblock: Superblock): string | null {
  const named = `The ${superblock.kind} file system ${uuidText(superblock)}`;
  if (superblock.isJournalDevice)
    return `${named} is the journal of other file systems, which find it by its UUID.`;
  if (superblock.hasCompat(COMPAT.stableInodes))
    return `${named} has stable_inodes: keys of its encrypted files may be made from its UUID.`;
  if (superblock.hasExternalJournal)
    return `${named} has its journal on another device, which names the file system by its UUID.`;
  if (superblock.hasIncompat(INCOMPAT.eaInode) && !keepsSeed(superblock))
    return `${named} has ea_inode without metadata_csum: hashes of its attributes are made from its UUID.`;
  const unknown = Object.entries(superblock.unknownFeatures).filter(([, bits]) => bits !== 0);
  if (unknown.length > 0) {
    const bits = unknown.map(([set, bits]) => `${set} 0x${bits.toString(16)}`).join(', ');
    return `${named} has unknown features (${bits}), which may follow its UUID.`;
  }
  return null;
}

function keepsSeed(superblock: Superblock): boolean {
  return superblock.hasChecksums || superblock.hasIncompat(INCOMPAT.checksumSeed);
}

function whyNotLabel(superblock: Superblock): string | null {
  if (superblock.isJournalDevice) return 'The label of a journal of other file systems is left alone.';
  if (labelText(superblock) === null)
    return `The label of the ${superblock.kind} file system is no UTF-8 text (bytes ${superblock.label.toString('hex')}), so it cannot be kept.`;
  return null;
}

function notesOf(superblock: Superblock): string[] {
  if (!superblock.needsRecovery) return [];
  return [
    `The ${superblock.kind} file system was not unmounted; its journal is replayed when it gets an identity.`,
  ];
}

/** The fields of this kind that are wanted, as they are stored. */
interface Wanted {
  readonly uuid: Buffer | null;
  readonly label: Buffer | null;
}

function parseWanted(wanted: ReadonlyMap<string, string>): Wanted {
  const uuid = wanted.get('uuid');
  const label = wanted.get('label');
  return {
    uuid: uuid === undefined ? null : uuid === '' ? NO_UUID : parseUuid('uuid', uuid),
    label: label === undefined ? null : parseLabel(label),
  };
}

function parseLabel(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > LABEL_BYTES || bytes.includes(0) || bytes.toString() !== text)
    throw invalidValue('label', text, `at most ${LABEL_BYTES} bytes of UTF-8, and none of them zero`);
  return bytes;
}

function* restore(bytes: bigint, values: ReadonlyMap<string, string>): Writing<Restored> {
  const wanted = parseWanted(values);
  const superblock = yield* readSuperblock(bytes);
  if (superblock === null || (!wanted.uuid && !wanted.label))
    return { written: [], unsupported: [], notes: [] };
  const work = new Restoring(superblock, wanted);
  work.decide();
  if (work.isNeeded) yield* work.run(bytes);
  return work.result;
}

class Restoring {
  readonly result: { written: string[]; unsupported: Unsupported[]; notes: string[] } = {
    written: [],
    unsupported: [],
    notes: [],
  };
  #superblock: Superblock;
  #uuid: Buffer | null;
  #label: Buffer | null;

  constructor(superblock: Superblock, { uuid, label }: Wanted) {
    this.#superblock = superblock;
    this.#uuid = uuid;
    this.#label = label;
  }

  get isNeeded(): boolean {
    return this.#uuid !== null || this.#label !== null;
  }

  /** Takes out what must not be written. */
  decide(): void {
    const reason = whyNotUuid(this.#superblock);
    if (this.#uuid && reason !== null) {
      if (this.#uuid.equals(this.#superblock.uuid)) this.#hasAlready('uuid');
      else this.#giveUp('uuid', reason);
    }
    if (this.#label && this.#superblock.isJournalDevice)
      this.#giveUp('label', whyNotLabel(this.#superblock) ?? '');
  }

  #giveUp(field: 'uuid' | 'label', reason: string): void {
    this.result.unsupported.push({ field, reason });
    if (field === 'uuid') this.#uuid = null;
    else this.#label = null;
  }

  #hasAlready(field: 'uuid'): void {
    this.result.written.push(field);
    this.#uuid = null;
  }

  *run(bytes: bigint): Writing<void> {
    if (this.#superblock.needsRecovery && !(yield* this.#replay(bytes))) return;
    const before = new Superblock(Buffer.from(this.#superblock.raw));
    if (yield* this.#hasWrongDescriptors()) return;
    this.#change(this.#superblock);
    this.#superblock.seal();
    yield* writeAt(SUPERBLOCK_AT, this.#superblock.raw);
    if (this.#uuid && this.#superblock.hasOldGroupChecksums) yield* this.#renewDescriptors();
    else yield* this.#changeBackups(before);
    if (this.#uuid) this.result.written.push('uuid');
    if (this.#label) this.result.written.push('label');
  }

  /** False: it cannot be replayed, and nothing was written. */
  *#replay(bytes: bigint): Writing<boolean> {
    const replayed = yield* replay(bytes, this.#superblock);
    if ('refused' in replayed) {
      const reason = `The ${this.#superblock.kind} file system ${uuidText(this.#superblock)} was not unmounted: ${replayed.refused}.`;
      if (this.#uuid) this.#giveUp('uuid', reason);
      if (this.#label) this.#giveUp('label', reason);
      return false;
    }
    this.#superblock = replayed.superblock;
    this.result.notes.push(`Replayed ${replayed.blocks} blocks of ${replayed.transactions} transactions.`);
    return true;
  }

  /** Checksums that are wrong already are not made to look right. */
  *#hasWrongDescriptors(): Writing<boolean> {
    if (!this.#uuid || !this.#superblock.hasOldGroupChecksums) return false;
    const group = yield* wrongOldChecksum(this.#superblock);
    if (group === null) return false;
    this.#giveUp(
      'uuid',
      `The checksum of the descriptor of block group ${group} is wrong; run e2fsck first.`,
    );
    return !this.#label;
  }

  #change(superblock: Superblock): void {
    if (this.#uuid && !this.#uuid.equals(superblock.uuid)) {
      this.#pinSeed(superblock);
      superblock.uuid.set(this.#uuid);
    }
    if (this.#label) superblock.setLabel(this.#label);
  }

  #pinSeed(superblock: Superblock): void {
    if (!superblock.hasChecksums || superblock.hasIncompat(INCOMPAT.checksumSeed)) return;
    superblock.pinChecksumSeed(superblock.checksumSeed);
    if (superblock !== this.#superblock) return;
    this.result.notes.push(
      'metadata_csum_seed is set now, which Linux before 4.4 and GRUB before 2.12 (unless patched) do not read.',
    );
  }

  *#renewDescriptors(): Writing<void> {
    yield* renewOldChecksums(this.#superblock);
    this.result.notes.push(`Made the checksums of ${this.#superblock.groups} group descriptors anew.`);
  }

  /** Copies of another file system, or damaged ones, are left as they are. */
  *#changeBackups(before: Superblock): Writing<void> {
    for (const group of backupGroups(before)) {
      const at = before.blockAt(firstBlockOf(before, group));
      const backup = new Superblock(Buffer.from(yield* readAt(at, SUPERBLOCK_BYTES)));
      if (!backup.isMarked || !backup.hasTrueChecksum || !backup.uuid.equals(before.uuid)) continue;
      this.#change(backup);
      backup.seal();
      yield* writeAt(at, backup.raw);
    }
  }
}
