// What the kernel says of itself, as it says it. Its command line is not among it: keys of disks stand there.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Roots, textOf } from '../doctor/sources.js';

export async function kernelText(roots: Roots): Promise<string> {
  const { proc, sys, etc } = roots;
  const paths = [
    join(proc, 'version'),
    join(etc, 'os-release'),
    join(proc, 'uptime'),
    join(proc, 'loadavg'),
    join(proc, 'meminfo'),
    join(proc, 'pressure/io'),
    join(proc, 'pressure/memory'),
    join(proc, 'pressure/cpu'),
    join(proc, 'sys/kernel/io_uring_disabled'),
    ...(await below(join(sys, 'module/nbd/parameters'))),
    ...(await connected(join(sys, 'block'))),
  ];
  const parts = await Promise.all(
    paths.map(async (path) => `== ${path}\n${(await textOf(path)) ?? '(not there)\n'}`),
  );
  return parts.join('\n');
}

async function below(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  return names.sort().map((name) => join(directory, name));
}

async function connected(blocks: string): Promise<string[]> {
  const names = (await readdir(blocks).catch(() => [])).filter((name) => /^nbd\d+$/.test(name)).sort();
  const pids = await Promise.all(names.map((name) => textOf(join(blocks, name, 'pid'))));
  return names
    .filter((_name, index) => pids[index] !== null)
    .flatMap((name) => ['size', 'ro', 'backend', 'pid'].map((file) => join(blocks, name, file)));
}
