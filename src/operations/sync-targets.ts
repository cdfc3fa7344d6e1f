// What the names of a sync mean: a volume or file and one snapshot of such, or a VM and a snapshot of a whole VM.

import { CellblockError } from '../base/errors.js';
import type { Catalog } from '../catalog/catalog.js';
import { firstBootDisk, inspectConfig } from '../identity/vm-config.js';
import type { Container, Snapshot } from '../model/entities.js';
import type { SyncedConfig, SyncKind, SyncMember, SyncRecord } from '../model/sync.js';
import type { Vm } from '../model/vm.js';
import { requireContainer, requireSnapshot } from './lookup.js';
import type { SyncPair } from './sync-types.js';
import { type ConfigReport, syncConfig } from './vm-config-sync.js';
import { type PairingRequest, pairDisks, slotOf } from './vm-pairing.js';
import type { Vms } from './vms.js';

export interface SnapshotName {
  volume: string;
  snapshot: string;
}

export interface ResolvedSync {
  kind: SyncKind;
  pairs: SyncPair[];
  config: SyncedConfig | null;
  configReport: ConfigReport | null;
}

export class SyncTargets {
  readonly #catalog: Catalog;
  readonly #vms: Vms;

  constructor(catalog: Catalog, vms: Vms) {
    this.#catalog = catalog;
    this.#vms = vms;
  }

  /** Pairs in the order in which everybody takes several containers. */
  resolve(target: string, from: SnapshotName, pairing: PairingRequest): ResolvedSync {
    const vm = this.#catalog.vmNamed(target);
    if (vm) return inOrder(this.#resolveVm(vm, from, pairing));
    const container = requireContainer(this.#catalog, target);
    if (this.#catalog.vmNamed(from.volume))
      throw wrongKind(target, container.kind, from.volume, 'virtual machine');
    const snapshot = requireSnapshot(this.#catalog, from.volume, from.snapshot);
    const source = this.#catalog.containers.get(snapshot.container)!;
    if (source.kind !== container.kind) throw wrongKind(target, container.kind, from.volume, source.kind);
    const kind = source === container ? 'restore' : 'sync';
    return { kind, pairs: [this.#pair(container, snapshot)], config: null, configReport: null };
  }

  #resolveVm(vm: Vm, from: SnapshotName, pairing: PairingRequest): ResolvedSync {
    const source = this.#catalog.vmNamed(from.volume);
    if (!source) {
      const { kind } = requireContainer(this.#catalog, from.volume);
      throw wrongKind(vm.name, 'virtual machine', from.volume, kind);
    }
    const record = this.#vms.requireSnapshot(from.volume, from.snapshot);
    const named = pairing.disks?.map((one) => one.source);
    for (const slot of named ?? [])
      slotOf(record.members, slot, `The snapshot ${JSON.stringify(record.name)}`);
    const wanted = record.members.filter(({ slot }) => !named || named.includes(slot));
    const parts = this.#vms.partsOf({ ...record, members: wanted }).map(({ slot, snapshot }) => {
      return { slot, snapshot, kind: this.#catalog.containers.get(snapshot.container)!.kind };
    });
    const disks = this.#vms.membersOf(vm);
    const pairs = pairDisks({ name: vm.name, config: vm.config, disks }, parts, pairing);
    const kind = source === vm ? 'restore' : 'sync';
    const resolved = pairs.map(({ container, snapshot }) => this.#pair(container, snapshot));
    if (named) return { kind, pairs: resolved, config: null, configReport: null };
    return { kind, pairs: resolved, ...configOf(vm, record.config) };
  }

  /** Back to before the newest sync of it that has ended well. `sync-nothing-to-undo`. */
  resolveUndo(target: string): ResolvedSync & { record: SyncRecord } {
    const vm = this.#catalog.vmNamed(target);
    const container = vm ? null : requireContainer(this.#catalog, target);
    const isOf = (record: SyncRecord): boolean =>
      vm
        ? record.target === target && record.members.every((member) => isMember(vm, member))
        : record.members.some((member) => member.container === container!.id);
    const record = [...this.#catalog.syncs.values()]
      .reverse()
      .find((one) => one.phase === 'done' && isOf(one));
    const members = record?.members.filter((member) => vm || member.container === container!.id) ?? [];
    const pairs = members.flatMap((member) => this.#undoPair(member));
    if (!record || pairs.length < members.length || pairs.length === 0) throw nothingToUndo(target);
    const config = vm && record.config ? configOf(vm, record.config.before) : null;
    return { ...inOrder({ kind: 'undo', pairs, config: null, configReport: null, ...config }), record };
  }

  #undoPair({ container: id, safety }: SyncMember): SyncPair[] {
    const container = this.#catalog.containers.get(id);
    const snapshot = safety && this.#catalog.snapshots.get(safety.id);
    return container && snapshot ? [this.#pair(container, snapshot)] : [];
  }

  #pair(container: Container, snapshot: Snapshot): SyncPair {
    const source = this.#catalog.containers.get(snapshot.container)!;
    const from = `${source.name}@${snapshot.name}`;
    return { container, snapshot, from, boot: this.#bootOf(container) };
  }

  /** The firmware boots the first disk of a domain, and what it boots brings along the names of all others. */
  #bootOf({ id }: Container): string | null {
    for (const { name, config, members } of this.#catalog.vms.values()) {
      const slot = members.find(({ container }) => container === id)?.slot;
      if (slot !== undefined && firstBootDisk(inspectConfig(config))?.target === slot)
        return `${JSON.stringify(name)} boots from it`;
    }
    return null;
  }
}

function inOrder(resolved: ResolvedSync): ResolvedSync {
  return { ...resolved, pairs: [...resolved.pairs].sort((a, b) => a.container.id - b.container.id) };
}

function isMember(vm: Vm, member: SyncMember): boolean {
  return vm.members.some(({ container }) => container === member.container);
}

function configOf(vm: Vm, source: string): { config: SyncedConfig; configReport: ConfigReport } {
  const { text, report } = syncConfig(vm.config, source);
  return { config: { vm: vm.id, before: vm.config, after: text, report }, configReport: report };
}

function wrongKind(target: string, kind: string, source: string, sourceKind: string): CellblockError {
  return new CellblockError(
    'container-kind-wrong',
    `${JSON.stringify(target)} is a ${kind}, and ${JSON.stringify(source)} a ${sourceKind}.`,
    { hint: 'A sync is between two of a kind: virtual machines, volumes, or files.' },
  );
}

function nothingToUndo(target: string): CellblockError {
  return new CellblockError(
    'sync-nothing-to-undo',
    `There is no undo point of ${JSON.stringify(target)}: it was never synced, or the point has expired or was deleted.`,
    { hint: 'See `cellblock sync list` and `cellblock snapshot list`.' },
  );
}
