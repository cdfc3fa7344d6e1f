// The entries of a directory of a FAT file system, with their long names. Labels are those of root-directory.ts.

const ENTRY_BYTES = 32;
const UNUSED = 0xe5;
/** A first byte that stands for 0xE5, which would mark the entry as unused. */
const ESCAPED = 0x05;
const ATTRIBUTES = 11;
const CASES = 12;
const LONG_NAME = 0x0f;
const VOLUME = 0x08;
const DIRECTORY = 0x10;
/** Where the 13 characters of one part of a long name are. */
const LONG_PARTS = [
  [1, 11],
  [14, 26],
  [28, 32],
] as const;

export interface DirectoryEntry {
  /** The long one where there is one. */
  readonly name: string;
  readonly shortName: string;
  readonly isDirectory: boolean;
  /** The first cluster; 0: it has none. */
  readonly first: number;
  readonly size: number;
}

interface LongName {
  readonly checksum: number;
  readonly text: string;
}

/** Up to the end mark. */
export function entriesOf(data: Buffer): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  let long: LongName | null = null;
  for (let at = 0; at + ENTRY_BYTES <= data.length && data[at] !== 0; at += ENTRY_BYTES) {
    const raw = data.subarray(at, at + ENTRY_BYTES);
    if (raw[0] !== UNUSED && (raw[ATTRIBUTES]! & LONG_NAME) === LONG_NAME) {
      long = longer(long, raw);
      continue;
    }
    if (raw[0] !== UNUSED && (raw[ATTRIBUTES]! & VOLUME) === 0) entries.push(entryOf(raw, long));
    long = null;
  }
  return entries;
}

/** The last part comes first, and each has the checksum of the short name. */
function longer(before: LongName | null, raw: Buffer): LongName {
  const checksum = raw[13]!;
  const text = LONG_PARTS.map(([from, to]) => raw.toString('utf16le', from, to)).join('');
  const isNext = before !== null && before.checksum === checksum && (raw[0]! & 0x40) === 0;
  return { checksum, text: isNext ? text + before.text : text };
}

function entryOf(raw: Buffer, long: LongName | null): DirectoryEntry {
  const shortName = shortNameOf(raw);
  const isLong = long !== null && long.checksum === checksumOf(raw);
  return {
    name: isLong ? long.text.replace(/[\0].*$/s, '') : shortName,
    shortName,
    isDirectory: (raw[ATTRIBUTES]! & DIRECTORY) !== 0,
    first: raw.readUInt16LE(20) * 0x10000 + raw.readUInt16LE(26),
    size: raw.readUInt32LE(28),
  };
}

/** With the cases that Windows NT and Linux remember in a byte of their own. */
function shortNameOf(raw: Buffer): string {
  const bytes = Buffer.from(raw.subarray(0, 11));
  if (bytes[0] === ESCAPED) bytes[0] = UNUSED;
  const cased = (text: string, bit: number) => ((raw[CASES]! & bit) === 0 ? text : text.toLowerCase());
  const name = cased(bytes.toString('latin1', 0, 8).trimEnd(), 0x08);
  const extension = cased(bytes.toString('latin1', 8, 11).trimEnd(), 0x10);
  return extension === '' ? name : `${name}.${extension}`;
}

function checksumOf(raw: Buffer): number {
  return raw.subarray(0, 11).reduce((sum, byte) => (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff, 0);
}
