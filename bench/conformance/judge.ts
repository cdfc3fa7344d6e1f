// Judges one case without a test runner: every claim is looked at, those that do not hold are kept with what was seen.
import { isDeepStrictEqual } from 'node:util';
import type { Claims } from '../../test/conformance/target.js';
import { REP } from '../../test/support/nbd-wire.js';

const REPLY_NAMES = new Map(
  Object.entries(REP).map(([name, value]) => [
    value as number,
    name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(),
  ]),
);

const isRefusal = (value: unknown): value is number => typeof value === 'number' && value >= 2 ** 31;

/** A value in a few words. Replies that refuse an option get their names. */
function show(value: unknown): string {
  if (isRefusal(value)) return REPLY_NAMES.get(value) ?? `0x${value.toString(16)}`;
  if (Buffer.isBuffer(value)) return `${value.length} bytes`;
  if (typeof value === 'bigint' || typeof value === 'string') return String(value);
  const text =
    JSON.stringify(value, (_key, one) => (typeof one === 'bigint' ? String(one) : one)) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** A reply to an option: 1 is ACK only beside a refusal. */
const reply = (value: unknown): string => (value === REP.ack ? 'ACK' : show(value));

export class Judge implements Claims {
  readonly failures: string[] = [];
  claims = 0;

  ok(value: unknown, message = 'a claim'): void {
    this.#claim(Boolean(value), `${message}: not so`);
  }

  notOk(value: unknown, message = 'a claim'): void {
    this.#claim(!value, `${message}: ${show(value)}`);
  }

  equal(found: unknown, wanted: unknown, message?: string): void {
    const about = message === undefined ? '' : `${message}: `;
    const [seen, due] =
      isRefusal(found) || isRefusal(wanted) ? [reply(found), reply(wanted)] : [show(found), show(wanted)];
    this.#claim(Object.is(found, wanted), `${about}${seen} instead of ${due}`);
  }

  not(found: unknown, unwanted: unknown, message?: string): void {
    const about = message === undefined ? '' : `${message}: `;
    this.#claim(!Object.is(found, unwanted), `${about}${show(unwanted)}`);
  }

  same(found: unknown, wanted: unknown, message?: string): void {
    const about = message === undefined ? '' : `${message}: `;
    this.#claim(isDeepStrictEqual(found, wanted), `${about}${show(found)} instead of ${show(wanted)}`);
  }

  match(found: unknown, pattern: RegExp | string, message?: string): void {
    const about = message === undefined ? '' : `${message}: `;
    const holds = typeof pattern === 'string' ? String(found).includes(pattern) : pattern.test(String(found));
    this.#claim(holds, `${about}"${show(found)}"`);
  }

  async resolves(promise: Promise<unknown>, message = 'a claim'): Promise<void> {
    try {
      await promise;
      this.#claim(true, '');
    } catch (error) {
      this.#claim(false, `${message}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #claim(holds: boolean, failure: string): void {
    this.claims += 1;
    if (!holds) this.failures.push(failure);
  }
}
