// One case against one server, to an outcome: the server may do anything, hang and die included.
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { offersOf } from '../../test/conformance/offers.js';
import {
  type Case,
  type Group,
  lacking,
  type Need,
  type Offer,
  seenBy,
} from '../../test/conformance/target.js';
import { lackingTls, type TlsCase, type TlsTarget } from '../../test/conformance/tls-cases.js';
import type { Certificates } from '../../test/support/certificates.js';
import { ConnectionEnded } from '../../test/support/nbd-answers.js';
import { Judge } from './judge.js';
import type { Served, Server } from './servers.js';
import type { Started } from './started.js';
import type { TlsServed, TlsServer } from './tls-servers.js';

export type Verdict = 'passes' | 'fails' | 'not offered' | 'hangs' | 'dies';

export interface Outcome {
  verdict: Verdict;
  /** What was seen, in a few words; what is lacking; empty for a pass. */
  seen: string;
}

/** Far above what any case takes: who needs longer hangs. */
const LIMIT_MS = 60_000;
/** A case whose server was killed ends by itself; this is for one that does not. */
const GRACE_MS = 5_000;

const needsOf = ({ needs = [] }: Case): readonly Need[] => (typeof needs === 'string' ? [needs] : needs);

export class Trials {
  readonly #directory: string;

  /** Sockets lie below `directory`: it has to be short. */
  constructor(directory: string) {
    this.#directory = directory;
  }

  async offersOf(server: Server): Promise<ReadonlySet<Offer>> {
    const wish = { readOnly: false, bitmap: false };
    const start = (directory: string): Promise<Served> => server.start(directory, wish);
    return this.#with(start, async ({ target, hasSecondExport }) => {
      const found = await offersOf(target.address, target.writable);
      if (hasSecondExport) found.add('secondExport');
      return found;
    });
  }

  async judge(server: Server, offers: ReadonlySet<Offer>, group: Group, one: Case): Promise<Outcome> {
    const needs = needsOf(one);
    const wish = { readOnly: needs.includes('readOnly'), bitmap: needs.includes('bitmap') };
    const start = (directory: string): Promise<Served> => server.start(directory, wish);
    return this.#with(start, (served) => {
      // A server is held to what it has not promised only by the cases that are about nothing else.
      const promises = server.name === 'cellblock' || needs.includes('promises');
      const target = seenBy(group, { ...served.target, promises, offers });
      const need = lacking(one, target);
      if (need !== null) return { verdict: 'not offered', seen: need };
      return tried(served, (judge) => one.run(judge, target));
    });
  }

  async judgeTls(
    server: TlsServer,
    offers: ReadonlySet<Offer>,
    certificates: Certificates,
    one: TlsCase,
  ): Promise<Outcome> {
    const start = (directory: string): Promise<TlsServed> => server.start(directory, certificates);
    return this.#with(start, (served) => {
      const target: TlsTarget = {
        ...served.target,
        contexts: offers.has('contexts'),
        // With a certificate: nbd-server serves nobody without.
        client: {
          ca: certificates.read('ca-cert.pem'),
          servername: 'localhost',
          cert: certificates.read('client-cert.pem'),
          key: certificates.read('client-key.pem'),
        },
        promises: server.name === 'cellblock' || (one.needs ?? []).includes('promises'),
      };
      const need = lackingTls(one, target);
      if (need !== null) return { verdict: 'not offered', seen: need };
      return tried(served, (judge) => one.run(judge, target));
    });
  }

  async #with<S extends Started, T>(
    start: (directory: string) => Promise<S>,
    work: (served: S) => T | Promise<T>,
  ): Promise<T> {
    const directory = await mkdtemp(join(this.#directory, 'c'));
    try {
      const served = await start(directory);
      try {
        return await work(served);
      } finally {
        await served.leave();
      }
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

async function tried(served: Started, work: (judge: Judge) => Promise<void>): Promise<Outcome> {
  const judge = new Judge();
  const limit = new AbortController();
  let thrown: unknown;
  const run = work(judge).catch((error: unknown) => {
    thrown = error;
  });
  const tooLong = sleep(LIMIT_MS, 'too long', { signal: limit.signal }).catch(() => 'in time');
  const isTooLong = (await Promise.race([run, tooLong])) === 'too long';
  limit.abort();
  const isAlive = served.isAlive();
  if (isTooLong) {
    await served.kill();
    await Promise.race([run, sleep(GRACE_MS, null, { ref: false })]);
  }
  return outcome(judge, { isAlive, isTooLong, thrown });
}

function outcome(judge: Judge, end: { isAlive: boolean; isTooLong: boolean; thrown: unknown }): Outcome {
  const seen = seenOf(judge, end.isTooLong ? undefined : end.thrown);
  if (!end.isAlive) return { verdict: 'dies', seen };
  if (end.isTooLong) return { verdict: 'hangs', seen };
  return { verdict: seen === '' ? 'passes' : 'fails', seen };
}

/** The first thing that was wrong, and how many more. */
function seenOf({ failures }: Judge, thrown: unknown): string {
  const all = [...failures];
  if (thrown instanceof ConnectionEnded) all.push(`closed: ${thrown.message}`);
  else if (thrown !== undefined) all.push(thrown instanceof Error ? thrown.message : String(thrown));
  if (all.length === 0) return '';
  return all.length === 1 ? (all[0] as string) : `${all[0]} (and ${all.length - 1} more)`;
}
