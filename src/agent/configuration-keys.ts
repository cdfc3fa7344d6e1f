// The keys of the configuration file as a list, for whatever describes them: docs/configuration.md, cellblock.yaml(5), and the file that
// a package brings.

import type { TSchema } from '@sinclair/typebox';
import { ConfigurationSchema } from './configuration-schema.js';

export interface ConfigurationKey {
  /** Its section first. */
  path: readonly string[];
  allowed: string;
  /** Undefined: none. */
  fallback: unknown;
  description: string;
}

export function configurationSections(): { name: string; keys: ConfigurationKey[] }[] {
  return Object.entries(ConfigurationSchema.properties).map(([name, section]) => ({
    name,
    keys: keysOf([name], section),
  }));
}

/** Those of mappings in it included. */
function keysOf(path: readonly string[], section: TSchema): ConfigurationKey[] {
  return Object.entries(section.properties as Record<string, TSchema>).flatMap(([key, schema]) =>
    schema.properties === undefined ? [keyOf([...path, key], schema)] : keysOf([...path, key], schema),
  );
}

function keyOf(path: readonly string[], schema: TSchema): ConfigurationKey {
  return {
    path,
    allowed: String(schema.allowed),
    fallback: schema.default,
    description: schema.description ?? '',
  };
}
