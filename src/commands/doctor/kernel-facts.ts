// The kernel that runs, and its nbd driver, as they stand in /proc, /sys and /lib/modules.

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { KernelDevice, KernelFacts, Maybe } from './facts.js';
import { type Roots, textOf } from './sources.js';

export async function kernelFacts(roots: Roots): Promise<KernelFacts> {
  const release = ((await textOf(join(roots.proc, 'sys/kernel/osrelease'))) ?? '').trim();
  return {
    release,
    nbd: await driverState(roots, release),
    nbdMaxPart: numberIn(await textOf(join(roots.sys, 'module/nbd/parameters/max_part'))),
    ioUringDisabled: numberIn(await textOf(join(roots.proc, 'sys/kernel/io_uring_disabled'))),
    devices: await devices(roots),
  };
}

function numberIn(text: string | null): number | null {
  return text !== null && /^\d+\s*$/.test(text) ? Number(text) : null;
}

async function driverState({ sys, modules }: Roots, release: string): Promise<KernelFacts['nbd']> {
  if (existsSync(join(sys, 'module/nbd')) || existsSync(join(sys, 'block/nbd0'))) return 'loaded';
  const directory = join(modules, release);
  const dependencies = await textOf(join(directory, 'modules.dep'));
  if (dependencies === null)
    return { unknown: `there is no list of modules in ${directory}, as in a container` };
  return /(^|\/)nbd\.ko(\.\w+)?:/m.test(dependencies) ? 'loadable' : 'missing';
}

/** Only those that are connected: the others have no `pid`. */
async function devices({ sys }: Roots): Promise<Maybe<KernelDevice[]>> {
  const names = await readdir(join(sys, 'block')).catch(() => null);
  if (names === null) return { unknown: 'block devices of the kernel are not to be seen here' };
  const found: KernelDevice[] = [];
  for (const name of names.filter((one) => /^nbd\d+$/.test(one))) {
    const pid = await textOf(join(sys, 'block', name, 'pid'));
    if (pid === null) continue;
    const identifier = await textOf(join(sys, 'block', name, 'backend'));
    found.push({ device: `/dev/${name}`, pid: numberIn(pid), identifier: identifier?.trim() || null });
  }
  return found;
}
