// Members of Linux RAID, built byte by byte as md(4) and the kernel's md_p.h describe them: mdadm makes them only through the md driver,
// which a test machine may not have. mdadm --examine says whether they are right.
import { closeSync, openSync, writeSync } from 'node:fs';
import { blank } from './identity-images.js';

export interface RaidImage {
  version: '0.90' | '1.0' | '1.1' | '1.2';
  disks?: number;
  uuid: string;
  name?: string;
  deviceUuid?: string;
  bitmap?: boolean;
  features?: number;
  role?: number;
  bytes?: number;
}

const BITMAP_SECTORS = 8;

export function raidMember(file: string, image: RaidImage): string {
  const bytes = image.bytes ?? 16 << 20;
  blank(file, bytes);
  const sectors = bytes / 512;
  const at = {
    '0.90': Math.floor(bytes / 65536) * 65536 - 65536,
    '1.0': Math.floor((sectors - 16) / 8) * 8 * 512,
    '1.1': 0,
    '1.2': 4096,
  }[image.version];
  const superblock = image.version === '0.90' ? old(image) : recent(image, at);
  put(file, at, superblock);
  if (image.bitmap) put(file, at + BITMAP_SECTORS * 512, bitmap(image));
  return file;
}

function put(file: string, at: number, data: Buffer): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, data, 0, data.length, at);
  closeSync(fd);
}

const bytesOf = (uuid: string): Buffer => Buffer.from(uuid.replaceAll('-', ''), 'hex');

function recent(image: RaidImage, at: number): Buffer {
  const data = Buffer.alloc(4096);
  data.writeUInt32LE(0xa92b4efc, 0);
  data.writeUInt32LE(1, 4);
  data.writeUInt32LE((image.features ?? 0) | (image.bitmap ? 1 : 0), 8);
  bytesOf(image.uuid).copy(data, 16);
  data.write(image.name ?? '', 32);
  data.writeUInt32LE(1_700_000_000, 64);
  data.writeUInt32LE(1, 72); // RAID1
  data.writeBigUInt64LE(16384n, 80);
  data.writeUInt32LE(image.disks ?? 1, 92);
  if (image.bitmap) data.writeInt32LE(BITMAP_SECTORS, 96);
  data.writeBigUInt64LE(image.version === '1.0' ? 0n : 2048n, 128);
  data.writeBigUInt64LE(16384n, 136);
  data.writeBigUInt64LE(BigInt(at / 512), 144);
  bytesOf(image.deviceUuid ?? image.uuid).copy(data, 168);
  data.writeUInt32LE(1_700_000_000, 192);
  data.writeBigUInt64LE(7n, 200);
  data.fill(0xff, 208, 216);
  data.writeUInt32LE(128, 220);
  data.fill(0xff, 256, 256 + 2 * 128);
  data.writeUInt16LE(image.role ?? 0, 256);
  for (let disk = 1; disk < (image.disks ?? 1); disk++) data.writeUInt16LE(disk, 256 + 2 * disk);
  data.writeUInt32LE(sum(data.subarray(0, 512)), 216);
  return data;
}

function old(image: RaidImage): Buffer {
  const data = Buffer.alloc(4096);
  const uuid = bytesOf(image.uuid);
  const disks = image.disks ?? 1;
  const words: [number, number][] = [
    [0, 0xa92b4efc],
    [8, 90],
    [20, uuid.readUInt32BE(0)],
    [24, 1_700_000_000],
    [28, 1],
    [32, 8192],
    [36, disks],
    [40, disks],
    [52, uuid.readUInt32BE(4)],
    [56, uuid.readUInt32BE(8)],
    [60, uuid.readUInt32BE(12)],
    [128, 1_700_000_000],
    [132, 1],
    [136, disks],
    [140, disks],
    [156, 7],
  ];
  for (const at of [512, 3968]) words.push([at + 4, 7], [at + 16, 6]);
  for (const [at, value] of words) data.writeUInt32LE(value, at);
  data.writeUInt32LE(sum(data), 152);
  return data;
}

function bitmap(image: RaidImage): Buffer {
  const data = Buffer.alloc(512);
  data.writeUInt32LE(0x6d746962, 0);
  data.writeUInt32LE(4, 4);
  bytesOf(image.uuid).copy(data, 8);
  data.writeBigUInt64LE(7n, 24);
  data.writeBigUInt64LE(7n, 32);
  data.writeBigUInt64LE(16384n, 40);
  data.writeUInt32LE(65536, 52);
  data.writeUInt32LE(5, 56);
  return data;
}

function sum(data: Buffer): number {
  let total = 0n;
  for (let at = 0; at < data.length; at += 4) total += BigInt(data.readUInt32LE(at));
  return Number(((total & 0xffffffffn) + (total >> 32n)) & 0xffffffffn);
}
