// Spans of time as people write them: 30m, 48h, 7d.

import { CellblockError } from '../base/errors.js';

const UNITS_MS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };
const LONGEST_MS = 3650 * 86_400_000;

/** ISO 8601: the moment that is so long from now. Throws one sentence when `text` is no span. */
export function expiryAfter(text: string, nowMs = Date.now()): string {
  const match = /^(\d{1,6})([mhd])$/.exec(text.trim());
  const span = match ? Number(match[1]) * UNITS_MS[match[2]!]! : 0;
  if (span > 0 && span <= LONGEST_MS) return new Date(nowMs + span).toISOString();
  throw new CellblockError('option-invalid', `${JSON.stringify(text)} is no span of time.`, {
    hint: 'Write minutes, hours or days: 30m, 48h, 7d; at most ten years.',
  });
}
