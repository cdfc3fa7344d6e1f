// Where the values of a JSON text stand, so that they can be changed in the text itself. The syntax is JSON.parse's; this only finds places.

import { CellblockError } from '../base/errors.js';
import type { Span } from './xml-text.js';

const MAX_DEPTH = 64;
const MAX_VALUES = 20_000;

export interface JsonNode extends Span {
  /** Objects and arrays: null; their values are in `members` (of several with one key the last, as in JSON.parse). */
  readonly value: string | number | boolean | null;
  readonly type: 'object' | 'array' | 'string' | 'other';
  readonly members: ReadonlyMap<string, JsonNode>;
}

/** Throws `identity-damaged` for what is no JSON, `identity-invalid` for what is too deep or too much. */
export function parseJson(text: string): JsonNode {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new CellblockError(
      'identity-damaged',
      `The configuration is no JSON: ${(error as Error).message}.`,
      {
        hint: 'Take it anew from what it belongs to.',
      },
    );
  }
  return new Places(text).node(0);
}

/** Over a text that is known to be right. */
class Places {
  readonly #text: string;
  #at = 0;
  #values = 0;

  constructor(text: string) {
    this.#text = text;
  }

  node(depth: number): JsonNode {
    if (depth > MAX_DEPTH || ++this.#values > MAX_VALUES)
      throw new CellblockError('identity-invalid', 'The configuration is too deep or too large.', {
        hint: `At most ${MAX_DEPTH} levels and ${MAX_VALUES} values are taken.`,
      });
    const first = this.#next();
    if (first === '{' || first === '[') return this.#container(first === '{' ? 'object' : 'array', depth);
    const token = first === '"' ? this.#string() : this.#match(/[^\s,\]}]+/y);
    const start = this.#at - token.length;
    return {
      start,
      end: this.#at,
      value: JSON.parse(token),
      type: first === '"' ? 'string' : 'other',
      members: new Map(),
    };
  }

  #container(type: 'object' | 'array', depth: number): JsonNode {
    const start = this.#at++;
    const members = new Map<string, JsonNode>();
    const close = type === 'object' ? '}' : ']';
    for (let index = 0; this.#next() !== close; index++) {
      if (this.#next() === ',') this.#at++;
      const key = type === 'object' ? String(this.node(depth + 1).value) : String(index);
      if (type === 'object' && this.#next() === ':') this.#at++;
      members.set(key, this.node(depth + 1));
    }
    return { start, end: ++this.#at, value: null, type, members };
  }

  /** Quote by quote: an expression over a string of megabytes would run out of stack. */
  #string(): string {
    const start = this.#at;
    let end = start;
    do end = this.#text.indexOf('"', end + 1);
    while (backslashesBefore(this.#text, end) % 2 === 1);
    this.#at = end + 1;
    return this.#text.slice(start, end + 1);
  }

  #match(token: RegExp): string {
    token.lastIndex = this.#at;
    const found = token.exec(this.#text)![0];
    this.#at += found.length;
    return found;
  }

  /** The next character that is no white space. */
  #next(): string {
    this.#match(/[ \t\r\n]*/y);
    return this.#text.charAt(this.#at);
  }
}

function backslashesBefore(text: string, at: number): number {
  let count = 0;
  while (text.charAt(at - count - 1) === '\\') count++;
  return count;
}
