// Set-up: the Debian packages of the peers, and the bench's two own programs. Every part may run again at no cost.
import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { attempt, run } from './processes.js';

/** A program the bench needs, and the Debian package that brings it. */
const PROGRAMS: readonly (readonly [program: string, debian: string])[] = [
  ['fio', 'fio'],
  ['qemu-nbd', 'qemu-utils'],
  ['nbdkit', 'nbdkit'],
  ['nbd-server', 'nbd-server'],
  ['nbdfuse', 'libnbd-bin'],
  ['sgdisk', 'gdisk'],
  ['mkfs.ext4', 'e2fsprogs'],
  ['mkfs.xfs', 'xfsprogs'],
  ['mkfs.btrfs', 'btrfs-progs'],
  ['openssl', 'openssl'],
  ['g++', 'g++'],
];

/** All that is compared with ours. */
export const PEER_PROGRAMS: ReadonlySet<string> = new Set(['qemu-nbd', 'nbdkit', 'nbd-server', 'nbdfuse']);

/** Programs the bench cannot do without; a missing peer only empties its column. */
const REQUIRED = new Set(['fio', 'g++']);

async function present(program: string): Promise<boolean> {
  return (await attempt('sh', ['-c', `command -v ${program}`])).code === 0;
}

async function missingPrograms(): Promise<(readonly [string, string])[]> {
  const found = await Promise.all(PROGRAMS.map(([program]) => present(program)));
  return PROGRAMS.filter((_, i) => found[i] === false);
}

/** Installs what is missing where it may, and names the programs that are still missing. */
export async function installPeers(log: (line: string) => void): Promise<ReadonlySet<string>> {
  const missing = await missingPrograms();
  if (missing.length === 0) return new Set();
  const packages = missing.map(([, debian]) => debian);
  log(`installing ${packages.join(', ')}`);
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const apt = (words: readonly string[]): Promise<unknown> => {
    const [command, ...args] = [
      ...asRoot,
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      'apt-get',
      '-qq',
      ...words,
    ];
    return attempt(command as string, args).catch((error: unknown) => log(String(error)));
  };
  await apt(['update']);
  await apt(['install', '-y', '--no-install-recommends', ...packages]);
  const still = new Set((await missingPrograms()).map(([program]) => program));
  for (const program of still) {
    if (REQUIRED.has(program))
      throw new Error(`${program} is needed and could not be installed: install it and try again`);
    log(`${program} could not be installed: its column stays empty`);
  }
  return still;
}

export interface Programs {
  readonly limit: string;
  readonly client: string;
}

async function modified(path: string): Promise<number> {
  return stat(path).then(
    (found) => found.mtimeMs,
    () => 0,
  );
}

interface Compilation {
  /** The first is compiled, the others are what it includes. */
  readonly sources: readonly string[];
  readonly libraries?: readonly string[];
  readonly program: string;
}

async function compile(options: Compilation): Promise<void> {
  const newest = Math.max(...(await Promise.all(options.sources.map(modified))));
  if ((await modified(options.program)) > newest) return;
  const [main] = options.sources;
  await run('g++', [
    '-std=c++20',
    '-O2',
    '-Wall',
    '-Wextra',
    '-pthread',
    main as string,
    '-o',
    options.program,
    ...(options.libraries ?? []).map((library) => `-l${library}`),
  ]);
}

export async function buildPrograms(root: string): Promise<Programs> {
  const out = join(root, 'build', 'bench');
  await mkdir(out, { recursive: true });
  const programs = { limit: join(out, 'limit_server'), client: join(out, 'nbd_client') };
  const at = (file: string): string => join(root, 'bench', file);
  await compile({ sources: [at('limit/limit_server.cc')], program: programs.limit });
  await compile({
    sources: ['nbd_client.cc', 'handshake.h', 'histogram.h', 'pattern.h', 'stream.h'].map((file) =>
      at(`client/${file}`),
    ),
    libraries: ['ssl', 'crypto'],
    program: programs.client,
  });
  return programs;
}
