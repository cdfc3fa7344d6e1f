// The kernel's nbd driver for tests of attachments: devices with connections that die and are replaced, and the files of /sys, /proc
// and /dev that tell of them, in a directory of their own. It outlives the planes that are connected to it, as the real one does.

import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import type { KernelRoots } from '../../src/operations/kernel/kernel-files.js';
import type { KeptClient, KernelBackend, KernelDevice } from '../../src/plane/treaty.js';

const { EBUSY, EINVAL, ENOENT } = constants.errno;

/** In place of a lease: nobody reads it. */
const KEPT = -1;

interface Connected {
  identifier: string;
  sizeBytes: bigint;
  readOnly: boolean;
  /** A lease for each connection; null: it is dead. */
  links: (number | null)[];
}

export class FakeKernel {
  readonly roots: KernelRoots;
  readonly devices = new Map<number, Connected>();
  readonly claimed = new Set<string>();
  /** What it was told to read anew, in order. */
  readonly rereads: string[] = [];
  readonly #mounts = new Map<string, { number: string; source: string }>();
  readonly #inUse = new Set<number>();
  readonly #kept = new Map<number, { index: number; slot: number }>();
  /** Times a device was given new connections. */
  reconfigured = 0;

  constructor(directory: string, devices = 4) {
    this.roots = { sys: join(directory, 'sys'), proc: join(directory, 'proc'), dev: '/dev' };
    mkdirSync(join(this.roots.proc, 'self'), { recursive: true });
    for (let index = 0; index < devices; index++) {
      mkdirSync(join(this.#block(index), 'holders'), { recursive: true });
      writeFileSync(join(this.#block(index), 'dev'), `43:${index * 32}\n`);
      writeFileSync(join(this.#block(index), 'size'), '0\n');
      writeFileSync(join(this.#block(index), 'uevent'), '');
    }
    this.#writeMounts();
    writeFileSync(join(this.roots.proc, 'swaps'), 'Filename\tType\tSize\tUsed\tPriority\n');
  }

  connect(device: KernelDevice, backend: KernelBackend) {
    const index = device.index ?? [0, 1, 2, 3].find((one) => !this.devices.has(one))!;
    if (this.devices.has(index)) return { error: EBUSY, index: 0, taken: [] };
    const { identifier, sizeBytes } = device;
    const { readOnly, leases } = backend;
    this.devices.set(index, { identifier, sizeBytes, readOnly, links: [...leases] });
    writeFileSync(join(this.#block(index), 'backend'), `${identifier}\n`);
    this.#writeSize(index);
    return { error: 0, index, taken: leases };
  }

  reconfigure(wanted: { index: number; identifier: string; sizeBytes?: bigint }, { leases }: KernelBackend) {
    const { index } = wanted;
    this.reconfigured += 1;
    const device = this.devices.get(index);
    if (device?.identifier !== wanted.identifier) return { error: EINVAL, index, taken: [] };
    if (wanted.sizeBytes !== undefined) device.sizeBytes = wanted.sizeBytes;
    this.#writeSize(index);
    const taken = leases.filter((lease) => {
      const dead = device.links.indexOf(null);
      if (dead >= 0) device.links[dead] = lease;
      return dead >= 0;
    });
    return { error: 0, index, taken };
  }

  disconnect(index: number): { error: number; ended: number[] } {
    const device = this.devices.get(index);
    if (!device) return { error: EINVAL, ended: [] };
    this.devices.delete(index);
    rmSync(join(this.#block(index), 'backend'));
    return { error: 0, ended: device.links.filter((lease) => lease !== null) };
  }

  resize(index: number, sizeBytes: bigint): void {
    this.devices.get(index)!.sizeBytes = sizeBytes;
    this.#writeSize(index);
  }

  connected(): number[] {
    return [...this.devices.keys()];
  }

  /** It finds the first partition. */
  partition(index: number): void {
    const part = join(this.#block(index), `nbd${index}p1`);
    mkdirSync(join(part, 'holders'), { recursive: true });
    writeFileSync(join(part, 'dev'), `43:${index * 32 + 1}\n`);
    writeFileSync(join(part, 'uevent'), '');
  }

  /** Which nodes of the device udev was asked to look at since the last call. */
  announced(index: number): string[] {
    const nodes = [this.#block(index), join(this.#block(index), `nbd${index}p1`)];
    const asked = nodes.filter((node) => {
      const file = join(node, 'uevent');
      const is = existsSync(file) && readFileSync(file, 'utf8') === 'change';
      if (is) writeFileSync(file, '');
      return is;
    });
    return asked.map((node) => basename(node));
  }

  /** The other end of a connection is another process's from now on; null: it is none of the kernel's. */
  keep(lease: number): KeptClient | null {
    for (const [index, { identifier, links }] of this.devices) {
      const slot = links.indexOf(lease);
      if (slot < 0) continue;
      const descriptor = openSync('/dev/null', 'r');
      this.#kept.set(descriptor, { index, slot });
      links[slot] = KEPT;
      return {
        descriptor,
        peer: { name: 'kernel', uid: -1, identity: '', tls: false, host: '' },
        exportName: identifier,
        structured: false,
        extended: false,
        transmissionFlags: 0,
        kernel: true,
        contexts: [],
        input: new Uint8Array(),
      };
    }
    return null;
  }

  /** False: it has been given up. */
  goOn({ descriptor, exportName }: KeptClient, lease: number): boolean {
    const kept = this.#kept.get(descriptor);
    this.#kept.delete(descriptor);
    closeSync(descriptor);
    const device = kept && this.devices.get(kept.index);
    if (device?.identifier !== exportName || device.links[kept!.slot] !== KEPT) return false;
    device.links[kept!.slot] = lease;
    return true;
  }

  /** What it asked on a connection that waits for another process took too long. */
  giveUp({ descriptor }: KeptClient): void {
    const { index, slot } = this.#kept.get(descriptor)!;
    this.devices.get(index)!.links[slot] = null;
  }

  /** The other end of a connection is gone. */
  drop(lease: number): void {
    for (const device of this.devices.values())
      device.links = device.links.map((link) => (link === lease ? null : link));
  }

  claim(path: string): number {
    const index = Number(/nbd(\d+)$/.exec(path)?.[1]);
    if (!this.devices.has(index)) return ENOENT;
    if (this.#inUse.has(index) || this.claimed.has(path)) return EBUSY;
    this.claimed.add(path);
    return 0;
  }

  unclaim(path: string): void {
    this.claimed.delete(path);
  }

  reread(path: string): void {
    this.rereads.push(path);
  }

  /** False: somebody has the device. */
  mount(index: number, where: string): boolean {
    if (this.claimed.has(`/dev/nbd${index}`)) return false;
    this.#inUse.add(index);
    this.#mounts.set(where, { number: `43:${index * 32}`, source: `/dev/nbd${index}` });
    this.#writeMounts();
    return true;
  }

  unmount(index: number, where: string): void {
    this.#inUse.delete(index);
    this.#mounts.delete(where);
    this.#writeMounts();
  }

  #writeMounts(): void {
    const lines = [...this.#mounts].map(
      ([where, { number, source }], at) =>
        `${30 + at} 1 ${number} / ${where.replaceAll(' ', '\\040')} rw - ext4 ${source} rw\n`,
    );
    writeFileSync(
      join(this.roots.proc, 'self/mountinfo'),
      `25 1 0:1 / / rw - ext4 /dev/sda1 rw\n${lines.join('')}`,
    );
  }

  #writeSize(index: number): void {
    writeFileSync(join(this.#block(index), 'size'), `${this.devices.get(index)!.sizeBytes / 512n}\n`);
  }

  #block(index: number): string {
    return join(this.roots.sys, 'block', `nbd${index}`);
  }
}
