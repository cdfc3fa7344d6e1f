// Disks with an identity: a GPT, an ext4 (metadata_csum) and an XFS that was unmounted cleanly, each with ids of its own; the backup of
// the GPT at the end, whatever the size. Made by the owners' tools on sparse files.
import { open } from 'node:fs/promises';
import { NbdClient } from '../src/nbd-client/nbd-client.js';
import type { Bench } from './bench.js';
import type { Export } from './fio.js';
import { run } from './processes.js';

const MIB = 1 << 20;
const EXT4 = { start_mib: 1, mib: 256 };
/** The least an XFS may have is 300 MiB. */
const XFS = { start_mib: 257, mib: 320 };
const FRONT_MIB = 640;
const ZEROS = Buffer.alloc(MIB);

function partition(number: number, { start_mib, mib }: { start_mib: number; mib: number }): string[] {
  return ['-n', `${number}:${start_mib * 2048}:+${mib}M`];
}

/** The sparse file of a new disk. */
async function makeImage(bench: Bench, bytes: number): Promise<string> {
  const [image, part] = [bench.path('disk.image'), bench.path('xfs.image')];
  await run('truncate', ['-s', String(bytes), image]);
  await run('sgdisk', [...partition(1, EXT4), ...partition(2, XFS), image]);
  const ext4 = [
    '-q',
    '-F',
    '-O',
    'metadata_csum,^metadata_csum_seed',
    '-E',
    `offset=${EXT4.start_mib * MIB}`,
  ];
  await run('mkfs.ext4', [...ext4, image, `${EXT4.mib}M`]);
  await run('truncate', ['-s', `${XFS.mib}M`, part]);
  await run('mkfs.xfs', ['-q', '-f', part]);
  await run('dd', [`if=${part}`, `of=${image}`, 'bs=1M', `seek=${XFS.start_mib}`, 'conv=notrunc,sparse']);
  await bench.remove(part);
  return image;
}

/** What is not zero in a part of the file. */
async function copyPart(image: string, client: NbdClient, from: number, end: number): Promise<void> {
  const file = await open(image);
  try {
    for (let offset = from; offset < end; offset += MIB) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MIB), 0, MIB, offset);
      const content = buffer.subarray(0, bytesRead);
      if (!content.equals(ZEROS.subarray(0, bytesRead))) await client.write(BigInt(offset), content);
    }
  } finally {
    await file.close();
  }
}

/** Puts a disk with new ids on a volume, over what it has there. */
export async function putDisk(bench: Bench, target: Export, bytes: number): Promise<void> {
  const image = await makeImage(bench, bytes);
  const client = await NbdClient.connect({ address: `unix:${target.socket}`, exportName: target.name });
  await client.writeZeroes(0n, FRONT_MIB * MIB);
  await copyPart(image, client, 0, FRONT_MIB * MIB);
  await client.writeZeroes(BigInt(bytes - MIB), MIB);
  await copyPart(image, client, bytes - MIB, bytes);
  await client.flush();
  await client.disconnect();
  await bench.remove(image);
}
