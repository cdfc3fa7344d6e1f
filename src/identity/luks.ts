// LUKS1 and LUKS2: the UUID, and the label of LUKS2, in the header or in both.
// Invariant: key slots stay those of the content. Whoever gives a container another's content gives it another's passphrases: Found says so
// with `keySlots`, and the caller asks before.

import { createHash } from 'node:crypto';
import { formatUuid, parseUuid } from './formats.js';
import { damaged, type Field, type Found, type Kind, type Restored, type Unsupported } from './kind.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';
import { textBytes, textField } from './texts.js';

export const luks: Kind = { name: 'luks', detect, restore };

const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');
const SECOND_MAGIC = Buffer.from('SKUL\xba\xbe', 'latin1');
const BINARY_BYTES = 4096;
const UUID_BYTES = 40;
/** Where the two versions agree. Numbers are big-endian. */
const AT = {
  version: 6,
  size: 8,
  sequence: 16,
  label: 24,
  algorithm: 72,
  uuid: 168,
  address: 256,
  checksum: 448,
};
const CHECKSUM_BYTES = 64;
const LABEL = { name: 'label', bytes: 48, longest: 47 } as const;
/** Of a header of LUKS2 with its JSON area; the second one follows the first. */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096].map((kibibytes) => kibibytes << 10);
const ALGORITHMS = new Set(['sha1', 'sha256', 'sha512']);

interface Header {
  readonly at: bigint;
  readonly data: Buffer;
}

interface Headers {
  readonly version: 1 | 2;
  /** Those that can be believed, the newest first. */
  readonly all: readonly Header[];
  readonly notes: readonly string[];
}

function* detect(bytes: bigint): Reading<Found | null> {
  const headers = yield* readHeaders(bytes);
  if (headers === null) return null;
  const { data } = headers.all[0]!;
  const uuid: Field = { name: 'uuid', group: 'luks', format: 'uuid', value: uuidOf(data) };
  const label =
    headers.version === 2
      ? textField('label', 'luks', data.subarray(AT.label, AT.label + LABEL.longest))
      : { fields: [], unsupported: [] };
  const why = whyNot(headers);
  return {
    kind: 'crypto_LUKS',
    fields: [uuid, ...label.fields],
    unsupported: [...label.unsupported, ...(why === null ? [] : refusals(['uuid', 'label'], why))],
    notes: [
      `The key slots of LUKS${headers.version} are part of the content: only the passphrases it came with open it.`,
      ...headers.notes,
    ],
    keySlots: true,
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const uuid = wanted.get('uuid');
  const label = wanted.get('label');
  if (uuid !== undefined) parseUuid('uuid', uuid);
  const newLabel = label === undefined ? null : textBytes(LABEL, label);
  const headers = yield* readHeaders(bytes);
  const names = headers?.version === 1 ? ['uuid'] : ['uuid', 'label'];
  const written = names.filter((name) => wanted.has(name));
  if (headers === null || written.length === 0) return { written: [], unsupported: [], notes: [] };
  const why = whyNot(headers);
  if (why !== null) return { written: [], unsupported: refusals(written, why), notes: [] };
  const change = { uuid: uuid?.toLowerCase() ?? null, label: headers.version === 2 ? newLabel : null };
  for (const header of headers.all) yield* rewrite(headers.version, header, change);
  return { written, unsupported: [], notes: headers.notes };
}

function* rewrite(
  version: 1 | 2,
  { at, data }: Header,
  change: { uuid: string | null; label: Buffer | null },
): Writing<void> {
  const before = Buffer.from(data);
  if (change.uuid !== null) data.fill(0, AT.uuid, AT.uuid + UUID_BYTES).write(change.uuid, AT.uuid, 'latin1');
  change.label?.copy(data, AT.label);
  if (data.equals(before)) return;
  if (version === 2) {
    data.writeBigUInt64BE(BigInt.asUintN(64, data.readBigUInt64BE(AT.sequence) + 1n), AT.sequence);
    checksum(data).copy(data, AT.checksum);
  }
  yield* writeAt(at, data.subarray(0, version === 2 ? BINARY_BYTES : data.length));
}

/** Null: no LUKS. Throws `identity-damaged`. */
function* readHeaders(bytes: bigint): Reading<Headers | null> {
  if (bytes < BigInt(BINARY_BYTES)) return null;
  const data = yield* readAt(0n, 512);
  if (!data.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  const version = data.readUInt16BE(AT.version);
  if (version === 2) return yield* readSecondVersion(bytes, data.readBigUInt64BE(AT.size));
  if (version !== 1) throw damaged(`the LUKS header is of version ${version}, which there is not`);
  uuidOf(data);
  return { version, all: [{ at: 0n, data }], notes: [] };
}

/** cryptsetup believes the newer of the good ones, and mends the other by itself. */
function* readSecondVersion(bytes: bigint, size: bigint): Reading<Headers> {
  const known = SIZES.find((one) => BigInt(one) === size);
  if (known === undefined) throw damaged(`the LUKS2 header at 0 names a size of ${size} bytes`);
  const all: Header[] = [];
  const notes: string[] = [];
  for (const at of [0, known]) {
    const data = BigInt(at + known) > bytes ? Buffer.alloc(known) : yield* readAt(BigInt(at), known);
    const fault = faultOf(data, { at, size: known });
    if (fault === null) all.push({ at: BigInt(at), data });
    else notes.push(`Only one of two headers is used: ${fault}.`);
  }
  if (all.length === 0) throw damaged('neither of the two LUKS2 headers is good');
  all.sort((a, b) => Number(b.data.readBigUInt64BE(AT.sequence) - a.data.readBigUInt64BE(AT.sequence)));
  uuidOf(all[0]!.data);
  return { version: 2, all, notes };
}

function faultOf(data: Buffer, place: { at: number; size: number }): string | null {
  const where = `the LUKS2 header at ${place.at}`;
  const magic = place.at === 0 ? MAGIC : SECOND_MAGIC;
  if (!data.subarray(0, magic.length).equals(magic) || data.readUInt16BE(AT.version) !== 2)
    return `there is no LUKS2 header at ${place.at}`;
  if (data.readBigUInt64BE(AT.size) !== BigInt(place.size))
    return `${where} names another size than the first`;
  if (data.readBigUInt64BE(AT.address) !== BigInt(place.at)) return `${where} names another place as its own`;
  if (!ALGORITHMS.has(algorithmOf(data)))
    return `${where} has the unknown checksum ${JSON.stringify(algorithmOf(data))}`;
  const isRight = checksum(data).equals(data.subarray(AT.checksum, AT.checksum + CHECKSUM_BYTES));
  return isRight ? null : `the checksum of ${where} is wrong`;
}

function algorithmOf(data: Buffer): string {
  const stored = data.toString('latin1', AT.algorithm, AT.algorithm + 32);
  return stored.split('\0', 1)[0]!;
}

/** Over header and JSON area, itself as zeros. */
function checksum(data: Buffer): Buffer {
  const hash = createHash(algorithmOf(data));
  hash.update(data.subarray(0, AT.checksum));
  hash.update(Buffer.alloc(CHECKSUM_BYTES));
  const digest = hash.update(data.subarray(AT.checksum + CHECKSUM_BYTES)).digest();
  return Buffer.concat([digest, Buffer.alloc(CHECKSUM_BYTES - digest.length)]);
}

/** Throws `identity-damaged`. */
function uuidOf(data: Buffer): string {
  const text = data.toString('latin1', AT.uuid, AT.uuid + UUID_BYTES).replace(/\0.*$/s, '');
  try {
    return formatUuid(parseUuid('uuid', text));
  } catch {
    throw damaged(`the LUKS header names ${JSON.stringify(text)} as its UUID`);
  }
}

/** Why the headers must not be changed now, or null. */
function whyNot({ version, all }: Headers): string | null {
  if (version === 1) return null;
  const json = all[0]!.data.toString('utf8', BINARY_BYTES).replace(/\0.*$/s, '');
  return /"online-reencrypt/.test(json) ? 'the LUKS2 device is in the middle of a reencryption' : null;
}

function refusals(names: readonly string[], why: string): Unsupported[] {
  return names.map((field) => ({ field, reason: `Not written: ${why}.` }));
}
