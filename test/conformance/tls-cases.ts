// STARTTLS as the protocol document has it, against servers in two modes: one that forces TLS, and one that leaves it to the client
// and may have an export that is for TLS only.
import type { ConnectionOptions } from 'node:tls';
import { ConnectionEnded, last } from '../support/nbd-answers.js';
import {
  CMD,
  HANDSHAKE,
  infoRequest,
  MIB,
  metaRequest,
  OPT,
  optionMessage,
  REP,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import type { RequirementId } from './requirements.js';
import type { Claims } from './target.js';

export interface TlsTarget {
  /** Where everything is in TLS, or null. */
  forced: string | null;
  /** Where clients choose, or null. */
  selective: string | null;
  /** An export of both. */
  open: string;
  /** One that the selective server has in TLS only, or null. */
  secret: string | null;
  /** It has structured replies and contexts, which it could keep from before TLS. */
  contexts: boolean;
  /** How a client trusts both. */
  client: ConnectionOptions;
  /** See target.ts. */
  promises: boolean;
}

export type TlsNeed = 'forced' | 'selective' | 'secret' | 'contexts' | 'promises';

export interface TlsCase {
  name: string;
  covers: readonly RequirementId[];
  /** None: one of the modes. */
  needs?: readonly TlsNeed[];
  run: (t: Claims, target: TlsTarget) => Promise<void>;
}

/** What the case needs and the server has not, or null. */
export function lackingTls({ needs = [] }: TlsCase, target: TlsTarget): TlsNeed | null {
  return needs.find((need) => !target[need]) ?? null;
}

/** The servers at hand, by mode. */
const modes = ({ forced, selective }: TlsTarget): [mode: string, address: string][] => [
  ...(forced === null ? [] : [['forced', forced] as [string, string]]),
  ...(selective === null ? [] : [['selective', selective] as [string, string]]),
];

/** Of a case that needs it. */
const given = (value: string | null): string => value as string;

async function secured(address: string, options: ConnectionOptions): Promise<RawNbd> {
  const client = await RawNbd.negotiate(address);
  await client.startTls(options);
  return client;
}

const names = async (client: RawNbd): Promise<string[]> =>
  (await client.option(OPT.list))
    .slice(0, -1)
    .map(({ data }) => data.toString('utf8', 4, 4 + data.readUInt32BE(0)));

/** The option with well-formed data, where it has some. */
function dataOf(option: number, name: string): Buffer | undefined {
  if (option === OPT.info || option === OPT.go) return infoRequest(name);
  if (option === OPT.listMetaContext) return metaRequest(name, []);
  return option === OPT.setMetaContext ? metaRequest(name, ['base:allocation']) : undefined;
}

/** The type of the reply that ends the option; null when the connection ends instead. */
async function endOrNull(client: RawNbd, option: number, data?: Buffer): Promise<number | null> {
  try {
    return await client.optionEnd(option, data);
  } catch (error) {
    if (error instanceof ConnectionEnded) return null;
    throw error;
  }
}

/** Enters transmission, and what is written can be read. */
async function serves(t: Claims, client: RawNbd, name: string): Promise<void> {
  await client.go(name);
  const content = Buffer.alloc(3 * MIB, 0x5a);
  t.equal((await client.command({ type: CMD.write, length: content.length }, content)).error, 0, 'written');
  const { data } = await client.command({ type: CMD.read, length: content.length });
  t.ok(data.equals(content), 'read');
  await client.leave();
}

export const tlsCases: TlsCase[] = [
  {
    name: 'FORCED: every option but ABORT and STARTTLS gets ERR_TLS_REQD and nothing before it, known or not',
    covers: ['tls-consistent', 'forced-others', 'forced-go', 'forced-no-infos'],
    needs: ['forced'],
    run: async (t, { forced, open }) => {
      const client = await RawNbd.negotiate(given(forced));
      const others = Object.values(OPT).filter(
        (option) => option !== OPT.abort && option !== OPT.startTls && option !== OPT.exportName,
      );
      for (const option of [...others, 4711]) {
        const replies = await client.option(option, dataOf(option, open));
        t.same([replies.length, last(replies).type], [1, REP.errTlsReqd], `option ${option}`);
      }
      client.close();
    },
  },
  {
    name: 'FORCED: EXPORT_NAME in clear closes the connection',
    covers: ['forced-export-name'],
    needs: ['forced'],
    run: async (t, { forced, open }) => {
      const client = await RawNbd.negotiate(given(forced));
      client.send(optionMessage(OPT.exportName, Buffer.from(open)));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'FORCED: in TLS everything is served',
    covers: ['forced-ack', 'forced-all-over-tls', 'forced-not-after'],
    needs: ['forced'],
    run: async (t, { forced, open, client: options }) => {
      const client = await secured(given(forced), options);
      t.ok((await names(client)).includes(open), 'LIST');
      client.structured = (await client.optionEnd(OPT.structuredReply)) === REP.ack;
      await serves(t, client, open);
    },
  },
  {
    name: 'SELECTIVE: what is not for TLS only is served in clear and in TLS',
    covers: ['selective-ack', 'selective-not-after', 'tls-consistent'],
    needs: ['selective'],
    run: async (t, { selective, open, client: options }) => {
      const clear = await RawNbd.negotiate(given(selective));
      await serves(t, clear, open);
      const client = await secured(given(selective), options);
      t.ok((await names(client)).includes(open), 'LIST');
      await serves(t, client, open);
    },
  },
  {
    name: 'SELECTIVE: in clear, INFO and GO of what is for TLS only get ERR_TLS_REQD, no other option does, and EXPORT_NAME closes',
    covers: ['selective-only', 'selective-export-name', 'selective-not-after'],
    needs: ['selective', 'secret'],
    run: async (t, { selective, open, secret }) => {
      const client = await RawNbd.negotiate(given(selective));
      for (const option of [OPT.info, OPT.go]) {
        const replies = await client.option(option, infoRequest(given(secret)));
        t.equal(last(replies).type, REP.errTlsReqd, `option ${option}`);
      }
      await client.optionEnd(OPT.structuredReply);
      for (const option of [OPT.list, OPT.listMetaContext, OPT.setMetaContext, 4711]) {
        const end = await client.optionEnd(option, dataOf(option, given(secret)));
        t.not(end, REP.errTlsReqd, `option ${option}`);
      }
      t.equal(await client.optionEnd(OPT.info, infoRequest(open)), REP.ack, 'another export');
      client.close();
      const old = await RawNbd.negotiate(given(selective));
      old.send(optionMessage(OPT.exportName, Buffer.from(given(secret))));
      t.equal((await old.readToEnd()).length, 0, 'EXPORT_NAME');
    },
  },
  {
    name: 'SELECTIVE: in clear what is for TLS only is not listed, has no contexts, and ERR_TLS_REQD has a sentence',
    covers: ['tls-only-hidden', 'sentences'],
    needs: ['selective', 'secret', 'promises'],
    run: async (t, { selective, open, secret }) => {
      const client = await RawNbd.negotiate(given(selective));
      const listed = await names(client);
      t.ok(listed.includes(open) && !listed.includes(given(secret)), 'LIST');
      await client.negotiateStructured();
      for (const option of [OPT.listMetaContext, OPT.setMetaContext]) {
        const end = await client.optionEnd(option, metaRequest(given(secret), []));
        t.equal(end, REP.errUnknown, `option ${option}`);
      }
      const replies = await client.option(OPT.info, infoRequest(given(secret)));
      t.equal(replies.length, 1);
      t.match(last(replies).data.toString(), /TLS/);
      client.close();
    },
  },
  {
    name: 'SELECTIVE: in TLS what is for TLS only is listed and served',
    covers: ['selective-ack', 'selective-not-after'],
    needs: ['selective', 'secret'],
    run: async (t, { selective, open, secret, client: options }) => {
      const client = await secured(given(selective), options);
      const listed = await names(client);
      t.ok(listed.includes(open) && listed.includes(given(secret)), 'LIST');
      await client.go(given(secret));
      await client.leave();
    },
  },
  {
    name: 'a second STARTTLS gets ERR_INVALID, and the handshake goes on',
    covers: ['forced-again', 'selective-again'],
    run: async (t, target) => {
      for (const [mode, address] of modes(target)) {
        const client = await secured(address, target.client);
        t.equal(await client.optionEnd(OPT.startTls), REP.errInvalid, mode);
        await client.go(target.open);
        await client.leave();
      }
    },
  },
  {
    name: 'STARTTLS with data gets ERR_INVALID, before TLS and in it, and the handshake goes on',
    covers: ['starttls-data'],
    needs: ['promises'],
    run: async (t, target) => {
      const data = Buffer.from('data');
      for (const [mode, address] of modes(target)) {
        const client = await RawNbd.negotiate(address);
        t.equal(await client.optionEnd(OPT.startTls, data), REP.errInvalid, `${mode}, in clear`);
        await client.startTls(target.client);
        t.equal(await client.optionEnd(OPT.startTls, data), REP.errInvalid, `${mode}, in TLS`);
        await client.go(target.open);
        await client.leave();
      }
    },
  },
  {
    name: 'what was negotiated in clear is forgotten',
    covers: ['starttls-forgets'],
    needs: ['selective', 'contexts'],
    run: async (t, { selective, open, client: options }) => {
      const client = await RawNbd.negotiate(given(selective));
      await client.negotiateStructured();
      await client.setContexts(open, ['base:allocation']);
      await client.startTls(options);
      client.structured = false;
      await client.go(open);
      t.equal((await client.command({ type: CMD.read, length: 4096 })).data.length, 4096, 'simple replies');
      const status = await client.command({ type: CMD.blockStatus, length: 4096 });
      t.not(status.error, 0, 'no contexts');
      await client.leave();
    },
  },
  {
    name: 'ABORT before and after STARTTLS is acknowledged',
    covers: ['abort-ack', 'starttls-answer'],
    run: async (t, target) => {
      for (const [mode, address] of modes(target)) {
        for (const secure of [false, true]) {
          const client = await RawNbd.negotiate(address);
          if (secure) await client.startTls(target.client);
          t.equal(await client.optionEnd(OPT.abort), REP.ack, `${mode}, ${secure ? 'in TLS' : 'in clear'}`);
          client.endSending();
          t.equal((await client.readToEnd()).length, 0, 'closed');
          client.close();
        }
      }
    },
  },
  {
    name: 'bytes in clear right behind STARTTLS close the connection, and nothing of them is carried out',
    covers: ['forced-all-over-tls', 'bytes-harmless'],
    run: async (t, target) => {
      const start = optionMessage(OPT.startTls);
      const go = optionMessage(OPT.go, infoRequest(target.open));
      for (const [mode, address] of modes(target)) {
        for (const bytes of [go, optionMessage(OPT.list)]) {
          const client = await RawNbd.negotiate(address);
          client.send(Buffer.concat([start, bytes]));
          const reply = await client.readOptionReply();
          t.same([reply.option, reply.type], [OPT.startTls, REP.ack], `${mode}: the only answer`);
          endedInTls(t, await client.readToEnd(), mode);
        }
      }
    },
  },
  {
    name: 'a single byte in clear behind STARTTLS closes the connection',
    covers: ['bytes-harmless'],
    needs: ['promises'],
    run: async (t, target) => {
      for (const [mode, address] of modes(target)) {
        const client = await RawNbd.negotiate(address);
        client.send(Buffer.concat([optionMessage(OPT.startTls), Buffer.from('x')]));
        t.equal((await client.readOptionReply()).type, REP.ack, mode);
        t.equal((await client.readToEnd()).length, 0, mode);
      }
    },
  },
  {
    name: 'NBD instead of TLS after the ACK ends the connection',
    covers: ['forced-failed-handshake'],
    run: async (t, target) => {
      for (const [mode, address] of modes(target)) {
        const client = await RawNbd.negotiate(address);
        t.equal(await client.optionEnd(OPT.startTls), REP.ack, mode);
        client.send(optionMessage(OPT.go, infoRequest(target.open)));
        endedInTls(t, await client.readToEnd(), mode);
      }
    },
  },
  {
    name: 'a client without the flag of fixed newstyle cannot begin TLS, and is not told to',
    covers: ['tls-only-fixed', 'notls-starttls', 'notls-never-required'],
    run: async (t, target) => {
      for (const [mode, address] of modes(target)) {
        for (const flags of [0, HANDSHAKE.noZeroes]) {
          const starting = await RawNbd.negotiate(address, flags);
          const end = await endOrNull(starting, OPT.startTls);
          // An option in other than fixed newstyle may end the connection too.
          t.ok(end === null || (end >= 2 ** 31 && end !== REP.errTlsReqd), `${mode}: STARTTLS: ${end}`);
          starting.close();
          for (const option of [OPT.list, OPT.info, OPT.go, 4711]) {
            const client = await RawNbd.negotiate(address, flags);
            const reply = await endOrNull(client, option, dataOf(option, target.secret ?? target.open));
            t.not(reply, REP.errTlsReqd, `${mode}: option ${option}`);
            client.close();
          }
        }
      }
    },
  },
  {
    name: 'a client without the flag of fixed newstyle is refused in a sentence, and served what needs no TLS',
    covers: ['tls-only-fixed', 'sentences'],
    needs: ['forced', 'selective', 'promises'],
    run: async (t, { forced, selective, open }) => {
      for (const address of [given(forced), given(selective)]) {
        const client = await RawNbd.negotiate(address, 0);
        const refusal = last(await client.option(OPT.startTls));
        t.ok(refusal.type >= 2 ** 31, 'refused');
        t.ok(refusal.data.length > 0, 'a sentence');
        client.close();
      }
      const old = await RawNbd.negotiate(given(forced), 0);
      old.send(optionMessage(OPT.exportName, Buffer.from(open)));
      t.equal((await old.readToEnd()).length, 0, 'nothing in clear where TLS is forced');
      const client = await RawNbd.negotiate(given(selective), 0);
      t.ok((await client.exportName(open, { zeroes: true })).size > 0n);
      client.close();
    },
  },
  {
    name: 'TLS 1.2 is spoken with a client that speaks no other',
    covers: ['tls-1.2'],
    run: async (t, target) => speaks(t, target, 'TLSv1.2'),
  },
  {
    name: 'TLS 1.3 is spoken with a client that speaks no other',
    covers: ['tls-1.3'],
    run: async (t, target) => speaks(t, target, 'TLSv1.3'),
  },
];

/** After the acknowledgement nothing comes but, at most, an alert of TLS. */
function endedInTls(t: Claims, answer: Buffer, mode: string): void {
  t.ok(answer.length === 0 || answer[0] === 21, `${mode}: ${answer.toString('hex', 0, 40)}`);
}

async function speaks(t: Claims, target: TlsTarget, version: 'TLSv1.2' | 'TLSv1.3'): Promise<void> {
  for (const [mode, address] of modes(target)) {
    const client = await RawNbd.negotiate(address);
    const session = await client.startTls({ ...target.client, minVersion: version, maxVersion: version });
    t.equal(session.getProtocol(), version, mode);
    await client.go(target.open);
    await client.leave();
  }
}
