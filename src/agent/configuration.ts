// Reads the configuration file: YAML, checked against the schema before anything is opened. A wrong file is refused whole, with
// file, line and what is allowed there.

import { readFileSync } from 'node:fs';
import type { TSchema } from '@sinclair/typebox';
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors';
import { Value } from '@sinclair/typebox/value';
import { type Document, isMap, isNode, isPair, isScalar, LineCounter, parseDocument } from 'yaml';
import { CellblockError, systemCode } from '../base/errors.js';
import { bytesOfSize, type ConfigurationFile, ConfigurationSchema } from './configuration-schema.js';

export function readConfiguration(path: string): ConfigurationFile {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = systemCode(error) === 'ENOENT';
    const why = missing ? 'does not exist' : `cannot be read: ${systemCode(error)}`;
    throw new CellblockError(
      missing ? 'configuration-missing' : 'configuration-invalid',
      `The configuration file ${path} ${why}.`,
      {
        hint: 'Check the path given with --config.',
      },
    );
  }
  return parseConfiguration(text, path);
}

/** `path` only names the file in errors. */
export function parseConfiguration(text: string, path: string): ConfigurationFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) {
    throw refuse(place(path, lines, broken.pos[0]), {
      what: `this is not valid YAML (${firstLine(broken.message)})`,
      hint: 'Check the indentation and the brackets there and above.',
    });
  }
  const value = withoutEmptySections(document.toJS());
  const wrong = firstError(value);
  if (wrong !== undefined) {
    throw refuse(place(path, lines, offsetOf(document, keysOf(wrong.path), wrong)), explain(wrong));
  }
  const outside = sizeOutside(value as Record<string, Record<string, unknown>>);
  if (outside !== undefined) {
    const { keys, ...wrong } = outside;
    throw refuse(place(path, lines, offsetAt(document, keys)), wrong);
  }
  return value as ConfigurationFile;
}

/** The first size that is smaller or larger than its schema says. */
function sizeOutside(
  value: Record<string, Record<string, unknown>>,
): { keys: string[]; what: string; hint: string } | undefined {
  for (const [name, section] of Object.entries(ConfigurationSchema.properties)) {
    for (const [key, schema] of Object.entries(
      (section as unknown as { properties: Record<string, TSchema> }).properties,
    )) {
      const given = value[name]?.[key] as number | string | undefined;
      if (given === undefined || schema.sizes === undefined) continue;
      const [minimum, maximum] = (schema.sizes as string[]).map(bytesOfSize);
      const bytes = bytesOfSize(given);
      if (bytes >= minimum! && bytes <= maximum!) continue;
      return {
        keys: [name, key],
        what: `"${name}.${key}" is ${shown(given)}`,
        hint: `Allowed: ${allowed(schema)}.`,
      };
    }
  }
  return undefined;
}

/** A section whose keys are all commented out reads as null; it says nothing, which is allowed. */
function withoutEmptySections(value: unknown): unknown {
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) return value;
  const known = Object.keys(ConfigurationSchema.properties);
  return Object.fromEntries(
    Object.entries(value).filter(([key, section]) => section !== null || !known.includes(key)),
  );
}

/**
 * The error that is nearest to what was meant: inside a union the branch of the same shape (mapping or text) tells more than
 * "none of these".
 */
function firstError(value: unknown): ValueError | undefined {
  const error = Value.Errors(ConfigurationSchema, value).First();
  if (error === undefined || error.type !== ValueErrorType.Union || typeof error.value !== 'object')
    return error;
  for (const branch of error.errors) {
    const inner = branch.First();
    if (inner !== undefined && inner.path !== error.path) return inner;
  }
  return error;
}

function refuse(where: string, { what, hint }: { what: string; hint: string }): CellblockError {
  return new CellblockError('configuration-invalid', `${where}: ${what}.`, { hint });
}

function explain(error: ValueError): { what: string; hint: string } {
  const keys = keysOf(error.path);
  if (error.type === ValueErrorType.ObjectAdditionalProperties) {
    const known = Object.keys((error.schema as { properties?: object }).properties ?? {});
    return {
      what: `there is no key "${keys[keys.length - 1] ?? ''}"`,
      hint: `Known here: ${known.join(', ')}.`,
    };
  }
  const where = keys.length === 0 ? 'the file' : `"${keys.join('.')}"`;
  return { what: `${where} is ${shown(error.value)}`, hint: `Allowed: ${allowed(error.schema)}.` };
}

function allowed(schema: TSchema): string {
  return typeof schema.allowed === 'string' ? schema.allowed : 'see docs/configuration.md';
}

function shown(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  return JSON.stringify(value);
}

function keysOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** Where in the text: of an unknown key the key itself, else its value. */
function offsetOf(document: Document.Parsed, keys: string[], error: ValueError): number {
  const last = keys[keys.length - 1];
  const parent: unknown = keys.length > 1 ? document.getIn(keys.slice(0, -1), true) : document.contents;
  if (error.type === ValueErrorType.ObjectAdditionalProperties && isMap(parent)) {
    const pair = parent.items.find(
      (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === last,
    );
    if (pair !== undefined && isNode(pair.key)) return pair.key.range?.[0] ?? 0;
  }
  const at = offsetAt(document, keys);
  return at > 0 || !isNode(parent) ? at : (parent.range?.[0] ?? 0);
}

function offsetAt(document: Document.Parsed, keys: string[]): number {
  const node: unknown = keys.length > 0 ? document.getIn(keys, true) : document.contents;
  return isNode(node) ? (node.range?.[0] ?? 0) : 0;
}

function place(path: string, lines: LineCounter, offset: number): string {
  return `${path}, line ${lines.linePos(offset).line}`;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? text;
}
