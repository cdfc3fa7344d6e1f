// What the schemas of messages are put together from. Every string and list has a bound, every object is closed.

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { PLACE_NAME_PATTERN } from '../model/cell/names.js';
import { LIMITS } from './limits.js';

export function closed<Properties extends Record<string, TSchema>>(
  properties: Properties,
  options: Record<string, unknown> = {},
) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

export function nullable<Schema extends TSchema>(schema: Schema) {
  return Type.Union([schema, Type.Null()]);
}

/** One of these words. */
export function oneOf<const Values extends readonly string[]>(values: Values) {
  return Type.Unsafe<Values[number]>(Type.Union(values.map((value) => Type.Literal(value))));
}

export function listOf<Schema extends TSchema>(schema: Schema, maxItems: number, minItems = 0) {
  return Type.Array(schema, { minItems, maxItems });
}

export const Id = Type.String({ pattern: '^[0-9a-f]{32}$', description: '32 hexadecimal digits' });
/** Of a host or a cell. */
export const PlaceName = Type.String({ pattern: PLACE_NAME_PATTERN });
/** Of a volume or a snapshot; what it may hold besides is checked where it is looked up. */
export const Name = Type.String({ minLength: 1, maxLength: 128 });
export const Text = Type.String({ maxLength: LIMITS.text, description: 'for people' });
export const Code = Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_-]{0,63}$' });
export const Address = Type.String({ minLength: 1, maxLength: 256 });
/** An integer that any reader of JSON takes exactly. */
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const Positive = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
/** Bytes may exceed 2^53: text. */
export const Bytes = Type.String({ pattern: '^[0-9]{1,20}$', description: 'bytes, decimal' });

/** Compiles only if both types are the same: a schema and the type of the model it stands for. */
export type Same<Schema extends TSchema, Model> = [Static<Schema>, Model] extends [Model, Static<Schema>]
  ? true
  : false;
