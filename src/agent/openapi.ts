// The OpenAPI document of the control API, as it lies in docs/openapi.json: made from the schemas of the routes.

import type { Api } from './route-types.js';

/** Pretty-printed JSON with a final newline. */
export function openApiText(api: Api): string {
  return `${JSON.stringify(withNullTypes(api.swagger()), null, 2)}\n`;
}

/** OpenAPI 3.1 is JSON Schema, where null is a type and `nullable` means nothing; `allowed` and the like stay with us. */
function withNullTypes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withNullTypes);
  if (typeof value !== 'object' || value === null) return value;
  const { nullable, ...rest } = value as Record<string, unknown>;
  const copy = Object.fromEntries(Object.entries(rest).map(([key, inner]) => [key, withNullTypes(inner)]));
  if (nullable === true && typeof copy.type === 'string') copy.type = [copy.type, 'null'];
  return copy;
}
