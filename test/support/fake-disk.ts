// What a fake data plane keeps over a restart: extents files block by block, and the journal; each with what is stable and what
// only the page cache knows. Contents of a block are one number; 0 is a hole.

import type { CutMember, JournalEntry } from '../../src/plane/treaty.js';

type WithoutPosition<T> = T extends unknown ? Omit<T, 'position'> : never;
export type NewEntry = WithoutPosition<JournalEntry>;

interface FakeFile {
  /** Highest place ever written, plus one: the file's length in windows. */
  places: number;
  blocks: Map<string, number>;
  stable: Map<string, number>;
}

export class FakeDisk {
  readonly files = new Map<number, FakeFile>();
  entries: JournalEntry[] = [];
  #syncedEntries = 0;
  header: { bootId: string; clean: boolean } | null = null;
  nextPosition = 1n;
  bootId = 'boot-1';
  #boots = 1;

  file(number: number): FakeFile {
    let file = this.files.get(number);
    if (!file) {
      file = { places: 0, blocks: new Map(), stable: new Map() };
      this.files.set(number, file);
    }
    return file;
  }

  write(slot: bigint, block: number, value: number): void {
    const file = this.file(Number(slot >> 24n));
    file.places = Math.max(file.places, Number(slot & 0xffffffn) + 1);
    file.blocks.set(`${slot}/${block}`, value);
  }

  read(slot: bigint, block: number): number {
    return this.files.get(Number(slot >> 24n))?.blocks.get(`${slot}/${block}`) ?? 0;
  }

  /** At once and for good: the worst moment for whoever still needs it. */
  punch(slot: bigint, block: number): void {
    const file = this.file(Number(slot >> 24n));
    file.blocks.delete(`${slot}/${block}`);
    file.stable.delete(`${slot}/${block}`);
  }

  syncFile(number: number): void {
    const file = this.file(number);
    file.stable = new Map(file.blocks);
  }

  append(entry: NewEntry): bigint {
    const position = this.nextPosition++;
    this.entries.push({ ...entry, position } as JournalEntry);
    return position;
  }

  syncJournal(): void {
    this.#syncedEntries = this.entries.length;
  }

  startJournal(position: bigint): void {
    this.entries = [];
    this.#syncedEntries = 0;
    this.nextPosition = position;
    this.header = { bootId: this.bootId, clean: false };
  }

  finishJournal(): void {
    this.entries = [];
    this.#syncedEntries = 0;
    if (this.header) this.header.clean = true;
  }

  /** What a copy of the disk has that is made in this instant, and starts on another boot: what is stable. */
  copy(): FakeDisk {
    const copy = new FakeDisk();
    copy.entries = this.entries.slice(0, this.#syncedEntries);
    copy.#syncedEntries = copy.entries.length;
    copy.header = this.header && { ...this.header };
    copy.nextPosition = this.nextPosition;
    copy.bootId = this.bootId;
    copy.#boots = this.#boots;
    for (const [number, { places, stable }] of this.files)
      copy.files.set(number, { places, blocks: new Map(stable), stable: new Map(stable) });
    copy.powerLoss();
    return copy;
  }

  /** Unsynced data and entries are gone; another boot. */
  powerLoss(): void {
    this.entries = this.entries.slice(0, this.#syncedEntries);
    for (const file of this.files.values()) file.blocks = new Map(file.stable);
    this.bootId = `boot-${++this.#boots}`;
  }
}

export type { CutMember };
