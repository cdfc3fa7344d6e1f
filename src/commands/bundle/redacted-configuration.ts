// The configuration file as it may be shown: made anew from what the schema knows, so that comments, unknown keys and wrong values, in
// which anything may stand, are not in it.

import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { parse, stringify } from 'yaml';
import { ConfigurationSchema } from '../../agent/configuration-schema.js';
import { scrubText } from './scrub.js';

const UNKNOWN_KEY = '[redacted: not a key of the configuration]';
const WRONG_VALUE = '[redacted: not what this key takes]';
const NO_FILE = '[redacted: no such file]';

/** Null: it is no YAML, and nothing of it can be told from a secret. `directory`: where relative paths begin. */
export function redactedConfiguration(text: string, directory: string): string | null {
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    return null;
  }
  return stringify(shown(value ?? {}, ConfigurationSchema, directory));
}

function shown(value: unknown, schema: TSchema, directory: string): unknown {
  if (value === null) return null;
  if (isMapping(value)) return mappingOf(value, schema, directory);
  if (Array.isArray(value) && schema.items !== undefined)
    return value.map((one) => shown(one, schema.items as TSchema, directory));
  if (!Value.Check(schema, value)) return WRONG_VALUE;
  if (typeof value !== 'string') return value;
  // Who takes the name of a file for the place of its content has a secret there.
  if (schema.allowed === 'a path') return isThere(value, directory) ? value : NO_FILE;
  return scrubText(value);
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function mappingOf(value: Record<string, unknown>, schema: TSchema, directory: string): unknown {
  const properties = propertiesOf(schema);
  if (properties === null) return WRONG_VALUE;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const known = Object.hasOwn(properties, key) ? properties[key] : undefined;
      return [key, known === undefined ? UNKNOWN_KEY : shown(inner, known, directory)];
    }),
  );
}

/** Of a mapping, or of the mapping among several things that are allowed. */
function propertiesOf(schema: TSchema): Record<string, TSchema> | null {
  if (schema.properties !== undefined) return schema.properties as Record<string, TSchema>;
  const branches = (schema.anyOf ?? []) as TSchema[];
  const mapping = branches.find((branch) => branch.properties !== undefined);
  return mapping === undefined ? null : (mapping.properties as Record<string, TSchema>);
}

/** Of a socket or a store the directory may be there alone. */
function isThere(path: string, directory: string): boolean {
  const whole = resolve(directory, path);
  return existsSync(whole) || (/\.(sock|pem)$/.test(whole) && existsSync(dirname(whole)));
}
