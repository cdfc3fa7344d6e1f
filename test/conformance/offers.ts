// What a server says it can do, by its options and flags.
import { CMD, OPT, REP, TRANSMISSION } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { OFFERS, type Offer } from './target.js';

/** Whether it knows extended headers at all: who does not is told apart from who gets them wrong. */
async function knowsExtendedHeaders(address: string): Promise<boolean> {
  const client = await RawNbd.negotiate(address);
  const end = await client.optionEnd(OPT.extendedHeaders);
  client.close();
  return end !== REP.errUnsup;
}

/** All but `secondExport`, which cannot be asked for. */
export async function offersOf(address: string, writable: string): Promise<Set<Offer>> {
  const found = new Set<Offer>();
  if (await knowsExtendedHeaders(address)) found.add('extendedHeaders');
  const client = await RawNbd.negotiate(address);
  if ((await client.optionEnd(OPT.structuredReply)) === REP.ack) {
    found.add('structured');
    const contexts = await client.setContexts(writable, ['base:allocation']).catch(() => new Map());
    if (contexts.size > 0) found.add('contexts');
  }
  const { flags } = await client.go(writable);
  for (const offer of OFFERS) {
    if (offer in TRANSMISSION && flags & TRANSMISSION[offer as keyof typeof TRANSMISSION]) found.add(offer);
  }
  client.request({ type: CMD.disc });
  client.close();
  return found;
}
