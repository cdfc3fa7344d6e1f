// Exports a client may not use, the default export, and what an export says of itself.

import { last } from '../support/nbd-answers.js';
import { CMD, ERRNO, INFO, infoRequest, metaRequest, OPT, optionMessage, REP } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import type { Case } from './target.js';

/** Names and descriptions of LIST. */
async function list(client: RawNbd): Promise<Map<string, string>> {
  const replies = await client.option(OPT.list);
  return new Map(
    replies.slice(0, -1).map(({ data }) => {
      const end = 4 + data.readUInt32BE(0);
      return [data.toString('utf8', 4, end), data.toString('utf8', end)];
    }),
  );
}

const asking: [string, number, (name: string) => Buffer][] = [
  ['INFO', OPT.info, (name) => infoRequest(name)],
  ['GO', OPT.go, (name) => infoRequest(name)],
  ['LIST_META_CONTEXT', OPT.listMetaContext, (name) => metaRequest(name, [])],
  ['SET_META_CONTEXT', OPT.setMetaContext, (name) => metaRequest(name, ['base:allocation'])],
];

export const accessCases: Case[] = [
  {
    name: 'an export the client may not use is not listed',
    covers: ['access-lists'],
    needs: 'forbidden',
    async run(t, { address, forbidden, writable }) {
      const client = await RawNbd.negotiate(address);
      const listed = await list(client);
      t.notOk(listed.has(forbidden as string));
      t.ok(listed.has(writable), 'others are');
      client.close();
    },
  },
  ...asking.map(
    ([option, number, request]): Case => ({
      name: `${option} of an export the client may not use: ERR_POLICY with a sentence, and the connection goes on`,
      covers: ['access-lists'],
      needs: 'forbidden',
      async run(t, { address, forbidden, writable, size }) {
        const client = await RawNbd.negotiate(address);
        await client.negotiateStructured();
        const replies = await client.option(number, request(forbidden as string));
        t.equal(replies.length, 1, 'not a word about the export');
        t.equal(last(replies).type, REP.errPolicy);
        t.match(last(replies).data.toString(), /\w+ \w+/);
        t.equal((await client.go(writable)).size, size);
        client.close();
      },
    }),
  ),
  {
    name: 'EXPORT_NAME of an export the client may not use closes without an answer',
    covers: ['access-lists'],
    needs: 'forbidden',
    async run(t, { address, forbidden }) {
      const client = await RawNbd.negotiate(address);
      client.send(optionMessage(OPT.exportName, Buffer.from(forbidden as string)));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'a context that was selected for an export the client may not use counts for no other',
    covers: ['access-lists', 'set-replaces'],
    needs: 'forbidden',
    async run(t, { address, forbidden, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateStructured();
      await client.setContexts(writable, ['base:allocation']);
      await client.option(OPT.setMetaContext, metaRequest(forbidden as string, ['base:allocation']));
      await client.go(writable);
      const { error } = await client.command({ type: CMD.blockStatus, length: 4096 });
      t.equal(error, ERRNO.inval, 'BLOCK_STATUS without a context');
      client.close();
    },
  },
  {
    name: 'the empty name is the default export: INFO and GO, which say its real name',
    covers: ['default-export'],
    needs: 'defaultExport',
    async run(t, { address, defaultExport, size }) {
      for (const option of ['info', 'go'] as const) {
        const client = await RawNbd.negotiate(address);
        const info = await client[option]('', [INFO.name]);
        t.equal(info.size, size);
        t.equal(info.infos.get(INFO.name)?.toString(), defaultExport);
        client.close();
      }
    },
  },
  {
    name: 'the empty name is the default export: EXPORT_NAME',
    covers: ['default-export'],
    needs: 'defaultExport',
    async run(t, { address, size }) {
      const client = await RawNbd.negotiate(address);
      t.equal((await client.exportName('', { zeroes: false })).size, size);
      client.close();
    },
  },
  {
    name: 'contexts selected for the empty name are there after GO of the empty name',
    covers: ['default-export', 'set-same-name'],
    needs: 'defaultExport',
    async run(t, { address }) {
      const { client, contexts } = await RawNbd.open(address, '', { contexts: ['base:allocation'] });
      const { error, status } = await client.command({ type: CMD.blockStatus, length: 4096 });
      t.equal(error, 0);
      t.same([...status.keys()], [...contexts.values()]);
      client.close();
    },
  },
  {
    name: 'LIST has real names, not the empty one',
    covers: ['default-export'],
    needs: 'promises',
    async run(t, { address }) {
      const client = await RawNbd.negotiate(address);
      t.notOk((await list(client)).has(''));
      client.close();
    },
  },
  {
    name: 'DESCRIPTION is the same in INFO, GO and LIST, and comes only when it is asked for',
    covers: ['descriptions', 'infos'],
    needs: 'description',
    async run(t, { address, writable, description }) {
      const client = await RawNbd.negotiate(address);
      t.equal((await list(client)).get(writable), description);
      t.notOk((await client.info(writable)).infos.has(INFO.description));
      const info = await client.info(writable, [INFO.description]);
      t.equal(info.infos.get(INFO.description)?.toString(), description);
      const gone = await client.go(writable, [INFO.description]);
      t.equal(gone.infos.get(INFO.description)?.toString(), description);
      client.close();
    },
  },
];
