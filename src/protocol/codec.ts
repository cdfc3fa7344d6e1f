// From text to a checked message and back.
//
// Invariant: what leaves `decode` fits its schema; nothing a peer sends makes it throw. A refusal names keys, never values: they may be secret.

import type { TSchema } from '@sinclair/typebox';
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import { type Fault, fault } from './faults.js';
import { LIMITS } from './limits.js';
import { type Body, MESSAGES, type Message, type MessageType } from './messages.js';
import { SPOKEN_VERSIONS } from './version.js';

type Checks = { [T in MessageType]: TypeCheck<(typeof MESSAGES)[T]['schema']> };

const CHECKS = Object.fromEntries(
  Object.entries(MESSAGES).map(([type, { schema }]) => [type, TypeCompiler.Compile(schema)]),
) as unknown as Checks;

export type Decoded = { message: Message } | { fault: Fault };

export function decode(text: string): Decoded {
  if (text.length > LIMITS.messageBytes || Buffer.byteLength(text) > LIMITS.messageBytes)
    return wrong('too-large', `A message has more than ${LIMITS.messageBytes} bytes.`);
  if (isDeeperThan(text, LIMITS.depth))
    return wrong('too-large', `A message is nested more than ${LIMITS.depth} deep.`);
  const value = parse(text);
  if (typeof value !== 'object' || value === null)
    return wrong('malformed', 'A message is no object of JSON.');
  const { type } = value as { type?: unknown };
  if (typeof type !== 'string' || !Object.hasOwn(MESSAGES, type))
    return wrong('malformed', 'A message has no type that is known.');
  // Whoever speaks only other versions may say hello in its own way: what it needs to hear is which ones are spoken here.
  if (type === 'hello' && speaksOnlyOthers(value))
    return wrong('version-unsupported', `Spoken here: ${SPOKEN_VERSIONS.join(', ')}.`);
  const check = CHECKS[type as MessageType];
  if (check.Check(value)) return { message: value as Message };
  const where = check.Errors(value).First()?.path.slice(1).replaceAll('/', '.') ?? '';
  return wrong('malformed', `${article(type)} \`${type}\` does not fit its schema${at(where)}.`);
}

/** Throws what only a defect of the caller can cause: a message that its own schema refuses, or that is too large. */
export function encode(message: Message): string {
  return textOf(message, message);
}

/** As `encode`, without its place in the order, which `placed` adds. */
export function encodeBody(body: Body): string {
  return textOf({ ...body, seq: 1, ack: 0 } as Message, body);
}

/** `sent`: what is sent of the message now. It is written once: the text of a result is what most of an answer costs. */
function textOf(message: Message, sent: Message | Body): string {
  const { type } = message;
  const check: TypeCheck<TSchema> = CHECKS[type];
  const wrong = check.Check(message) ? undefined : check.Errors(message).First();
  if (wrong)
    throw new TypeError(`a \`${type}\` that does not fit its schema: ${wrong.path} ${wrong.message}`);
  return withinLimits(type, JSON.stringify(sent));
}

export function placed(bodyText: string, { seq, ack }: { seq: number; ack: number }): string {
  return `${bodyText.slice(0, -1)},"seq":${seq},"ack":${ack}}`;
}

/** Cuts a sentence to what a message takes. */
export function asText(text: string): string {
  return text.length <= LIMITS.text
    ? text
    : `${text.slice(0, LIMITS.text - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** Room for the numbers of its place, too. */
const SPARE_BYTES = 64;

function withinLimits(type: string, text: string): string {
  if (Buffer.byteLength(text) > LIMITS.messageBytes - SPARE_BYTES || isDeeperThan(text, LIMITS.depth))
    throw new RangeError(`a \`${type}\` exceeds the limits of a message`);
  return text;
}

function wrong(code: Fault['code'], message: string): Decoded {
  return { fault: fault(code, message) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function speaksOnlyOthers(value: object): boolean {
  const { versions } = value as { versions?: unknown };
  return (
    Array.isArray(versions) &&
    versions.length > 0 &&
    versions.every(
      (version) => Number.isSafeInteger(version) && version > 0 && !SPOKEN_VERSIONS.includes(version),
    )
  );
}

/** Before it is parsed: what is nested deep costs whoever walks it a stack. */
function isDeeperThan(text: string, limit: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === 0x5c) at++;
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) inString = true;
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > limit) return true;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return false;
}

/** A path may hold keys that a peer has chosen: only what looks like one of ours is repeated. */
function at(path: string): string {
  return /^[A-Za-z0-9.]{1,100}$/.test(path) ? ` at ${path}` : '';
}

function article(word: string): string {
  return /^[aeo]/.test(word) ? 'An' : 'A';
}
