// Keys and values of a coordinator's state, the same in every store: values are JSON, keys are paths whose last part may hold anything.
//
// Invariant: two different names or keys never have the same bytes, and what was read is what was written.

import type { Route } from '../model/cell/route.js';
import { corrupt, tooLarge } from './state-errors.js';
import { type Change, MOST_BYTES, MOST_CHANGES, type RecordKind } from './store.js';

/** 1: routes, records, names (etcd only). */
export const FORMAT = 1;

const MOST_KEY_BYTES = 1024;
const FORMAT_TEXT = /^\{"cellblockCoordinator":(\d{1,9})\}$/;

export const ROUTES = 'route/';
export const NAMES = 'name/';
export const FORMAT_KEY = 'format';

export function routeKey(volume: string): string {
  return `${ROUTES}${checkedKey(volume)}`;
}

export function nameKey(name: string): string {
  return `${NAMES}${checkedKey(name)}`;
}

export function recordsOf(kind: RecordKind): string {
  return `record/${kind}/`;
}

export function recordKey(kind: RecordKind, key: string): string {
  return `${recordsOf(kind)}${checkedKey(key)}`;
}

/** The first key behind all that begin so. */
export function endOfPrefix(prefix: Buffer): Buffer {
  for (let length = prefix.length; length > 0; length--) {
    if (prefix[length - 1] === 0xff) continue;
    const end = Buffer.from(prefix.subarray(0, length));
    end[length - 1]!++;
    return end;
  }
  return Buffer.of(0);
}

export function formatText(): string {
  return JSON.stringify({ cellblockCoordinator: FORMAT });
}

/** Undefined: it is not the format record of a coordinator. */
export function formatOf(text: string): number | undefined {
  const number = FORMAT_TEXT.exec(text)?.[1];
  return number === undefined ? undefined : Number(number);
}

export function routeText(route: Route, gen: number): string {
  const text = JSON.stringify({ ...route, gen });
  if (Buffer.byteLength(text) > MOST_BYTES)
    throw tooLarge(`The route of ${route.name} has ${text.length} bytes`);
  return text;
}

/** Frozen. What this program wrote, or a hand that knows what it does. */
export function routeOf(text: string, key: string, where: string): Route {
  const route = recordOf(text, key, where) as Route;
  const isRoute =
    routeKey(`${route.volume}`) === key &&
    typeof route.name === 'string' &&
    Number.isSafeInteger(route.gen) &&
    route.gen > 0;
  if (!isRoute) throw corrupt(where, `${key} holds no route`);
  return frozen(route);
}

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  for (const inner of Object.values(value)) frozen(inner);
  return Object.freeze(value);
}

export function recordOf(text: string, key: string, where: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // No JSON: the sentence below.
  }
  throw corrupt(where, `${key} cannot be read`);
}

/** The texts to store by their keys, null to delete; later ones of a key take the place of those before. Throws `coordinator-state-too-large`. */
export function changesByKey(changes: readonly Change[]): Map<string, string | null> {
  const texts = new Map<string, string | null>();
  let bytes = 0;
  for (const { kind, key, value } of changes) {
    const text = value === null ? null : JSON.stringify(value);
    bytes += key.length + (text === null ? 0 : Buffer.byteLength(text));
    texts.set(recordKey(kind, key), text);
  }
  if (texts.size > MOST_CHANGES) throw tooLarge(`A change of ${texts.size} records is too large`);
  if (bytes > MOST_BYTES) throw tooLarge(`A change of ${bytes} bytes is too large`);
  return texts;
}

function checkedKey(key: string): string {
  const bytes = Buffer.byteLength(key);
  // Halves of surrogate pairs all become the same three bytes.
  const isWhole = Buffer.from(key).toString() === key;
  if (bytes === 0 || bytes > MOST_KEY_BYTES || !isWhole)
    throw tooLarge(
      `${JSON.stringify(key)} cannot be a key: it has to be 1 to ${MOST_KEY_BYTES} bytes of UTF-8`,
    );
  return key;
}
