// What must not leave the machine is taken out of texts and values here. Pure functions.
//
// Invariant: rather too much is taken out than too little; what was taken out is marked. Files that hold secrets are never read in the first
// place: this is for what stands where it should not.

import { withoutCredentials } from '../../agent/without-credentials.js';

export const REDACTED = '[redacted]';

const SECRET_NAME = 'password|passwd|passphrase|secret|token|psk|api_?key|private_?key|credential';
const SECRET_KEY = new RegExp(SECRET_NAME, 'i');
/** Of a file: its name is no secret. */
const PLACE_KEY = /(file|path|directory)$/i;

/** Without an end: as many lines as the longest key has. */
const PEM = /-----BEGIN [A-Z0-9 ]+-----(?:[\s\S]*?-----END [A-Z0-9 ]+-----|(?:.*\n?){0,120})/g;
const AUTHORIZATION = /(authorization["']?\s*[:=]\s*["']?)(?:[A-Za-z]+ )?[^\s"',}]+/gi;
const BEARER = /\b(Bearer\s+)[^\s"',}]+/gi;
const VALUE = `"(?:[^"\\\\\n]|\\\\.)*"|'[^'\n]*'|[^\\s"',;}]+`;
const ASSIGNMENT = new RegExp(`([\\w.-]*(?:${SECRET_NAME})[\\w.-]*["']?\\s*[:=]\\s*)(?:${VALUE})`, 'gi');
/** Lines NAME:HEXKEY of pre-shared keys; devices of the kernel are named in the same way. */
const NAMED_KEY = /\b(?!cellblock:)([\w.@-]+):[0-9a-f]{32,}\b/gi;
/** Ids have 32 digits; keys have more. */
const LONG_HEX = /\b[0-9a-f]{33,}\b/gi;

/** What a refusal of a configuration says stands there, as it is, or within a string of JSON: `"log.level" is "this"`. */
const CONFIGURED = /(\\?"[a-z_]+(?:\.[a-z_]+)+\\?" is )\\?".*?\\?"(?=[.,\s\\]|$)/g;
const ADDRESS = /(coordinator: )\\?".*?\\?"( is no address)/g;

/** A text as it may be shown. */
export function scrubText(text: string): string {
  return withoutCredentials(text.replace(PEM, REDACTED))
    .replace(CONFIGURED, `$1${REDACTED}`)
    .replace(ADDRESS, `$1${REDACTED}$2`)
    .replace(AUTHORIZATION, `$1${REDACTED}`)
    .replace(BEARER, `$1${REDACTED}`)
    .replace(ASSIGNMENT, `$1"${REDACTED}"`)
    .replace(NAMED_KEY, `$1:${REDACTED}`)
    .replace(LONG_HEX, REDACTED);
}

/** As tokens are made: long, of small and capital letters and digits. Names of volumes may be so too; in a log they are not needed. */
const RANDOM = /(?=[\w+=~-]*[a-z])(?=[\w+=~-]*[A-Z])(?=[\w+=~-]*\d)[\w+=~-]{24,}/g;

/** A line of a log, where anything may stand. */
export function scrubLine(line: string): string {
  return scrubText(line).replace(RANDOM, REDACTED);
}

/** A value of an answer of the agent, or of a report. */
export function scrubValue(value: unknown, key = ''): unknown {
  if (typeof value === 'string') {
    const isSecret = SECRET_KEY.test(key) && !PLACE_KEY.test(key);
    return isSecret ? REDACTED : scrubText(value);
  }
  if (Array.isArray(value)) return value.map((one) => scrubValue(one, key));
  if (typeof value !== 'object' || value === null) return value;
  // What programs keep there is theirs.
  if (key === 'xattrs') return Object.fromEntries(Object.keys(value).map((name) => [name, REDACTED]));
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, scrubValue(inner, name)]));
}
