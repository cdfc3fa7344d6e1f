// Which disk of a VM takes the state of which disk of a snapshot. Pure.
// Invariant: everything that is synced was named, or pairs by its slot without a rest on either side; the boot disk is in a list of
// pairs only when it is named as such.

import { firstBootDisk, inspectConfig } from '../identity/vm-config.js';
import type { Container, Snapshot } from '../model/entities.js';
import { unpaired } from './vms.js';

export interface PairingRequest {
  /** Pairs of slots; null: all that there are. */
  disks: readonly { source: string; target: string }[] | null;
  /** The slot of the target's boot disk, when a list of pairs has it. */
  boot: string | null;
  /** Without a list: files (firmware variables, TPM state, seeds) too, not only volumes. */
  files: boolean;
}

interface TargetDisk {
  slot: string;
  container: Container;
}

interface SourceDisk {
  slot: string;
  snapshot: Snapshot;
  kind: Container['kind'];
}

export interface DiskPair {
  slot: string;
  container: Container;
  snapshot: Snapshot;
}

/** Throws `disks-unpaired` with the pairing shown. */
export function pairDisks(
  vm: { name: string; config: string; disks: readonly TargetDisk[] },
  source: readonly SourceDisk[],
  request: PairingRequest,
): DiskPair[] {
  return request.disks === null ? pairAll(vm.disks, source, request) : pairNamed(vm, source, request);
}

function pairAll(
  targets: readonly TargetDisk[],
  sources: readonly SourceDisk[],
  { files }: PairingRequest,
): DiskPair[] {
  const mine = targets.filter(({ container }) => files || container.kind === 'volume');
  const theirs = sources.filter(({ kind }) => files || kind === 'volume');
  const slots = [...new Set([...mine, ...theirs].map(({ slot }) => slot))];
  const lines = slots.map((slot) => ({
    slot,
    target: mine.find((one) => one.slot === slot),
    source: theirs.find((one) => one.slot === slot),
  }));
  const whole = lines.every(
    ({ target, source }) => target && source && target.container.kind === source.kind,
  );
  if (whole && lines.length > 0)
    return lines.map(({ slot, target, source }) => {
      return { slot, container: target!.container, snapshot: source!.snapshot };
    });
  const shown = lines.map(
    ({ slot, target, source }) => `${source ? slot : '(none)'} to ${target ? slot : '(none)'}`,
  );
  throw unpaired(
    `The disks do not pair, from source to target: ${shown.join(', ') || 'there are none'}.`,
    'Name the pairs that are meant, such as --disks vda:vda,vdb:vdc.',
  );
}

function pairNamed(
  vm: { name: string; config: string; disks: readonly TargetDisk[] },
  sources: readonly SourceDisk[],
  { disks, boot }: PairingRequest,
): DiskPair[] {
  const bootSlot = firstBootDisk(inspectConfig(vm.config))?.target ?? null;
  if (boot !== null) slotOf(vm.disks, boot, `The virtual machine ${JSON.stringify(vm.name)}`);
  const pairs = disks!.map(({ source, target }): DiskPair => {
    const mine = slotOf(vm.disks, target, `The virtual machine ${JSON.stringify(vm.name)}`);
    const theirs = slotOf(sources, source, 'The snapshot');
    if (mine.container.kind !== theirs.kind)
      throw unpaired(`${source} is a ${theirs.kind} and ${target} a ${mine.container.kind}.`);
    if (target === bootSlot && boot !== target)
      throw unpaired(
        `${target} is the boot disk of ${JSON.stringify(vm.name)}, which is synced only when it is named as that.`,
        `Give --boot ${target} if it is meant: with it the ids on all disks of the sync come from the source.`,
      );
    return { slot: target, container: mine.container, snapshot: theirs.snapshot };
  });
  const twice = pairs.find(({ slot }, index) => pairs.findIndex((one) => one.slot === slot) < index);
  if (twice) throw unpaired(`The disk ${twice.slot} is named as a target twice.`);
  return pairs;
}

/** Throws `disks-unpaired` with those that there are. */
export function slotOf<T extends { slot: string }>(all: readonly T[], slot: string, whose: string): T {
  const found = all.find((one) => one.slot === slot);
  if (found) return found;
  throw unpaired(`${whose} has no disk ${slot}; it has ${all.map((one) => one.slot).join(', ')}.`);
}
