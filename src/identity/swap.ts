// Swap areas of Linux (version 1): UUID and label in the first page, whose last ten bytes are the signature.
// Invariant: an area that holds the memory of a hibernated system is never changed: with another UUID the wrong machine could wake up.

import { formatUuid, parseUuid } from './formats.js';
import { damaged, type Found, type Kind, type Restored } from './kind.js';
import { type Reading, readAt, type Writing, writeAt } from './steps.js';
import { textBytes, textField } from './texts.js';

export const swap: Kind = { name: 'swap', detect, restore };

const PAGES = [4096, 8192, 16384, 32768, 65536] as const;
const SIGNATURE_BYTES = 10;
const SWAP = 'SWAPSPACE2';
/** Hibernation puts one of these over the signature: kernel, uswsusp, TuxOnIce. */
const HIBERNATED = ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001', '\xed\xc3\x02\xe9\x98\x56\xe5\x0c'];
/** Version, pages and bad pages come before the UUID and the label in the order of the machine's bytes. */
const INFO = 1024;
const INFO_BYTES = 44;
const AT = { version: 0, lastPage: 4, uuid: 12, label: 28 } as const;
const LABEL = { name: 'label', bytes: 16, longest: 16 } as const;

interface SwapArea {
  readonly page: number;
  readonly hibernated: boolean;
  readonly info: Buffer;
}

function* detect(bytes: bigint): Reading<Found | null> {
  const area = yield* readArea(bytes);
  if (area === null) return null;
  const label = textField('label', 'swap', area.info.subarray(AT.label, AT.label + LABEL.bytes));
  const names = ['uuid', 'label'];
  return {
    kind: 'swap',
    fields: [
      {
        name: 'uuid',
        group: 'swap',
        format: 'uuid',
        value: formatUuid(area.info.subarray(AT.uuid, AT.uuid + 16)),
      },
      ...label.fields,
    ],
    unsupported: [...label.unsupported, ...(area.hibernated ? refusals(names, area) : [])],
    notes: area.hibernated ? ['The swap area holds the memory of a hibernated system.'] : [],
  };
}

function* restore(bytes: bigint, wanted: ReadonlyMap<string, string>): Writing<Restored> {
  const uuid = wanted.get('uuid');
  const label = wanted.get('label');
  const newUuid = uuid === undefined ? null : parseUuid('uuid', uuid);
  const newLabel = label === undefined ? null : textBytes(LABEL, label);
  const names = ['uuid', 'label'].filter((name) => wanted.has(name));
  const area = yield* readArea(bytes);
  if (area === null || names.length === 0) return { written: [], unsupported: [], notes: [] };
  if (area.hibernated) return { written: [], unsupported: refusals(names, area), notes: [] };
  newUuid?.copy(area.info, AT.uuid);
  newLabel?.copy(area.info, AT.label);
  yield* writeAt(BigInt(INFO), area.info);
  return { written: names, unsupported: [], notes: [] };
}

/** Throws `identity-damaged`. */
function* readArea(bytes: bigint): Reading<SwapArea | null> {
  for (const page of PAGES) {
    if (BigInt(page) > bytes) break;
    const signature = (yield* readAt(BigInt(page - SIGNATURE_BYTES), SIGNATURE_BYTES)).toString('latin1');
    const hibernated = HIBERNATED.some((one) => signature.startsWith(one));
    if (signature !== SWAP && !hibernated) continue;
    const info = yield* readAt(BigInt(INFO), INFO_BYTES);
    if (isSound(info)) return { page, hibernated, info };
    if (signature === SWAP)
      throw damaged(`the swap area with a signature at ${page - SIGNATURE_BYTES} is not of version 1`);
  }
  return null;
}

function isSound(info: Buffer): boolean {
  const version = info.readUInt32LE(AT.version);
  return (version === 1 || version === 0x01000000) && info.readUInt32LE(AT.lastPage) !== 0;
}

function refusals(names: readonly string[], area: SwapArea): Found['unsupported'] {
  const seen = formatUuid(area.info.subarray(AT.uuid, AT.uuid + 16));
  return names.map((field) => ({
    field,
    reason: `Not written: the swap area (UUID ${seen}) holds a hibernated system, which must not wake up elsewhere.`,
  }));
}
