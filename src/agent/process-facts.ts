// What the kernel says of a process: whose it is, what it may, how much it holds. Reads /proc; what cannot be read is null.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

export interface ProcessFacts {
  uid: number | null;
  /** The effective set as /proc writes it, 16 hexadecimal digits. */
  capabilities: string | null;
  openDescriptors: number | null;
  descriptorLimit: number | null;
  residentBytes: bigint | null;
  swappedBytes: bigint | null;
  /** The lowest limit of its control groups; null: none. */
  memoryLimitBytes: bigint | null;
  /** What the control group of that limit uses. */
  memoryUsedBytes: bigint | null;
}

export interface ProcessRoots {
  proc: string;
  sys: string;
}

export const PROCESS_ROOTS: ProcessRoots = { proc: '/proc', sys: '/sys' };

/** `pid`: a number, or `self`. */
export async function processFacts(
  pid: number | 'self',
  roots: ProcessRoots = PROCESS_ROOTS,
): Promise<ProcessFacts> {
  const own = join(roots.proc, String(pid));
  const status = (await textOf(join(own, 'status'))) ?? '';
  const limits = (await textOf(join(own, 'limits'))) ?? '';
  const open = await readdir(join(own, 'fd')).catch(() => null);
  return {
    uid: numberIn(status, /^Uid:\s+\d+\s+(\d+)/m),
    capabilities: /^CapEff:\s+([0-9a-f]{16})$/m.exec(status)?.[1] ?? null,
    openDescriptors: open?.length ?? null,
    descriptorLimit: numberIn(limits, /^Max open files\s+(\d+)/m),
    residentBytes: kibibytesIn(status, /^VmRSS:\s+(\d+) kB$/m),
    swappedBytes: kibibytesIn(status, /^VmSwap:\s+(\d+) kB$/m),
    ...(await memoryLimit((await textOf(join(own, 'cgroup'))) ?? '', roots)),
  };
}

type MemoryLimit = Pick<ProcessFacts, 'memoryLimitBytes' | 'memoryUsedBytes'>;

/** Of the unified hierarchy: a group is bound by every group above it. */
async function memoryLimit(cgroup: string, { sys }: ProcessRoots): Promise<MemoryLimit> {
  let lowest: MemoryLimit = { memoryLimitBytes: null, memoryUsedBytes: null };
  const names = (/^0::(\/.*)$/m.exec(cgroup)?.[1] ?? '').split('/').filter((name) => name !== '');
  for (let depth = names.length; depth > 0; depth--) {
    const group = join(sys, 'fs/cgroup', ...names.slice(0, depth));
    const limit = bytesIn(await textOf(join(group, 'memory.max')));
    if (limit === null || (lowest.memoryLimitBytes !== null && limit >= lowest.memoryLimitBytes)) continue;
    lowest = {
      memoryLimitBytes: limit,
      memoryUsedBytes: bytesIn(await textOf(join(group, 'memory.current'))),
    };
  }
  return lowest;
}

/** `max` is no number: there is no limit. */
function bytesIn(text: string | null): bigint | null {
  return text !== null && /^\d+\s*$/.test(text) ? BigInt(text.trim()) : null;
}

function numberIn(text: string, pattern: RegExp): number | null {
  const found = pattern.exec(text)?.[1];
  return found === undefined ? null : Number(found);
}

function kibibytesIn(text: string, pattern: RegExp): bigint | null {
  const found = pattern.exec(text)?.[1];
  return found === undefined ? null : BigInt(found) * 1024n;
}

async function textOf(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null);
}
