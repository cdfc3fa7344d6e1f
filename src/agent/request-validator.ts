// Checks requests against the TypeBox schemas of their routes. Params and query come as text and are converted; a body says its
// types itself and is taken at its word.

import type { TSchema } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { type ValueError, ValueErrorType } from '@sinclair/typebox/errors';
import { Value } from '@sinclair/typebox/value';
import { CellblockError } from '../base/errors.js';

type Verdict = { value: unknown } | { error: CellblockError };

/** For fastify's setValidatorCompiler. */
export function compileValidator({
  schema,
  httpPart,
}: {
  schema: unknown;
  httpPart?: string;
}): (value: unknown) => Verdict {
  const checker = TypeCompiler.Compile(schema as TSchema);
  const part = httpPart === 'querystring' ? 'query' : (httpPart ?? 'request');
  return (given) => {
    const value = part === 'body' ? given : Value.Convert(schema as TSchema, given);
    const wrong = checker.Errors(value).First();
    return wrong === undefined ? { value } : { error: refuse(part, wrong) };
  };
}

function refuse(part: string, error: ValueError): CellblockError {
  const key = error.path.slice(1).replaceAll('/', '.');
  return new CellblockError('request-invalid', `${sentence(part, key, error)}.`, {
    hint: 'See docs/api.md for what this request takes.',
  });
}

function sentence(part: string, key: string, error: ValueError): string {
  switch (error.type) {
    case ValueErrorType.ObjectAdditionalProperties:
      return `The ${part} of the request has an unknown key "${key}"`;
    case ValueErrorType.ObjectRequiredProperty:
      return `The ${part} of the request lacks "${key}"`;
    default: {
      const where = key === '' ? `The ${part} of the request` : `"${key}" in the ${part} of the request`;
      return `${where} does not fit: ${error.message.charAt(0).toLowerCase()}${error.message.slice(1)}`;
    }
  }
}
