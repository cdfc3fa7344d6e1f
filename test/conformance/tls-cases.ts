// STARTTLS as the protocol document has it, against two servers: one that forces TLS, and one that offers it and has an export
// that is for TLS only.
import type { ConnectionOptions } from 'node:tls';
import { CMD, infoRequest, MIB, metaRequest, OPT, optionMessage, REP } from '../support/nbd-wire.js';
import { last, RawNbd } from '../support/raw-nbd.js';
import type { RequirementId } from './requirements.js';
import type { Claims } from './target.js';

export interface TlsTarget {
  forced: string;
  selective: string;
  /** An export both have. */
  open: string;
  /** One that the selective server has in TLS only. */
  secret: string;
  /** How a client trusts both. */
  client: ConnectionOptions;
}

export interface TlsCase {
  name: string;
  covers: readonly RequirementId[];
  run: (t: Claims, target: TlsTarget) => Promise<void>;
}

const names = async (client: RawNbd): Promise<string[]> =>
  (await client.option(OPT.list))
    .slice(0, -1)
    .map(({ data }) => data.toString('utf8', 4, 4 + data.readUInt32BE(0)));

export const tlsCases: TlsCase[] = [
  {
    name: 'FORCED: every option but ABORT and STARTTLS gets ERR_TLS_REQD, with or without data, known or not',
    covers: ['tls-consistent', 'forced-others', 'forced-go', 'forced-no-infos'],
    run: async (t, { forced, open }) => {
      const client = await RawNbd.negotiate(forced);
      const data: Record<number, Buffer> = {
        [OPT.info]: infoRequest(open),
        [OPT.go]: infoRequest(open),
        [OPT.listMetaContext]: metaRequest(open, []),
        [OPT.setMetaContext]: metaRequest(open, ['base:allocation']),
      };
      const others = Object.values(OPT).filter(
        (option) => option !== OPT.abort && option !== OPT.startTls && option !== OPT.exportName,
      );
      for (const option of [...others, 4711]) {
        const replies = await client.option(option, data[option]);
        t.same([replies.length, last(replies).type], [1, REP.errTlsReqd], `option ${option}`);
      }
      t.equal(await client.optionEnd(OPT.abort), REP.ack, 'ABORT');
      t.equal((await client.readToEnd()).length, 0, 'and it closes');
    },
  },
  {
    name: 'FORCED: EXPORT_NAME in clear closes the connection',
    covers: ['forced-export-name'],
    run: async (t, { forced, open }) => {
      const client = await RawNbd.negotiate(forced);
      client.send(optionMessage(OPT.exportName, Buffer.from(open)));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'FORCED: in TLS everything is served',
    covers: ['forced-ack', 'forced-all-over-tls', 'forced-not-after'],
    run: async (t, { forced, open, client: options }) => {
      const client = await RawNbd.negotiate(forced);
      await client.startTls(options);
      t.ok((await names(client)).includes(open), 'LIST');
      await client.negotiateStructured();
      await client.go(open);
      const content = Buffer.alloc(3 * MIB, 0x5a);
      t.equal(
        (await client.command({ type: CMD.write, length: content.length }, content)).error,
        0,
        'written',
      );
      const { data } = await client.command({ type: CMD.read, length: content.length });
      t.ok(data.equals(content), 'read');
      await client.leave();
    },
  },
  {
    name: 'SELECTIVE: what is for TLS only is neither listed nor described nor served in clear',
    covers: ['selective-only', 'selective-export-name', 'tls-consistent'],
    run: async (t, { selective, open, secret }) => {
      const client = await RawNbd.negotiate(selective);
      const listed = await names(client);
      t.ok(listed.includes(open) && !listed.includes(secret), 'LIST');
      await client.negotiateStructured();
      for (const option of [OPT.info, OPT.go]) {
        const replies = await client.option(option, infoRequest(secret));
        t.same([replies.length, last(replies).type], [1, REP.errTlsReqd], `option ${option}`);
      }
      // ERR_TLS_REQD is for INFO and GO; to the others it does not exist.
      for (const option of [OPT.listMetaContext, OPT.setMetaContext])
        t.equal(await client.optionEnd(option, metaRequest(secret, [])), REP.errUnknown, `option ${option}`);
      await client.go(open);
      await client.leave();
      const old = await RawNbd.negotiate(selective);
      old.send(optionMessage(OPT.exportName, Buffer.from(secret)));
      t.equal((await old.readToEnd()).length, 0, 'EXPORT_NAME closes');
    },
  },
  {
    name: 'SELECTIVE: in TLS it is all of that',
    covers: ['selective-ack', 'selective-not-after'],
    run: async (t, { selective, open, secret, client: options }) => {
      const client = await RawNbd.negotiate(selective);
      await client.startTls(options);
      const listed = await names(client);
      t.ok(listed.includes(open) && listed.includes(secret), 'LIST');
      await client.go(secret);
      await client.leave();
    },
  },
  {
    name: 'STARTTLS with data, and a second STARTTLS, get ERR_INVALID, and the handshake goes on',
    covers: ['forced-again', 'selective-again'],
    run: async (t, { forced, selective, open, client: options }) => {
      for (const address of [forced, selective]) {
        const client = await RawNbd.negotiate(address);
        const data = Buffer.from('data');
        t.equal(await client.optionEnd(OPT.startTls, data), REP.errInvalid, 'with data');
        await client.startTls(options);
        t.equal(await client.optionEnd(OPT.startTls), REP.errInvalid, 'in TLS');
        t.equal(await client.optionEnd(OPT.startTls, data), REP.errInvalid, 'in TLS with data');
        await client.go(open);
        await client.leave();
      }
    },
  },
  {
    name: 'what was negotiated in clear is forgotten',
    covers: ['starttls-forgets'],
    run: async (t, { selective, open, client: options }) => {
      const client = await RawNbd.negotiate(selective);
      await client.negotiateStructured();
      await client.setContexts(open, ['base:allocation']);
      await client.startTls(options);
      const again = await client.option(OPT.setMetaContext, metaRequest(open, ['base:allocation']));
      t.equal(
        last(again).type,
        REP.errInvalid,
        'contexts need structured replies, which are to be negotiated',
      );
      client.structured = false;
      await client.go(open);
      t.equal((await client.command({ type: CMD.read, length: 4096 })).data.length, 4096, 'simple replies');
      await client.leave();
    },
  },
  {
    name: 'ABORT before and after STARTTLS is acknowledged',
    covers: ['abort-ack', 'starttls-answer'],
    run: async (t, { forced, client: options }) => {
      for (const secure of [false, true]) {
        const client = await RawNbd.negotiate(forced);
        if (secure) await client.startTls(options);
        t.equal(await client.optionEnd(OPT.abort), REP.ack, secure ? 'in TLS' : 'in clear');
        t.equal((await client.readToEnd()).length, 0, 'closed');
        client.close();
      }
    },
  },
  {
    name: 'bytes in clear behind STARTTLS close the connection, and nothing of them is carried out',
    covers: ['forced-all-over-tls', 'bytes-harmless'],
    run: async (t, { selective, open }) => {
      const start = optionMessage(OPT.startTls);
      const behind = [optionMessage(OPT.go, infoRequest(open)), optionMessage(OPT.list), Buffer.from('x')];
      for (const bytes of behind) {
        const client = await RawNbd.negotiate(selective);
        client.send(Buffer.concat([start, bytes]));
        const reply = await client.readOptionReply();
        t.same([reply.option, reply.type], [OPT.startTls, REP.ack], 'the only answer');
        t.equal((await client.readToEnd()).length, 0, 'then the end');
      }
    },
  },
  {
    name: 'NBD instead of TLS after the ACK ends the connection',
    covers: ['forced-failed-handshake'],
    run: async (t, { forced, selective, open }) => {
      for (const address of [forced, selective]) {
        const client = await RawNbd.negotiate(address);
        t.equal(await client.optionEnd(OPT.startTls), REP.ack);
        client.send(optionMessage(OPT.go, infoRequest(open)));
        const answer = await client.readToEnd();
        // At most an alert of TLS, which is no answer of NBD.
        t.ok(answer.length === 0 || answer[0] === 21, answer.toString('hex'));
      }
    },
  },
];
