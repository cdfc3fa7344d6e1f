// The text in which LVM2 keeps a volume group: where its names and ids stand, and the same text with others.
// Invariant: positions are those of bytes, for texts are read as Latin-1; what is not replaced stays as it was, comments too.

import { formatLvmId, parseLvmId } from '../formats.js';
import { damaged } from '../kind.js';

/** A value and where it stands, without quotes. */
export interface Word {
  readonly text: string;
  readonly from: number;
  readonly to: number;
}

export interface VolumeGroup {
  readonly name: Word;
  readonly id: Word;
  readonly sequence: Word;
  /** Ids by their names in the text: pv0, pv1... */
  readonly physical: ReadonlyMap<string, Word>;
  readonly logical: ReadonlyMap<string, Word>;
  /** `sanlock`, `dlm`: shared between hosts by the locks of a daemon. Empty: it is not. */
  readonly lock: string;
}

const MAX_DEPTH = 16;
const WORD = /[\w.+\-/@:]+/y;
const SIGNS = '{}[]=,';

interface Token extends Word {
  /** Behind its quotes too. */
  readonly end: number;
  readonly sign: boolean;
}

/** Assignments of one value by their path (`vg/logical_volumes/data/id`), and the names of the sections at the top. */
interface Outline {
  readonly values: Map<string, Word>;
  readonly tops: Word[];
}

/** Throws `identity-damaged`. */
export function readVolumeGroup(text: string): VolumeGroup {
  const { values, tops } = outline(tokens(text));
  const name = tops[0];
  const id = name && values.get(`${name.text}/id`);
  const sequence = name && values.get(`${name.text}/seqno`);
  if (tops.length !== 1 || !name || !id || !sequence || !/^\d{1,9}$/.test(sequence.text))
    throw damaged('the metadata text of the LVM volume group has no name, id or seqno');
  const group = {
    name,
    id,
    sequence,
    physical: idsIn(values, `${name.text}/physical_volumes/`),
    logical: idsIn(values, `${name.text}/logical_volumes/`),
    lock: values.get(`${name.text}/lock_type`)?.text ?? '',
  };
  for (const word of [id, ...group.physical.values(), ...group.logical.values()]) checkId(word);
  return group;
}

function* tokens(text: string): Generator<Token> {
  for (let at = behindBlank(text, 0); at < text.length; ) {
    const token = tokenAt(text, at);
    yield token;
    at = behindBlank(text, token.end);
  }
}

/** White space and comments. */
function behindBlank(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] === '#') at = (text.indexOf('\n', at) + 1 || text.length) - 1;
    else if (text[at]! > ' ') return at;
  }
  return text.length;
}

function tokenAt(text: string, at: number): Token {
  if (SIGNS.includes(text[at]!)) return { text: text[at]!, from: at, to: at + 1, end: at + 1, sign: true };
  const quoted = text[at] === '"';
  const from = quoted ? at + 1 : at;
  const to = quoted ? closingQuote(text, from) : wordEnd(text, from);
  if (to < from || (!quoted && to === from))
    throw damaged(`the metadata text of the LVM volume group cannot be read at ${at}`);
  return { text: text.slice(from, to), from, to, end: quoted ? to + 1 : to, sign: false };
}

/** The place itself: there is none. */
function wordEnd(text: string, at: number): number {
  WORD.lastIndex = at;
  return WORD.test(text) ? WORD.lastIndex : at;
}

/** -1: there is none. */
function closingQuote(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] === '"') return at;
    if (text[at] === '\\') at++;
  }
  return -1;
}

function outline(stream: Generator<Token>): Outline {
  const values = new Map<string, Word>();
  const tops: Word[] = [];
  const path: string[] = [];
  let name: Token | null = null;
  for (const token of stream) {
    if (!token.sign) name = token;
    else if (token.text === '{' && name !== null && path.length < MAX_DEPTH) {
      if (path.length === 0) tops.push(name);
      path.push(name.text);
      name = null;
    } else if (token.text === '}' && path.length > 0) path.pop();
    else if (token.text === '=' && name !== null) {
      const value = assigned(stream);
      if (value !== null) values.set([...path, name.text].join('/'), value);
      name = null;
    } else throw damaged(`the metadata text of the LVM volume group has a ${token.text} at ${token.from}`);
  }
  if (path.length > 0) throw damaged('the metadata text of the LVM volume group ends too early');
  return { values, tops };
}

/** Null: it is an array, which is passed over. */
function assigned(stream: Generator<Token>): Word | null {
  let token = stream.next();
  if (!token.done && !token.value.sign) return token.value;
  while (!token.done && token.value.text !== ']') token = stream.next();
  return null;
}

function idsIn(values: ReadonlyMap<string, Word>, prefix: string): Map<string, Word> {
  const ids = new Map<string, Word>();
  for (const [path, word] of values) {
    const [name, last, ...more] = path.slice(prefix.length).split('/');
    if (path.startsWith(prefix) && last === 'id' && more.length === 0) ids.set(name!, word);
  }
  return ids;
}

function checkId({ text }: Word): void {
  try {
    if (formatLvmId(parseLvmId('id', text)) === text) return;
  } catch {}
  throw damaged(`the metadata text of the LVM volume group has ${JSON.stringify(text)} as an id`);
}

/** The text with other words at their places, and the next seqno. */
export function rewritten(text: string, group: VolumeGroup, changes: ReadonlyMap<Word, string>): string {
  const all = new Map(changes).set(group.sequence, String(Number(group.sequence.text) + 1));
  let changed = '';
  let at = 0;
  for (const [word, replacement] of [...all].sort(([a], [b]) => a.from - b.from)) {
    changed += text.slice(at, word.from) + replacement;
    at = word.to;
  }
  return changed + text.slice(at);
}
