// The identity of the disks of a sync: read from the target before, planned and written back into the new content, read again.
// Invariant: what is recorded says everything that became of every field; a field that could not be written is in it with the reason.

import { randomBytes } from 'node:crypto';

import { CellblockError } from '../base/errors.js';
import { type DiskIdentity, inspectDisk } from '../identity/disk.js';
import { type DiskRestored, restoreDisk } from '../identity/disk-restore.js';
import { holdsFirmwareVariables } from '../identity/firmware-variables.js';
import {
  captureGuest,
  type GuestIdentity,
  type GuestReport,
  type ReplacedId,
  restoreGuest,
  wrongGuestFiles,
} from '../identity/guest.js';
import type { Kind } from '../identity/kind.js';
import { FILE_KINDS, KINDS } from '../identity/kinds.js';
import {
  type IdentityPlan,
  labelOf,
  notRestored,
  planIdentity,
  unrestored,
  wantedFields,
} from '../identity/policy.js';
import { type IdentityReport, reportOf } from '../identity/report.js';
import { OverlaidDisk } from './disk-io.js';
import type { CapturedIdentity, DiskIo, IdentityOptions, SyncIdentity } from './sync-types.js';

/** What is recorded of one disk. */
export interface RecordedDisk {
  readonly report: IdentityReport;
  readonly plan: IdentityPlan;
  readonly restored: DiskRestored;
  /** Null: it was not asked for. */
  readonly guest: GuestReport | null;
}

/** A file may be the image of a disk, and has formats besides that no disk has. */
function kindsOf({ kind }: Pick<DiskIo, 'kind'>): readonly Kind[] {
  return kind === 'file' ? FILE_KINDS : KINDS;
}

export function diskIdentity(options: IdentityOptions): SyncIdentity {
  return {
    async capture(disks): Promise<CapturedIdentity> {
      const targets = await inspectAll(disks);
      for (const target of targets) refuseDamaged(target, 'target', options);
      const guests = options.guest ? await captureGuests(disks, targets) : null;
      return {
        captured: targets.map(capturedOf),
        restore: (disks) => restoreAll(disks, { targets, guests }, options),
      };
    },
    async verify(disks, restored): Promise<void> {
      const recorded = restored as readonly RecordedDisk[];
      const after = await inspectAll(disks);
      const wrong = recorded.flatMap((disk, index) => unrestored(disk.plan, after[index]!, disk.restored));
      if (wrong.length > 0) throw notRestored(wrong);
      for (const [index, { guest }] of recorded.entries()) {
        const wanted = [...(guest?.restored ?? []), ...(guest?.same ?? [])];
        if (wanted.length === 0) continue;
        const paths = await disks[index]!.run(wrongGuestFiles(after[index]!, wanted));
        if (paths.length > 0) throw guestNotRestored(paths);
      }
    },
  };
}

/** What `identity show` tells. */
export interface FoundIdentity {
  boot: string | null;
  fields: { field: string; kind: string; value: string }[];
  unsupported: { field: string; kind: string; reason: string }[];
  damaged: { where: string; kind: string; reason: string }[];
  notes: string[];
}

export async function findIdentity(disk: DiskIo): Promise<FoundIdentity> {
  const { bootable, parts, damaged, notes } = await disk.run(inspectDisk(disk.bytes, kindsOf(disk)));
  return {
    boot: bootable,
    fields: parts.flatMap((part) =>
      part.found.fields.map((field) => {
        return { field: labelOf(part, field), kind: part.found.kind, value: field.value };
      }),
    ),
    unsupported: parts.flatMap(({ found: { kind, unsupported } }) =>
      unsupported.map(({ field, reason }) => ({ field, kind, reason })),
    ),
    damaged: damaged.map(({ title, family, reason }) => ({ where: title, kind: family, reason })),
    notes: [...notes, ...parts.flatMap(({ found }) => found.notes)],
  };
}

/** Fields of a target, for the record of a sync that has just begun. */
function capturedOf(target: DiskIdentity): unknown {
  return target.parts.map(({ title, found }) => ({
    where: title,
    kind: found.kind,
    fields: Object.fromEntries(found.fields.map(({ name, value }) => [name, value])),
  }));
}

async function inspectAll(disks: readonly DiskIo[]): Promise<DiskIdentity[]> {
  const found: DiskIdentity[] = [];
  for (const disk of disks) found.push(await disk.run(inspectDisk(disk.bytes, kindsOf(disk))));
  return found;
}

/** In the order of the disks: `targets` as they were before, `disks` with the new content. */
async function restoreAll(
  disks: readonly DiskIo[],
  { targets, guests }: { targets: readonly DiskIdentity[]; guests: readonly (GuestIdentity | null)[] | null },
  options: IdentityOptions,
): Promise<RecordedDisk[]> {
  const contents = await inspectAll(disks);
  for (const content of contents) {
    refuseDamaged(content, 'source', options);
    refuseKeys(content, options);
  }
  const boots = contents.map(({ bootable }, index) => bootable ?? options.boots[index]!);
  const bootDiskInSync = boots.some((boot) => boot !== null);
  const firmwareOutside = !(await anyHoldsFirmwareVariables(disks));
  const recorded: RecordedDisk[] = [];
  for (const [index, disk] of disks.entries()) {
    const target = targets[index]!;
    const content = contents[index]!;
    const plan = planIdentity({
      target,
      content,
      bootDiskInSync,
      firmwareOutside,
      rules: options.rules,
      random: randomBytes,
    });
    const restored = await disk.run(restoreDisk(disk.bytes, kindsOf(disk), wantedFields(plan)));
    recorded.push({
      report: reportOf({ target, content, boot: boots[index]!, plan, restored }),
      plan,
      restored,
      guest: null,
    });
  }
  return guests ? withGuests(recorded, { disks, guests }) : recorded;
}

async function anyHoldsFirmwareVariables(disks: readonly DiskIo[]): Promise<boolean> {
  for (const disk of disks)
    if (disk.kind === 'file' && (await disk.run(holdsFirmwareVariables()))) return true;
  return false;
}

/** In memory, as a journal is replayed over the disk before its files are read. */
async function captureGuests(
  disks: readonly DiskIo[],
  targets: readonly DiskIdentity[],
): Promise<(GuestIdentity | null)[]> {
  const guests: (GuestIdentity | null)[] = [];
  for (const [index, disk] of disks.entries())
    guests.push(await new OverlaidDisk(disk, disk.bytes).run(captureGuest(targets[index]!)));
  return guests;
}

async function withGuests(
  recorded: readonly RecordedDisk[],
  on: { disks: readonly DiskIo[]; guests: readonly (GuestIdentity | null)[] },
): Promise<RecordedDisk[]> {
  const replaced = recorded.flatMap(({ plan }) => replacedIds(plan));
  const time = { seconds: Math.floor(Date.now() / 1000), nanoseconds: 0 };
  // As they are now: their labels may have been put back.
  const contents = await inspectAll(on.disks);
  const done: RecordedDisk[] = [];
  for (const [index, disk] of on.disks.entries()) {
    const work = restoreGuest(contents[index]!, on.guests[index]!, { replaced, time });
    done.push({ ...recorded[index]!, guest: await disk.run(work) });
  }
  return done;
}

/** Ids that are named in a guest's files, where the target's was put back. Labels are names people chose: they are not searched for. */
function replacedIds({ fields }: IdentityPlan): ReplacedId[] {
  return fields.flatMap(({ source, wanted, field }) => {
    const isId = !/label|name/.test(field);
    return isId && source !== null && source !== '' && wanted !== null && wanted !== source
      ? [{ source, now: wanted }]
      : [];
  });
}

function guestNotRestored(paths: readonly string[]): CellblockError {
  return new CellblockError(
    'identity-not-restored',
    `Files of the guest do not read back as they were written: ${paths.join(', ')}.`,
    { hint: 'The target was put back as it was; please report this with the log of the agent.' },
  );
}

/** What cannot be believed is neither kept nor overwritten in silence; who says that all may be taken needs nothing of it. */
function refuseDamaged(identity: DiskIdentity, whose: 'target' | 'source', { rules }: IdentityOptions): void {
  const [damaged] = identity.damaged;
  if (!damaged || rules.some(({ field, policy }) => field === 'all' && policy === 'take')) return;
  throw new CellblockError(
    'identity-damaged',
    `The identity of the ${whose} cannot be read, on ${damaged.title}: ${damaged.reason}`,
    {
      hint: 'Repair it with the tool it was made with, or give --identity all=take to sync without keeping any identity.',
    },
  );
}

function refuseKeys(content: DiskIdentity, { own, takeKeys }: IdentityOptions): void {
  const part = content.parts.find(({ found }) => found.keySlots);
  if (!part || own || takeKeys) return;
  throw new CellblockError(
    'sync-takes-keys',
    `The source is encrypted (${part.found.kind} on ${part.title}): its key slots come along, and the passphrase of the target would not open it any more.`,
    { hint: 'Give --take-keys if that is meant; the passphrases of the source open it then.' },
  );
}
