// What the metadata says, read with the tolerance of someone who expects damage: whatever parses is kept, whatever does not is found.
// Invariant: nothing a record holds can make the reader throw.

import { decodeAttachment } from '../../model/attachment.js';
import { type CopyRecord, decodeCopy } from '../../model/copy.js';
import type { Container, ExtentsFileRecord, Line, Snapshot } from '../../model/entities.js';
import { decodeContainer, decodeFile, decodeLine, decodeSnapshot } from '../../model/entities.js';
import { decodeGroupCut, type GroupCut } from '../../model/group-cut.js';
import type { WrittenKey } from '../../model/keys.js';
import { parsePunchKey, parseWrittenKey } from '../../model/keys.js';
import { decodeLineage, decodeLineageId, type Lineage, parseLineageIdKey } from '../../model/lineage.js';
import type { BlockRange } from '../../model/punch.js';
import { decodePunch } from '../../model/punch.js';
import { decodeSync, type SyncRecord } from '../../model/sync.js';
import { DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES, MIN_WINDOW_BYTES } from '../../model/units.js';
import { decodeVm, decodeVmSnapshot, type Vm, type VmSnapshot } from '../../model/vm.js';
import { FORMAT_VERSION } from '../store-directory.js';
import type { Findings } from './findings.js';
import { reasonOf } from './findings.js';

export type CounterName = 'container' | 'line' | 'file';

export class StoreImage {
  readonly containers = new Map<number, Container>();
  readonly lines = new Map<number, Line>();
  readonly snapshots = new Map<string, Snapshot>();
  readonly syncs = new Map<number, SyncRecord>();
  readonly vms = new Map<number, Vm>();
  readonly vmSnapshots = new Map<number, VmSnapshot>();
  readonly lineages = new Map<string, Lineage>();
  /** Ids of visible snapshots by seq, by volume. */
  readonly lineageIds = new Map<string, Map<number, string>>();
  /** By volume. */
  readonly copies = new Map<string, CopyRecord>();
  readonly groupCuts = new Map<string, GroupCut>();
  readonly files = new Map<number, ExtentsFileRecord>();
  readonly applied = new Map<number, bigint>();
  /** By slot. */
  readonly punches = new Map<bigint, BlockRange[]>();
  punchRecords = 0;
  /** Stored sets of written windows, by line, version and chunk (writtenName). */
  readonly written = new Map<string, Buffer>();
  storeId: string | null = null;
  windowBytes = DEFAULT_WINDOW_BYTES;
  /** The last stop was a clean one, as far as the metadata knows. */
  clean = false;
  counters: Partial<Record<CounterName, number>> | null = null;
  readonly #findings: Findings;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  /** Takes in one record that is no window record. */
  take(key: Buffer, value: Buffer): void {
    if (key.subarray(0, 6).toString() === 'punch/') {
      this.#punch(key, value);
      return;
    }
    if (key.subarray(0, 8).toString() === 'written/') {
      this.#written(key, value);
      return;
    }
    const text = key.toString();
    const slash = text.indexOf('/');
    const [family, id] = [text.slice(0, slash), text.slice(slash + 1)];
    try {
      this.#json(family, id, value.toString());
    } catch (error) {
      this.#findings.add('record-damaged', `The record ${show(key)} is damaged: ${reasonOf(error)}.`);
    }
  }

  /** Of a format this program does not know: nothing more can be said. */
  get isForeign(): boolean {
    return this.#findings.has('store-newer') || this.#findings.has('store-older');
  }

  /** What only all records together tell. */
  finish(): void {
    if (this.storeId === null && !this.#findings.has('store-record-damaged') && !this.isForeign) {
      this.#findings.add('store-record-missing', 'There is no record meta/store.');
    }
    for (const { id, line, version } of this.snapshots.values()) {
      this.lines.get(line)?.versions.push({ version, state: 'listed', snapshot: id });
    }
    for (const line of this.lines.values()) line.versions.sort((a, b) => a.version - b.version);
  }

  #json(family: string, id: string, text: string): void {
    switch (family) {
      case 'container':
        this.#keep(this.containers, decodeContainer(text), id, (value) => value.id);
        break;
      case 'line':
        this.#keep(this.lines, decodeLine(text), id, (value) => value.id);
        break;
      case 'snapshot':
        this.#keep(this.snapshots, decodeSnapshot(text), id, (value) => value.id);
        break;
      case 'file':
        this.#keep(this.files, decodeFile(text), id, (value) => value.number);
        break;
      case 'sync':
        this.#keep(this.syncs, decodeSync(text), id, (value) => value.id);
        break;
      case 'vm':
        this.#keep(this.vms, decodeVm(text), id, (value) => value.id);
        break;
      case 'vm-snapshot':
        this.#keep(this.vmSnapshots, decodeVmSnapshot(text), id, (value) => value.id);
        break;
      case 'attachment':
        decodeAttachment(text);
        break;
      case 'copy':
        this.#keep(this.copies, decodeCopy(text), id, ({ volume }) => volume);
        break;
      case 'lineage':
        this.#keep(this.lineages, decodeLineage(text), id, ({ record }) => record.volume);
        break;
      case 'lineage-id':
        this.#lineageId(id, text);
        break;
      case 'group-cut':
        this.#keep(this.groupCuts, decodeGroupCut(text), id, (value) => value.id);
        break;
      case 'applied':
        if (!/^\d+$/.test(id)) throw new Error('its key names no line');
        this.applied.set(Number(id), BigInt(text));
        break;
      case 'meta':
        this.#meta(id, text);
        break;
      case 'task':
        JSON.parse(text);
        break;
      default:
        this.#findings.add(
          'key-unknown',
          `The key ${show(Buffer.from(`${family}/${id}`))} is of no known kind.`,
        );
    }
  }

  #keep<K extends string | number, T>(map: Map<K, T>, value: T, id: string, idOf: (value: T) => K): void {
    if (String(idOf(value)) !== id) {
      this.#findings.add(
        'record-misplaced',
        `The record of ${idOf(value)} stands under the key of ${JSON.stringify(id)}.`,
      );
      return;
    }
    map.set(idOf(value), value);
  }

  #lineageId(key: string, text: string): void {
    const parsed = parseLineageIdKey(key);
    if (!parsed) throw new Error('its key names no snapshot of a lineage');
    const ids = this.lineageIds.get(parsed.volume) ?? new Map<number, string>();
    this.lineageIds.set(parsed.volume, ids.set(parsed.seq, decodeLineageId(text)));
  }

  #meta(name: string, text: string): void {
    if (name === 'store') {
      this.#store(text);
      return;
    }
    const json = JSON.parse(text) as Record<string, unknown> | null;
    if (name === 'state') this.clean = json?.['clean'] === true;
    else if (name === 'counters') this.#counters(json ?? {});
    else if (name === 'boot' && !Number.isSafeInteger(json?.['starts'])) throw new Error('it counts nothing');
  }

  #counters(json: Record<string, unknown>): void {
    this.counters = {};
    for (const name of ['container', 'line', 'file'] as const) {
      const value = json[name];
      if (!Number.isSafeInteger(value)) throw new Error(`the counter of ${name} numbers is missing`);
      this.counters[name] = value as number;
    }
  }

  #store(text: string): void {
    try {
      const { format, storeId, windowBytes } = JSON.parse(text) as {
        format: number;
        storeId: string;
        windowBytes: number;
      };
      if (!Number.isSafeInteger(format) || format < 1) throw new Error('it has no format');
      if (format > FORMAT_VERSION) {
        this.#findings.add(
          'store-newer',
          `The store has format ${format}; ${FORMAT_VERSION} is the newest known.`,
        );
        return;
      }
      if (format < FORMAT_VERSION) {
        this.#findings.add('store-older', `The store has format ${format}; ${FORMAT_VERSION} is known.`);
        return;
      }
      if (typeof storeId !== 'string' || !/^[0-9a-f]{32}$/.test(storeId))
        throw new Error('its id is malformed');
      if (!isWindowSize(windowBytes)) throw new Error('its window size is not possible');
      this.storeId = storeId;
      this.windowBytes = windowBytes;
    } catch (error) {
      this.#findings.add('store-record-damaged', `The record meta/store is damaged: ${reasonOf(error)}.`);
    }
  }

  #written(key: Buffer, value: Buffer): void {
    const parsed = parseWrittenKey(key);
    // A copy: the value is a part of a page of the scan.
    if (parsed) this.written.set(writtenName(parsed), Buffer.from(value));
    else this.#findings.add('written-damaged', `The key ${show(key)} is malformed.`);
  }

  #punch(key: Buffer, value: Buffer): void {
    this.punchRecords++;
    const id = parsePunchKey(key);
    try {
      if (id === null) throw new Error('its key is malformed');
      for (const range of decodePunch(value)) {
        const ranges = this.punches.get(range.slot);
        if (ranges) ranges.push(range);
        else this.punches.set(range.slot, [range]);
      }
    } catch {
      this.#findings.add('punch-damaged', `The pending punch ${show(key)} is damaged.`);
    }
  }
}

export function writtenName({ line, version, chunk }: WrittenKey): string {
  return `${line}/${version}/${chunk}`;
}

function isWindowSize(bytes: unknown): boolean {
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes)) return false;
  return bytes >= MIN_WINDOW_BYTES && bytes <= MAX_WINDOW_BYTES && (bytes & (bytes - 1)) === 0;
}

/** A key for people: its text, with what is no text as hexadecimal. */
export function show(key: Uint8Array): string {
  const text = Buffer.from(key).toString('latin1');
  return [...text]
    .map((letter) =>
      /[ -~]/.test(letter) ? letter : `\\x${letter.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )
    .join('');
}
