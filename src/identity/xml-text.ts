// A small tree over an XML text that knows where in the text everything stands, so that values can be changed in the text itself and every
// other byte stays as it came. The parser is saxes: strict, no entities but the five of XML, nothing is ever fetched.
// Invariant: positions are offsets in the text that was given, and the value between two of them is what the tree says.

import { SaxesParser } from 'saxes';
import { CellblockError } from '../base/errors.js';
import { invalidValue } from './kind.js';

const MAX_DEPTH = 64;
const MAX_ELEMENTS = 20_000;

export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface XmlAttribute extends Span {
  readonly value: string;
}

export interface XmlElement {
  readonly name: string;
  /** Spans are those of the values, without quotes. */
  readonly attributes: ReadonlyMap<string, XmlAttribute>;
  readonly children: readonly XmlElement[];
  /** Of the element itself, without that of its children. */
  readonly text: string;
  readonly outer: Span;
  /** Null: it is `<empty/>`. */
  readonly inner: Span | null;
}

interface Open {
  name: string;
  attributes: Map<string, XmlAttribute>;
  children: XmlElement[];
  text: string;
  start: number;
  innerStart: number;
}

/** Throws `identity-damaged` for what is not well-formed, `identity-invalid` for what is not wanted in a configuration (a DOCTYPE). */
export function parseXml(text: string): XmlElement {
  return new TreeReader(text).root();
}

class TreeReader {
  readonly #text: string;
  readonly #parser = new SaxesParser({ xmlns: false, position: true });
  readonly #open: Open[] = [];
  #attributes = new Map<string, XmlAttribute>();
  #root: XmlElement | null = null;
  #elements = 0;
  /** Where the tag, comment or text that is being read began: markup before it has been passed. */
  #start = 0;

  constructor(text: string) {
    this.#text = text;
  }

  root(): XmlElement {
    const parser = this.#parser;
    parser.on('error', (error) => {
      throw malformed(error.message);
    });
    parser.on('doctype', () => {
      throw refused('it has a DOCTYPE');
    });
    parser.on('xmldecl', ({ encoding }) => {
      if (encoding !== undefined && !/^(utf-8|us-ascii)$/i.test(encoding))
        throw refused(`its encoding is ${encoding}`);
    });
    parser.on('opentagstart', ({ name }) => this.#begin(name));
    parser.on('attribute', ({ name, value }) => this.#attribute(name, value));
    parser.on('opentag', ({ name, isSelfClosing }) => this.#opened(name, isSelfClosing));
    parser.on('closetag', ({ isSelfClosing }) => this.#closed(isSelfClosing));
    parser.on('text', (part) => this.#add(part));
    parser.on('cdata', (part) => this.#add(part));
    parser.write(this.#text).close();
    if (this.#root === null) throw malformed('it is empty');
    return this.#root;
  }

  #begin(name: string): void {
    if (++this.#elements > MAX_ELEMENTS) throw refused(`it has more than ${MAX_ELEMENTS} elements`);
    if (this.#open.length >= MAX_DEPTH) throw refused(`it is deeper than ${MAX_DEPTH} levels`);
    // The parser stands one behind the character that ended the name.
    this.#start = this.#text.lastIndexOf(`<${name}`, this.#parser.position);
    this.#attributes = new Map();
  }

  /** The parser stands behind the closing quote, and a value has no quote of its kind in it. */
  #attribute(name: string, value: string): void {
    const end = this.#parser.position - 1;
    const start = this.#text.lastIndexOf(this.#text.charAt(end), end - 1) + 1;
    this.#attributes.set(name, { value, start, end });
  }

  #opened(name: string, isSelfClosing: boolean): void {
    const open = { name, attributes: this.#attributes, children: [], text: '', start: this.#start };
    this.#open.push({ ...open, innerStart: isSelfClosing ? -1 : this.#parser.position });
  }

  #closed(isSelfClosing: boolean): void {
    const { start, innerStart, ...element } = this.#open.pop()!;
    const end = this.#parser.position;
    const inner = isSelfClosing ? null : { start: innerStart, end: this.#text.lastIndexOf('</', end - 1) };
    const closed: XmlElement = { ...element, outer: { start, end }, inner };
    const parent = this.#open.at(-1);
    if (parent) parent.children.push(closed);
    else this.#root = closed;
  }

  #add(part: string): void {
    const parent = this.#open.at(-1);
    if (parent) parent.text += part;
  }
}

function malformed(why: string): CellblockError {
  return new CellblockError(
    'identity-damaged',
    `The configuration is no well-formed XML: ${why.replace(/\.$/, '')}.`,
    {
      hint: 'Take it anew from what it belongs to, for example with `virsh dumpxml --inactive`.',
    },
  );
}

function refused(why: string): CellblockError {
  return new CellblockError('identity-invalid', `The configuration is not taken: ${why}.`, {
    hint: 'Take it from `virsh dumpxml --inactive`.',
  });
}

/** The first child of this name, then of the next name in it. */
export function childAt(element: XmlElement, ...names: readonly string[]): XmlElement | null {
  let at: XmlElement | undefined = element;
  for (const name of names) at = at?.children.find((child) => child.name === name);
  return at ?? null;
}

export function childrenOf(element: XmlElement | null, name: string): XmlElement[] {
  return element?.children.filter((child) => child.name === name) ?? [];
}

export function attributeOf(element: XmlElement | null, name: string): string | null {
  return element?.attributes.get(name)?.value ?? null;
}

/** Throws `identity-invalid` for characters that XML has no way to write. Works within either kind of quotes. */
export function escapeAttribute(field: string, value: string): string {
  return escapeText(field, value)
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&apos;')
    .replace(/[\t\n]/g, reference);
}

/** Throws `identity-invalid` for characters that XML has no way to write. */
export function escapeText(field: string, value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are the ones that are looked for
  if (/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/.test(value) || /\p{Surrogate}/u.test(value))
    throw invalidValue(field, value, 'it has characters that XML cannot hold');
  return value
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('\r', reference);
}

function reference(character: string): string {
  return `&#${character.charCodeAt(0)};`;
}
