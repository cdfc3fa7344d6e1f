// The OpenAPI document of the control API, made from the schemas of the routes. A schema with a title is said once and referred to.

import type { Api } from './route-types.js';

type Json = Record<string, unknown>;

export interface OpenApiDocument extends Json {
  // biome-ignore lint/suspicious/noExplicitAny: the document's own types are far wider than what is read from it
  paths: Record<string, Record<string, any>>;
}

export function openApiDocument(api: Api): OpenApiDocument {
  const schemas: Json = {};
  const document = rewrite(api.swagger(), schemas) as OpenApiDocument;
  document.components = { schemas };
  return document;
}

/** OpenAPI 3.1 is JSON Schema: null is a type there, and `nullable` means nothing. */
function rewrite(value: unknown, schemas: Json): unknown {
  if (Array.isArray(value)) return value.map((inner) => rewrite(inner, schemas));
  if (typeof value !== 'object' || value === null) return value;
  const { nullable, ...rest } = value as Json;
  const copy: Json = Object.fromEntries(
    Object.entries(rest).map(([key, inner]) => [key, rewrite(inner, schemas)]),
  );
  if (nullable === true && typeof copy.type === 'string') copy.type = [copy.type, 'null'];
  if (copy.type !== 'object' || typeof copy.title !== 'string') return copy;
  schemas[copy.title] = copy;
  return { $ref: `#/components/schemas/${copy.title}` };
}
