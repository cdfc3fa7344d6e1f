// Virtual machines as the control API and the CLI call them: plain values in and out.

import type { Catalog } from '../catalog/catalog.js';
import { inspectConfig } from '../identity/vm-config.js';
import type { Vm, VmSnapshot } from '../model/vm.js';
import type { LocalVerbs } from './cells/local-verbs.js';
import type { MemberName, Vms } from './vms.js';
import type { Volumes } from './volumes.js';

export interface VmInfo {
  name: string;
  id: number;
  created: string;
  disks: { slot: string; volume: string; kind: 'volume' | 'file'; sizeBytes: bigint }[];
  snapshots: string[];
  /** `libvirt`, `json` */
  format: string;
}

export interface VmDetails extends VmInfo {
  /** The document, byte for byte. */
  config: string;
  /** What makes it this VM: name, uuid, addresses of network cards... */
  identity: { field: string; value: string }[];
  snapshotList: VmSnapshotInfo[];
}

export interface VmSnapshotInfo {
  vm: string;
  name: string;
  fullName: string;
  created: string;
  expires: string | null;
  /** Snapshots of its disks; null: deleted by itself meanwhile. */
  disks: { slot: string; snapshot: string | null }[];
}

export class VmOperations {
  readonly #catalog: Catalog;
  readonly #vms: Vms;
  readonly #volumes: Volumes;
  readonly #localVerbs: LocalVerbs;
  /** Throws when the store takes no changes. */
  requireWritable: () => void = () => undefined;

  constructor(
    catalog: Catalog,
    vms: Vms,
    { volumes, localVerbs }: { volumes: Volumes; localVerbs: LocalVerbs },
  ) {
    this.#catalog = catalog;
    this.#vms = vms;
    this.#volumes = volumes;
    this.#localVerbs = localVerbs;
  }

  /** `volume-exists`, `volume-not-found`, `volume-in-vm`, `disks-unpaired`, `identity-invalid`, `identity-damaged`. */
  async create(name: string, config: string, disks: readonly MemberName[]): Promise<VmDetails> {
    this.requireWritable();
    return this.#details(await this.#vms.create(name, config, disks));
  }

  list(): VmInfo[] {
    return [...this.#catalog.vms.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((vm) => this.#info(vm));
  }

  /** `vm-not-found`. */
  show(name: string): VmDetails {
    return this.#details(this.#vms.require(name));
  }

  /** Of all its disks in one instant. */
  async snapshot(
    name: string,
    snapshot: string,
    options: { expires?: string } = {},
  ): Promise<VmSnapshotInfo> {
    this.requireWritable();
    for (const { container } of this.#vms.membersOf(this.#vms.require(name)))
      this.#localVerbs.refuse(container, 'snapshot');
    return this.#snapshotInfo(name, await this.#vms.snapshot(name, snapshot, options));
  }

  async deleteSnapshot(name: string, snapshot: string): Promise<void> {
    this.requireWritable();
    for (const { snapshot: id } of this.#vms.requireSnapshot(name, snapshot).members) this.#refuseDelete(id);
    await this.#vms.deleteSnapshot(name, snapshot);
  }

  /** `withDisks`: its volumes and files too, with all their snapshots. */
  async delete(name: string, { withDisks }: { withDisks: boolean }): Promise<void> {
    this.requireWritable();
    const { id } = this.#vms.require(name);
    for (const { members } of this.#catalog.vmSnapshotsOf(id))
      for (const { snapshot } of members) this.#refuseDelete(snapshot);
    if (withDisks)
      for (const { container } of this.#vms.membersOf(this.#vms.require(name)))
        this.#localVerbs.refuse(container, 'delete');
    const vm = await this.#vms.delete(name);
    if (!withDisks) return;
    for (const { container } of this.#vms.membersOf(vm))
      await this.#volumes.delete(container.name, { withSnapshots: true, disconnect: false });
  }

  #refuseDelete(snapshot: string): void {
    const found = this.#catalog.snapshots.get(snapshot);
    if (found) this.#localVerbs.refuseDelete(found);
  }

  #info(vm: Vm): VmInfo {
    return {
      name: vm.name,
      id: vm.id,
      created: vm.created,
      disks: this.#vms.membersOf(vm).map(({ slot, container }) => {
        return { slot, volume: container.name, kind: container.kind, sizeBytes: container.sizeBytes };
      }),
      snapshots: this.#catalog.vmSnapshotsOf(vm.id).map((one) => one.name),
      format: inspectConfig(vm.config).format,
    };
  }

  #details(vm: Vm): VmDetails {
    return {
      ...this.#info(vm),
      config: vm.config,
      identity: inspectConfig(vm.config).fields.map(({ name, value }) => ({ field: name, value })),
      snapshotList: this.#catalog.vmSnapshotsOf(vm.id).map((one) => this.#snapshotInfo(vm.name, one)),
    };
  }

  #snapshotInfo(vm: string, { name, created, expires, members }: VmSnapshot): VmSnapshotInfo {
    return {
      vm,
      name,
      fullName: `${vm}@${name}`,
      created,
      expires,
      disks: members.map(({ slot, snapshot }) => {
        const found = this.#catalog.snapshots.get(snapshot);
        const volume = found && this.#catalog.containers.get(found.container)?.name;
        return { slot, snapshot: found && volume !== undefined ? `${volume}@${found.name}` : null };
      }),
    };
  }
}
