// A text in an area of fixed length, as a file or a part of one: values are put into it and the area keeps its length.
// What follows the text (white space, zeros) is room: a text that becomes shorter gets more of it, one that becomes longer takes some.
// Invariant: outside of the values and the room no byte changes; what does not fit is not written and told.

import { applyEdits, type ConfigSlot } from './config-document.js';
import type { Restored } from './kind.js';
import { replaceAt } from './replace.js';
import { type Area, type Reading, readAt, type Writing } from './steps.js';

/** What may stand behind the text: blank lines, or zeros where the format has them. */
export type Filler = '\n' | '\0';

export interface AreaText extends Area {
  readonly text: string;
  /** Bytes behind the text that say nothing. */
  readonly room: Buffer;
  /** `latin1`: the text is no UTF-8, and its bytes are kept as they are. */
  readonly encoding: 'utf8' | 'latin1';
}

/** The area has at most MAX_STEP_BYTES. */
export function* readText(area: Area): Reading<AreaText> {
  const bytes = yield* readAt(area.at, Number(area.bytes));
  const end = lastOfText(bytes) + 1;
  const said = bytes.subarray(0, end);
  const text = said.toString('utf8');
  const encoding = Buffer.from(text, 'utf8').equals(said) ? 'utf8' : 'latin1';
  return {
    ...area,
    text: encoding === 'utf8' ? text : said.toString('latin1'),
    room: bytes.subarray(end),
    encoding,
  };
}

function lastOfText(bytes: Buffer): number {
  let at = bytes.length - 1;
  while (at >= 0 && [0x00, 0x09, 0x0a, 0x0d, 0x20].includes(bytes[at]!)) at--;
  return at;
}

export function fits(area: AreaText, text: string): boolean {
  return Buffer.byteLength(text, area.encoding) <= Number(area.bytes);
}

/** Only sectors that change are written. The text has to fit. */
export function* writeText(area: AreaText, text: string, filler: Filler): Writing<void> {
  if (text === area.text) return;
  const said = Buffer.from(text, area.encoding);
  const left = Number(area.bytes) - said.length;
  const room = Buffer.alloc(left, filler);
  area.room.copy(room, 0, 0, left);
  // A zero is no white space: formats without it get blank lines.
  if (filler !== '\0') for (const [at, byte] of room.entries()) if (byte === 0) room.write(filler, at);
  yield* replaceAt(area.at, Buffer.concat([said, room]));
}

export function noRoom(field: string, value: string): Restored['unsupported'][number] {
  return {
    field,
    reason: `Not written: ${JSON.stringify(value)} is longer than what is there, and nothing behind the text is free.`,
  };
}

/** Gives those of the slots that are wanted their values, as many as fit; those that need no room come first. */
export function* restoreSlots(
  area: AreaText,
  { slots, filler }: { slots: readonly ConfigSlot[]; filler: Filler },
  wanted: ReadonlyMap<string, string>,
): Writing<Restored> {
  const puts = slots
    .flatMap((slot) => putOf(area, slot, wanted.get(slot.name)))
    .sort((a, b) => a.growth - b.growth);
  let free = area.room.length;
  const taken = puts.filter(({ growth }) => {
    const isFitting = growth <= free;
    if (isFitting) free -= growth;
    return isFitting;
  });
  const text = applyEdits(
    area.text,
    taken.flatMap(({ edits }) => edits),
  );
  yield* writeText(area, text, filler);
  return {
    written: taken.map(({ name }) => name),
    unsupported: puts.filter((put) => !taken.includes(put)).map(({ name, value }) => noRoom(name, value)),
    notes: [],
  };
}

function putOf(area: AreaText, slot: ConfigSlot, value: string | undefined) {
  if (value === undefined) return [];
  const { name } = slot;
  if (value === slot.value) return [{ name, value, edits: [], growth: 0 }];
  const edit = slot.put(value);
  // In a text of unknown encoding only what is the same in all of them can be written.
  const isWritable = area.encoding === 'utf8' || isAscii(edit.text);
  const before = Buffer.byteLength(area.text.slice(edit.start, edit.end), area.encoding);
  const growth = isWritable ? Buffer.byteLength(edit.text, area.encoding) - before : Number.MAX_SAFE_INTEGER;
  return [{ name, value, edits: [edit], growth }];
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text, 'utf8') === text.length;
}
