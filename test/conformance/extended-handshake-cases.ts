// Extended headers: how they are negotiated (doc/proto.md of NetworkBlockDevice/nbd, branch extension-ext-header).
import { CMD, infoRequest, metaRequest, OPT, optionMessage, REP, TRANSMISSION } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { CONTEXT, stays } from './extended-requests.js';
import type { Case } from './target.js';

export const extendedHandshakeCases: Case[] = [
  {
    name: 'EXTENDED_HEADERS is acknowledged, with structured replies negotiated before or not',
    covers: ['ext-negotiated'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      for (const before of [false, true]) {
        const client = await RawNbd.negotiate(address);
        if (before) await client.negotiateStructured();
        await client.negotiateExtended();
        await client.go(writable);
        t.equal((await client.command({ type: CMD.read, length: 512 })).error, 0);
        client.close();
      }
    },
  },
  {
    name: 'asked for again it is acknowledged or invalid, and the first answer stands',
    covers: ['ext-negotiated'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateExtended();
      const again = await client.optionEnd(OPT.extendedHeaders);
      t.ok(again === REP.ack || again === REP.errInvalid, again.toString(16));
      await client.go(writable);
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'with data it is invalid and negotiates nothing',
    covers: ['ext-data'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      t.equal(await client.optionEnd(OPT.extendedHeaders, Buffer.from('x')), REP.errInvalid);
      await client.go(writable);
      t.equal((await client.command({ type: CMD.read, length: 512 })).error, 0, 'answered simply');
      client.close();
    },
  },
  {
    name: 'STRUCTURED_REPLY after it is ERR_EXT_HEADER_REQD and takes nothing back',
    covers: ['ext-structured'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateExtended();
      t.equal(await client.optionEnd(OPT.structuredReply), REP.errExtHeaderReqd);
      await client.go(writable);
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'EXPORT_NAME after it closes without a byte',
    covers: ['ext-export-name'],
    needs: ['extendedHeaders', 'promises'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateExtended();
      client.send(optionMessage(OPT.exportName, Buffer.from(writable)));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'GO is not unsupported after it, and refused as ever: an unknown export is ERR_UNKNOWN',
    covers: ['ext-go'],
    needs: 'extendedHeaders',
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateExtended();
      t.equal(await client.optionEnd(OPT.go, infoRequest('no export is called like this')), REP.errUnknown);
      t.equal((await client.go(writable)).size, size);
      client.close();
    },
  },
  {
    name: 'it is enough for meta contexts, which are listed and selected as with structured replies',
    covers: ['ext-contexts'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateExtended();
      t.equal(await client.optionEnd(OPT.listMetaContext, metaRequest(writable, [])), REP.ack);
      t.same(await client.listContexts(writable, [CONTEXT]), [CONTEXT]);
      t.same([...(await client.setContexts(writable, [CONTEXT])).keys()], [CONTEXT]);
      client.close();
    },
  },
  {
    name: 'DF is offered with it, and INFO says what GO says',
    covers: ['ext-contexts', 'go-as-info'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      for (const contexts of [[], [CONTEXT]]) {
        const client = await RawNbd.negotiate(address);
        await client.negotiateExtended();
        if (contexts.length > 0) await client.setContexts(writable, contexts);
        const told = await client.info(writable);
        const entered = await client.go(writable);
        t.ok(entered.flags & TRANSMISSION.df);
        t.equal(entered.flags, told.flags, `with ${contexts.length} contexts`);
        client.close();
      }
    },
  },
  {
    name: 'BLOCK_STATUS_PAYLOAD is not offered with structured replies alone, nor by GO without contexts',
    covers: ['ext-payload-flag'],
    needs: 'extendedHeaders',
    async run(t, { address, writable }) {
      for (const [extended, contexts] of [
        [false, [CONTEXT]],
        [false, []],
        [true, []],
      ] as const) {
        const { client, info } = await RawNbd.open(address, writable, {
          extended,
          ...(contexts.length > 0 && { contexts: [...contexts] }),
        });
        t.notOk(info.flags & TRANSMISSION.blockStatusPayload, `extended: ${extended}`);
        client.close();
      }
    },
  },
  {
    name: 'BLOCK_STATUS_PAYLOAD is offered where there are contexts to choose from',
    covers: ['ext-payload-flag'],
    needs: ['extendedHeaders', 'promises'],
    async run(t, { address, writable }) {
      const { client, info } = await RawNbd.open(address, writable, { extended: true, contexts: [CONTEXT] });
      t.ok(info.flags & TRANSMISSION.blockStatusPayload);
      client.close();
    },
  },
];
