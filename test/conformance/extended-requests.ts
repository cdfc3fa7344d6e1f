// Requests with extended headers, as the cases about them send them.

import type { Answer } from '../support/nbd-answers.js';
import { CMD, FLAG, MIB, requestMessage } from '../support/nbd-wire.js';
import type { RawNbd } from '../support/raw-nbd.js';
import { openTarget, type Target } from './target.js';

export const CONTEXT = 'base:allocation';
export const GIB4 = 2n ** 32n;

export const open = async (target: Target, ...contexts: string[]): Promise<RawNbd> =>
  (await openTarget(target, contexts.length > 0 ? { contexts } : {})).client;

export async function stays(client: RawNbd): Promise<boolean> {
  return (await client.command({ type: CMD.read, length: 512 })).error === 0;
}

/** A request that announces the payload with it, whatever its command is. */
export async function withPayload(
  client: RawNbd,
  type: number,
  payload: Buffer,
  fields: { offset?: bigint | number; flags?: number } = {},
): Promise<Answer> {
  const flags = (fields.flags ?? 0) | FLAG.payloadLen;
  const cookie = client.request({ type, ...fields, flags, length: payload.length }, payload);
  return client.readAnswer(cookie, null);
}

/** What looks like requests, for whoever took a payload for some. */
export function trap(length: number): Buffer {
  const one = requestMessage({ type: CMD.writeZeroes, offset: 70 * MIB, length: 4096 }, 'extended');
  return Buffer.alloc(length, one);
}

/** Writes where the trap would put zeros; the returned function says whether it is still there. */
export async function bait(target: Target): Promise<() => Promise<boolean>> {
  const bytes = Buffer.alloc(4096, 0x5e);
  const client = await open(target);
  await client.command({ type: CMD.write, offset: 70 * MIB, length: 4096 }, bytes);
  return async () => {
    const { data } = await client.command({ type: CMD.read, offset: 70 * MIB, length: 4096 });
    client.close();
    return data.equals(bytes);
  };
}
