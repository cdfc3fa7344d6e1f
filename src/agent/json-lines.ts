// A stream of JSON lines, one value a line. Byte quantities (bigint) become JSON integers.

import { Readable } from 'node:stream';

export const JSON_LINES = 'application/x-ndjson';

/** JSON in one line. Control characters never occur inside JSON text unescaped, so they can mark the bigints. */
export function jsonLine(value: unknown): string {
  const marked = JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'bigint' ? `\u0001${inner}\u0001` : inner,
  );
  return `${marked.replaceAll(/"\\u0001(-?\d+)\\u0001"/g, '$1')}\n`;
}

export function jsonLines(values: AsyncIterable<unknown>): Readable {
  return Readable.from(
    (async function* () {
      for await (const value of values) yield jsonLine(value);
    })(),
    { objectMode: false },
  );
}
