// What the schemas of the control API are put together from.

import { type TSchema, Type } from '@sinclair/typebox';

export const Bytes = Type.Unsafe<bigint>({ type: 'integer', minimum: 0 });
/** Spelled the way fast-json-stringify takes a bigint or null; the OpenAPI document says it the way of JSON Schema. */
export const BytesOrNull = Type.Unsafe<bigint | null>({ type: 'integer', nullable: true, minimum: 0 });
export const Time = Type.String({ format: 'date-time', description: 'ISO 8601' });

/** In a request: until when it is kept. */
export const Moment = Type.String({
  pattern: '^\\d{4}-[01]\\d-[0-3]\\dT[0-2]\\d:[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?Z$',
  description: 'ISO 8601, UTC: it is deleted by itself then.',
});

export function nullable<Schema extends TSchema>(schema: Schema) {
  return Type.Union([schema, Type.Null()]);
}

export function closed<Properties extends Record<string, TSchema>>(
  properties: Properties,
  options: Record<string, unknown> = {},
) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

/** A value the OpenAPI document knows by name. */
export function titled<Properties extends Record<string, TSchema>>(title: string, properties: Properties) {
  return closed(properties, { title });
}

export function oneOf<const Values extends readonly string[]>(values: Values) {
  return Type.Unsafe<Values[number]>({ type: 'string', enum: [...values] });
}
