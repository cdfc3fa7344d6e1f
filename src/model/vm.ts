// The JSON records of virtual machines: a named group of volumes and files with a configuration document, and snapshots of the whole.
// Invariant: a member is in one VM at most; the document is kept byte for byte as it was given.

export interface VmMember {
  /** What pairs it with a member of another VM: the target of its disk in the configuration (`vda`), or any name for a file. */
  slot: string;
  container: number;
}

export interface Vm {
  id: number;
  name: string;
  created: string;
  config: string;
  members: VmMember[];
}

export interface VmSnapshot {
  id: number;
  vm: number;
  name: string;
  created: string;
  /** ISO 8601: deleted by itself then, with the snapshots of its members. Null: never. */
  expires: string | null;
  config: string;
  /** Ids of the snapshots of its members, taken in one instant. */
  members: { slot: string; snapshot: string }[];
}

export function encodeVm(vm: Vm): string {
  return JSON.stringify(vm);
}

export function encodeVmSnapshot(snapshot: VmSnapshot): string {
  return JSON.stringify(snapshot);
}

/** Throws when it is none. */
export function decodeVm(text: string): Vm {
  const vm = JSON.parse(text) as Vm;
  if (!Number.isSafeInteger(vm.id) || typeof vm.name !== 'string' || typeof vm.config !== 'string')
    throw new Error('it is no virtual machine');
  if (!Array.isArray(vm.members)) throw new Error('its members are no list');
  return vm;
}

/** Throws when it is none. */
export function decodeVmSnapshot(text: string): VmSnapshot {
  const snapshot = JSON.parse(text) as VmSnapshot;
  if (!Number.isSafeInteger(snapshot.id) || !Number.isSafeInteger(snapshot.vm))
    throw new Error('it is no snapshot of a virtual machine');
  if (!Array.isArray(snapshot.members)) throw new Error('its members are no list');
  return snapshot;
}
