// Virtual machines: groups of volumes and files with a configuration document, snapshotted in one instant and deleted as one.
// Invariant: a VM and its snapshots are records only; the data is its members', whose snapshots are volume snapshots like any other.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { inspectConfig } from '../identity/vm-config.js';
import type { Container, Snapshot } from '../model/entities.js';
import { checkName } from '../model/names.js';
import type { Vm, VmMember, VmSnapshot } from '../model/vm.js';
import { requireContainer } from './lookup.js';
import { refuseTaken, type Snapshots } from './snapshots.js';

const MAX_MEMBERS = 256;
const SLOT = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

export interface MemberName {
  slot: string;
  volume: string;
}

export class Vms {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;

  constructor(catalog: Catalog, snapshots: Snapshots) {
    this.#catalog = catalog;
    this.#snapshots = snapshots;
  }

  /** `vm-not-found`. */
  require(name: string): Vm {
    checkName(name, 'volume');
    const vm = this.#catalog.vmNamed(name);
    if (vm) return vm;
    throw new CellblockError('vm-not-found', `There is no virtual machine ${JSON.stringify(name)}.`, {
      hint: 'See `cellblock vm list`.',
    });
  }

  requireSnapshot(name: string, snapshot: string): VmSnapshot {
    const found = this.#catalog.vmSnapshotsOf(this.require(name).id).find((one) => one.name === snapshot);
    if (found) return found;
    throw new CellblockError(
      'snapshot-not-found',
      `The virtual machine ${JSON.stringify(name)} has no snapshot ${JSON.stringify(snapshot)}.`,
      { hint: `See \`cellblock vm show ${name}\`.` },
    );
  }

  /** The document is checked, and every disk of it that is named by a slot is one of ours. */
  async create(name: string, config: string, disks: readonly MemberName[]): Promise<Vm> {
    checkName(name, 'volume');
    refuseTaken(this.#catalog, name);
    const { disks: known } = inspectConfig(config);
    const members = this.#membersOf(disks);
    refuseUnknownSlots(
      members.filter((_, index) => this.#container(members[index]!).kind === 'volume'),
      known.map(({ target }) => target),
    );
    const change = this.#catalog.change();
    const vm: Vm = { id: change.take('vm'), name, created: new Date().toISOString(), config, members };
    await change.vm(vm).commit();
    return vm;
  }

  #membersOf(disks: readonly MemberName[]): VmMember[] {
    if (disks.length === 0 || disks.length > MAX_MEMBERS)
      throw unpaired(`A virtual machine has 1 to ${MAX_MEMBERS} disks; ${disks.length} are named.`);
    const members = disks.map(({ slot, volume }): VmMember => {
      if (!SLOT.test(slot))
        throw unpaired(`${JSON.stringify(slot)} cannot name a disk of a virtual machine.`);
      return { slot, container: requireContainer(this.#catalog, volume).id };
    });
    for (const [index, { slot, container }] of members.entries()) {
      if (members.findIndex((one) => one.slot === slot) < index)
        throw unpaired(`The disk ${slot} is named twice.`);
      const { name } = this.#catalog.containers.get(container)!;
      if (members.findIndex((one) => one.container === container) < index)
        throw unpaired(`${JSON.stringify(name)} is named twice.`);
      const other = this.#catalog.vmOf(container);
      if (other) throw inVm(name, other.name);
    }
    return members;
  }

  #container({ container }: VmMember): Container {
    return this.#catalog.containers.get(container)!;
  }

  /** Members with their containers, in the order in which they were named. */
  membersOf(vm: Vm): { slot: string; container: Container }[] {
    return vm.members.map((member) => ({ slot: member.slot, container: this.#container(member) }));
  }

  /** Of all its members in one instant, with its document as it is now. */
  async snapshot(name: string, snapshot: string, options: { expires?: string }): Promise<VmSnapshot> {
    checkName(snapshot, 'snapshot');
    const vm = this.require(name);
    const { expires = null } = options;
    if (this.#catalog.vmSnapshotsOf(vm.id).some((one) => one.name === snapshot))
      throw new CellblockError(
        'snapshot-exists',
        `The virtual machine ${JSON.stringify(name)} already has a snapshot ${JSON.stringify(snapshot)}.`,
        { hint: 'Take another name, or delete that snapshot first.' },
      );
    let made: VmSnapshot | null = null;
    const references = this.membersOf(vm).map(({ container }) => ({ volume: container.name, snapshot }));
    await this.#snapshots.create(references, {
      expires,
      alongside: (change, taken) => {
        made = {
          id: change.take('vm'),
          vm: vm.id,
          name: snapshot,
          created: new Date().toISOString(),
          expires,
          config: vm.config,
          members: taken.map(({ id }, index) => ({ slot: vm.members[index]!.slot, snapshot: id })),
        };
        change.vmSnapshot(made);
      },
    });
    return made!;
  }

  /** The snapshot of each member; `vm-snapshot-incomplete` when one was deleted by itself. */
  partsOf(snapshot: VmSnapshot): { slot: string; snapshot: Snapshot }[] {
    return snapshot.members.map((member) => {
      const found = this.#catalog.snapshots.get(member.snapshot);
      if (found) return { slot: member.slot, snapshot: found };
      throw new CellblockError(
        'vm-snapshot-incomplete',
        `The snapshot ${JSON.stringify(snapshot.name)} lacks its disk ${member.slot}: the snapshot of that volume was deleted.`,
        { hint: 'Name the disks that are still there with --disks, or take another snapshot.' },
      );
    });
  }

  /** Its members' snapshots go too, those that are still there. */
  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    const record = this.requireSnapshot(name, snapshot);
    await this.#snapshots.delete(this.#stillThere([record]), {
      alongside: (change) => void change.removeVmSnapshot(record),
    });
  }

  #stillThere(records: readonly VmSnapshot[]): { volume: string; snapshot: string }[] {
    return records.flatMap(({ members }) =>
      members.flatMap((member) => {
        const found = this.#catalog.snapshots.get(member.snapshot);
        const volume = found && this.#catalog.containers.get(found.container)?.name;
        return found && volume !== undefined ? [{ volume, snapshot: found.name }] : [];
      }),
    );
  }

  /** The VM with its snapshots; its volumes stay, with their other snapshots. */
  async delete(name: string): Promise<Vm> {
    const vm = this.require(name);
    const records = this.#catalog.vmSnapshotsOf(vm.id);
    await this.#snapshots.delete(this.#stillThere(records), {
      alongside: (change) => {
        for (const record of records) change.removeVmSnapshot(record);
        change.removeVm(vm);
      },
    });
    return vm;
  }
}

function refuseUnknownSlots(members: readonly VmMember[], targets: readonly string[]): void {
  if (targets.length === 0) return;
  const unknown = members.find(({ slot }) => !targets.includes(slot));
  if (unknown)
    throw unpaired(
      `The configuration has no disk ${unknown.slot}; it has ${targets.join(', ')}.`,
      'Name each volume by the target of its disk, such as --disk vda=VOLUME.',
    );
}

export function unpaired(message: string, hint = 'See `cellblock vm show`.'): CellblockError {
  return new CellblockError('disks-unpaired', message, { hint });
}

export function inVm(volume: string, vm: string): CellblockError {
  return new CellblockError(
    'volume-in-vm',
    `${JSON.stringify(volume)} is a disk of the virtual machine ${JSON.stringify(vm)}.`,
    { hint: `Delete the virtual machine first (\`cellblock vm delete ${vm}\`); its volumes stay.` },
  );
}
