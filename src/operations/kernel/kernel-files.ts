// What the kernel tells of its nbd devices in files: whose they are, and who uses them. Reads only; nothing here waits for a device.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.js';
import { type DeviceUser, mountsOf, swapsOf, unescapeOctal } from './device-users.js';

/** Where these file systems are; tests have others. */
export interface KernelRoots {
  sys: string;
  proc: string;
  dev: string;
}

export const KERNEL_ROOTS: KernelRoots = { sys: '/sys', proc: '/proc', dev: '/dev' };

const SECTOR_BYTES = 512n;
/** Mappings on mappings: more than anybody stacks. */
const MAX_DEPTH = 8;

/** A block device as it stands in /sys: its name, `nbd0p1`, `dm-3`, and where that is. */
interface Node {
  name: string;
  path: string;
}

export class KernelFiles {
  readonly #roots: KernelRoots;

  constructor(roots: KernelRoots = KERNEL_ROOTS) {
    this.#roots = roots;
  }

  /** Of device N. */
  nodePath(index: number): string {
    return join(this.#roots.dev, `nbd${index}`);
  }

  /** What it was connected with; null: it is not connected, or by somebody who left that out. */
  async identifierOf(index: number): Promise<string | null> {
    const text = await textOf(join(this.#block(index), 'backend'));
    return text === null ? null : text.trimEnd();
  }

  /** Null: there is no such device. */
  async sizeOf(index: number): Promise<bigint | null> {
    const text = await textOf(join(this.#block(index), 'size'));
    return text === null ? null : BigInt(text.trim()) * SECTOR_BYTES;
  }

  /** Where udev is asked to look at the device and its partitions anew, in that order. Write only. */
  async ueventsOf(index: number): Promise<string[]> {
    const block = this.#block(index);
    const partitions = (await namesIn(block)).filter((name) => name.startsWith(`nbd${index}p`));
    return [block, ...partitions.map((name) => join(block, name))].map((node) => join(node, 'uevent'));
  }

  /** N of each device there is; none where there is no driver. */
  async indices(): Promise<number[]> {
    const names = await namesIn(join(this.#roots.sys, 'block'));
    return names
      .flatMap((name) => /^nbd(\d+)$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** Who has the device, a partition of it, or what is mapped onto these. Only what this process can see: mounts of its namespace. */
  async usersOf(index: number): Promise<DeviceUser[]> {
    const nodes = await this.#nodesOver({ name: `nbd${index}`, path: this.#block(index) }, MAX_DEPTH);
    const mountinfo = (await textOf(join(this.#roots.proc, 'self/mountinfo'))) ?? '';
    const swaps = (await textOf(join(this.#roots.proc, 'swaps'))) ?? '';
    const users: DeviceUser[] = [];
    for (const node of nodes) {
      const device = await this.#deviceOf(node);
      users.push(...mountsOf(mountinfo, device), ...swapsOf(swaps, device));
      for (const holder of await namesIn(join(node.path, 'holders')))
        users.push({ kind: 'holder', device: device.path, where: await this.#mapperName(holder) });
    }
    return users;
  }

  /** It, its partitions, and what holds these. */
  async #nodesOver(node: Node, depth: number): Promise<Node[]> {
    const entries = await namesIn(node.path);
    const partitions = entries.filter((name) => name.startsWith(`${node.name}p`));
    const holders = (await namesIn(join(node.path, 'holders'))).map((name) => ({
      name,
      path: join(this.#roots.sys, 'block', name),
    }));
    const above = [...partitions.map((name) => ({ name, path: join(node.path, name) })), ...holders];
    if (depth === 0) return [node];
    return [node, ...(await Promise.all(above.map((one) => this.#nodesOver(one, depth - 1)))).flat()];
  }

  async #deviceOf({ name, path }: Node): Promise<{ number: string; path: string; aliases: string[] }> {
    const number = ((await textOf(join(path, 'dev'))) ?? '').trim();
    const shown = await this.#mapperName(name);
    return { number, path: shown, aliases: [join(this.#roots.dev, name)] };
  }

  /** `/dev/mapper/NAME` of a mapping, `/dev/NAME` of anything else. */
  async #mapperName(name: string): Promise<string> {
    const mapped = await textOf(join(this.#roots.sys, 'block', name, 'dm/name'));
    return mapped === null
      ? join(this.#roots.dev, name)
      : join(this.#roots.dev, 'mapper', unescapeOctal(mapped.trim()));
  }

  #block(index: number): string {
    return join(this.#roots.sys, 'block', `nbd${index}`);
  }
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    // A device may go while it is looked at.
    if (['ENOENT', 'ENODEV', 'ENOTDIR', 'EINVAL'].includes(systemCode(error))) return null;
    throw error;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (['ENOENT', 'ENODEV', 'ENOTDIR'].includes(systemCode(error))) return [];
    throw error;
  }
}
