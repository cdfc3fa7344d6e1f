// What a log line says of something that goes wrong again and again: the whole story once, one sentence afterwards.

/** Fields for a log line; `failures`: how often in a row, this one included. */
export function trouble(error: unknown, failures: number): { err: unknown } | { reason: string } {
  return failures <= 1 ? { err: error } : { reason: sentenceOf(error) };
}

/** Of LevelDB the cause tells more than the error. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
