// An LVM2 physical volume on the disk: the label, and the metadata areas it names, each a ring of texts behind a header.
// Invariant: what is read has its checksums and lies within the disk; a new text never lies over the current one.

import { formatLvmId, parseLvmId } from '../formats.js';
import { damaged } from '../kind.js';
import { MAX_STEP_BYTES, type Reading, readAt, type Writing, writeAt } from '../steps.js';
import { lvmCrc } from './crc.js';

const SECTOR = 512;
const LABEL_SECTORS = 4;
const ID_BYTES = 32;
const AREA_MAGIC = ' LVM2 x[5A%r0N*>';
/** Texts start on sectors; the first one holds the header. */
const RING_START = SECTOR;
const AT = { sector: 8, crc: 16, crcFrom: 20, header: 20, type: 24 } as const;
const AREA = { magic: 4, version: 20, start: 24, size: 32, current: 40, next: 64 } as const;
const IGNORED = 1;
const USED = 1;

export interface PhysicalVolume {
  readonly sectorAt: bigint;
  readonly sector: Buffer;
  /** Where in the sector the header is, which begins with the id. */
  readonly headerAt: number;
  /** 32 characters, no dashes. */
  readonly id: string;
  /** It says of itself that it belongs to a volume group. */
  readonly used: boolean;
  readonly areas: readonly MetadataArea[];
}

export interface MetadataArea {
  readonly at: bigint;
  readonly bytes: number;
  readonly header: Buffer;
  /** Null: no volume group. */
  readonly current: Place | null;
  /** There for no reader: the volume group keeps its text elsewhere. */
  readonly ignored: boolean;
  /** A commit was under way. */
  readonly pending: boolean;
}

/** Of a text in its ring, from the start of the area. */
interface Place {
  readonly offset: number;
  readonly bytes: number;
  readonly crc: number;
}

/** Null: no LVM2. Throws `identity-damaged`. */
export function* readPhysicalVolume(bytes: bigint): Reading<PhysicalVolume | null> {
  if (bytes < BigInt(LABEL_SECTORS * SECTOR)) return null;
  const start = yield* readAt(0n, LABEL_SECTORS * SECTOR);
  for (let number = 0; number < LABEL_SECTORS; number++) {
    const sector = start.subarray(number * SECTOR, (number + 1) * SECTOR);
    if (!isLabel(sector, number)) continue;
    checkLabel(sector, number);
    const headerAt = sector.readUInt32LE(AT.header);
    const { places, used } = locationsOf(sector, headerAt);
    const areas: MetadataArea[] = [];
    for (const place of places) areas.push(yield* readArea(bytes, place));
    const id = idOf(sector, headerAt);
    return { sectorAt: BigInt(number * SECTOR), sector: Buffer.from(sector), headerAt, id, used, areas };
  }
  return null;
}

function isLabel(sector: Buffer, number: number): boolean {
  return (
    sector.toString('latin1', 0, 8) === 'LABELONE' &&
    sector.toString('latin1', AT.type, AT.type + 8) === 'LVM2 001' &&
    sector.readBigUInt64LE(AT.sector) === BigInt(number)
  );
}

function checkLabel(sector: Buffer, number: number): void {
  if (lvmCrc(sector.subarray(AT.crcFrom)) !== sector.readUInt32LE(AT.crc))
    throw damaged(`the checksum of the LVM2 label in sector ${number} is wrong`);
  const headerAt = sector.readUInt32LE(AT.header);
  if (headerAt < 32 || headerAt + ID_BYTES + 8 > SECTOR)
    throw damaged(`the LVM2 label in sector ${number} names a header at ${headerAt}`);
}

function idOf(sector: Buffer, headerAt: number): string {
  const stored = sector.toString('latin1', headerAt, headerAt + ID_BYTES);
  try {
    return parseLvmId('pv-uuid', formatLvmId(stored));
  } catch {
    throw damaged(`the LVM2 label names ${JSON.stringify(stored)} as the id of the physical volume`);
  }
}

interface Location {
  readonly at: bigint;
  readonly bytes: bigint;
}

/** Data areas, metadata areas, each list ended by zeros; then flags. */
function locationsOf(sector: Buffer, headerAt: number): { places: Location[]; used: boolean } {
  const data = listAt(sector, headerAt + ID_BYTES + 8);
  const metadata = listAt(sector, data.end);
  const hasFlags = metadata.end + 8 <= SECTOR && sector.readUInt32LE(metadata.end) !== 0;
  const used = hasFlags && (sector.readUInt32LE(metadata.end + 4) & USED) !== 0;
  return { places: metadata.places, used };
}

function listAt(sector: Buffer, from: number): { places: Location[]; end: number } {
  const places: Location[] = [];
  for (let at = from; at + 16 <= SECTOR; at += 16) {
    const place = { at: sector.readBigUInt64LE(at), bytes: sector.readBigUInt64LE(at + 8) };
    if (place.at === 0n) return { places, end: at + 16 };
    places.push(place);
  }
  throw damaged('the lists of areas in the LVM2 label do not end');
}

function* readArea(bytes: bigint, place: Location): Reading<MetadataArea> {
  const where = `the LVM2 metadata area at ${place.at}`;
  if (place.at + place.bytes > bytes || place.bytes < BigInt(2 * SECTOR) || place.bytes > 1n << 40n)
    throw damaged(`${where} of ${place.bytes} bytes does not lie on the disk`);
  const header = yield* readAt(place.at, SECTOR);
  if (header.toString('latin1', AREA.magic, AREA.magic + 16) !== AREA_MAGIC)
    throw damaged(`${where} has no header`);
  if (lvmCrc(header.subarray(4)) !== header.readUInt32LE(0))
    throw damaged(`the checksum of ${where} is wrong`);
  if (header.readBigUInt64LE(AREA.start) !== place.at || header.readBigUInt64LE(AREA.size) !== place.bytes)
    throw damaged(`${where} names another place as its own`);
  return {
    at: place.at,
    bytes: Number(place.bytes),
    header,
    current: placeOf(header, { where, areaBytes: Number(place.bytes) }),
    ignored: (header.readUInt32LE(AREA.current + 20) & IGNORED) !== 0,
    pending: header.readBigUInt64LE(AREA.next) !== 0n,
  };
}

function placeOf(header: Buffer, area: { where: string; areaBytes: number }): Place | null {
  const offset = header.readBigUInt64LE(AREA.current);
  const bytes = header.readBigUInt64LE(AREA.current + 8);
  if (offset === 0n) return null;
  const ring = area.areaBytes - RING_START;
  const isInside = offset >= BigInt(RING_START) && offset < BigInt(area.areaBytes) && bytes <= BigInt(ring);
  if (!isInside || bytes === 0n || bytes > BigInt(MAX_STEP_BYTES))
    throw damaged(`${area.where} names a text of ${bytes} bytes at ${offset}`);
  return { offset: Number(offset), bytes: Number(bytes), crc: header.readUInt32LE(AREA.current + 16) };
}

/** Throws `identity-damaged`. Latin-1, so that characters are bytes; without the zero at its end. */
export function* readText(area: MetadataArea, { offset, bytes, crc }: Place): Reading<string> {
  const first = Math.min(bytes, area.bytes - offset);
  const pieces = [yield* readAt(area.at + BigInt(offset), first)];
  if (first < bytes) pieces.push(yield* readAt(area.at + BigInt(RING_START), bytes - first));
  const text = Buffer.concat(pieces);
  if (lvmCrc(text) !== crc)
    throw damaged(`the checksum of the LVM2 metadata text at ${area.at + BigInt(offset)} is wrong`);
  return text.toString('latin1').replace(/\0+$/, '');
}

/** Whether a text of so many bytes, with a zero at its end, fits in beside the current one. */
export function hasRoom(area: MetadataArea, current: Place, text: string): boolean {
  const { ring, start, end } = nextPlace(area, current);
  const skipped = (start - end + ring) % ring;
  return current.bytes + skipped + text.length + 1 <= ring;
}

/** As LVM goes on: on the sector that follows, and around the end of the area. */
function nextPlace(area: MetadataArea, current: Place): { ring: number; start: number; end: number } {
  const ring = area.bytes - RING_START;
  const end = ((current.offset - RING_START + current.bytes) % ring) + RING_START;
  const start = Math.ceil(end / SECTOR) * SECTOR;
  return { ring, start: start >= area.bytes ? RING_START : start, end };
}

/** Puts a text in the ring and makes it the current one. Only where it has room. */
export function* writeText(area: MetadataArea, current: Place, text: string): Writing<void> {
  const data = Buffer.from(`${text}\0`, 'latin1');
  const { start } = nextPlace(area, current);
  const first = Math.min(data.length, area.bytes - start);
  yield* writeAt(area.at + BigInt(start), data.subarray(0, first));
  if (first < data.length) yield* writeAt(area.at + BigInt(RING_START), data.subarray(first));
  const header = Buffer.from(area.header);
  header.writeBigUInt64LE(BigInt(start), AREA.current);
  header.writeBigUInt64LE(BigInt(data.length), AREA.current + 8);
  header.writeUInt32LE(lvmCrc(data), AREA.current + 16);
  header.writeUInt32LE(lvmCrc(header.subarray(4)), 0);
  yield* writeAt(area.at, header);
}

export function* writeId(volume: PhysicalVolume, id: string): Writing<void> {
  const sector = Buffer.from(volume.sector);
  sector.write(id, volume.headerAt, 'latin1');
  sector.writeUInt32LE(lvmCrc(sector.subarray(AT.crcFrom)), AT.crc);
  yield* writeAt(volume.sectorAt, sector);
}
