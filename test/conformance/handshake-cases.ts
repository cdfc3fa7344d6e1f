// The handshake: greeting, client flags, and every option but the meta contexts.

import { ConnectionEnded, last } from '../support/nbd-answers.js';
import {
  HANDSHAKE,
  INFO,
  infoRequest,
  MAX_STRING,
  OPT,
  optionMessage,
  REP,
  string32,
  TRANSMISSION,
  u16,
  u32,
  u64,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { type Case, offers } from './target.js';

const UNKNOWN_NAME = 'no export is called like this';
const BOTH = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes;
const badNames: [string, Buffer][] = [
  ['a NUL', Buffer.from('a\0b')],
  ['bytes that are no UTF-8', Buffer.from([0x61, 0xff, 0xfe])],
  ['4097 bytes', Buffer.alloc(MAX_STRING + 1, 'a')],
];

/** The connection still takes options. */
async function goesOn(client: RawNbd, name: string): Promise<boolean> {
  return (await client.optionEnd(OPT.info, infoRequest(name))) === REP.ack;
}

/** Ends, and says nothing before; a server that speaks is not waited for. */
async function endsWithoutAByte(client: RawNbd): Promise<boolean> {
  try {
    await client.read(1);
    return false;
  } catch (error) {
    if (error instanceof ConnectionEnded) return true;
    throw error;
  }
}

export const greetingCases: Case[] = [
  {
    name: 'the greeting offers fixed newstyle and NO_ZEROES, nothing else',
    covers: ['fixed-newstyle-set', 'no-other-flags'],
    async run(t, { address }) {
      const client = await RawNbd.connect(address);
      t.equal(await client.greeting(), BOTH);
      client.close();
    },
  },
  {
    name: 'an unknown client flag drops the connection',
    covers: ['unknown-client-flags', 'drop-unknown-flag'],
    async run(t, { address }) {
      const client = await RawNbd.negotiate(address, BOTH | (1 << 5));
      client.send(optionMessage(OPT.list));
      t.ok(await endsWithoutAByte(client), 'it goes on');
      client.close();
    },
  },
  {
    name: 'a client that knows no fixed newstyle gets its export by EXPORT_NAME',
    covers: ['unwilling-export-name', 'export-name-fixed'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address, 0);
      const info = await client.exportName(writable, { zeroes: true });
      t.equal(info.size, size);
      t.ok(info.zeroes.equals(Buffer.alloc(124)));
      client.close();
    },
  },
  {
    name: 'EXPORT_NAME is followed by 124 zeroes, and none with NO_ZEROES',
    covers: ['no-zeroes', 'has-flags', 'baseline-commands'],
    async run(t, { address, writable, size }) {
      for (const zeroes of [true, false]) {
        const client = await RawNbd.negotiate(address, zeroes ? HANDSHAKE.fixedNewstyle : BOTH);
        const info = await client.exportName(writable, { zeroes });
        t.equal(info.size, size);
        t.ok(info.zeroes.equals(Buffer.alloc(zeroes ? 124 : 0)));
        t.ok(info.flags & TRANSMISSION.hasFlags);
        t.equal((await client.command({ type: 0, length: 512 })).error, 0, 'a READ right behind it');
        client.close();
      }
    },
  },
  {
    name: 'EXPORT_NAME of an unknown export closes without a byte',
    covers: ['unwilling-export-name', 'export-name-unknown'],
    async run(t, { address }) {
      const client = await RawNbd.negotiate(address);
      client.send(optionMessage(OPT.exportName, Buffer.from(UNKNOWN_NAME)));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'EXPORT_NAME of an impossible name closes',
    covers: ['unwilling-export-name', 'names-checked'],
    async run(t, { address }) {
      for (const [what, name] of badNames) {
        const client = await RawNbd.negotiate(address);
        client.send(optionMessage(OPT.exportName, name));
        t.equal((await client.readToEnd()).length, 0, what);
      }
    },
  },
  {
    name: 'EXPORT_NAME with an empty name means the default export exactly when INFO says there is one',
    covers: ['default-export'],
    async run(t, { address }) {
      const asking = await RawNbd.negotiate(address);
      const hasDefault = (await asking.optionEnd(OPT.info, infoRequest(''))) === REP.ack;
      asking.close();
      const client = await RawNbd.negotiate(address);
      client.send(optionMessage(OPT.exportName));
      if (hasDefault) t.equal((await client.read(10)).length, 10);
      else t.equal((await client.readToEnd()).length, 0);
      client.close();
    },
  },
  {
    name: 'bad magic before an option closes',
    covers: ['bytes-harmless'],
    async run(t, { address }) {
      const client = await RawNbd.negotiate(address);
      client.send(u64(0x1234567812345678n), u32(OPT.list), u32(0));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'options that arrive byte by byte, and several that arrive at once, are answered in order',
    covers: ['options-bytewise', 'baseline-unsup'],
    async run(t, { address, writable }) {
      const slow = await RawNbd.connect(address);
      await slow.greeting();
      for (const byte of Buffer.concat([u32(BOTH), optionMessage(OPT.info, infoRequest(writable))])) {
        await slow.sendAll(Buffer.from([byte]));
      }
      t.equal((await slow.readOptionReply()).type, REP.info);
      slow.close();
      const fast = await RawNbd.connect(address);
      await fast.greeting();
      fast.send(u32(BOTH), optionMessage(OPT.structuredReply), optionMessage(99), optionMessage(OPT.abort));
      const types = [
        await fast.readOptionReply(),
        await fast.readOptionReply(),
        await fast.readOptionReply(),
      ];
      t.same(
        types.map(({ option, type }) => [option, type]),
        [
          [OPT.structuredReply, REP.ack],
          [99, REP.errUnsup],
          [OPT.abort, REP.ack],
        ],
      );
    },
  },
];

export const optionCases: Case[] = [
  {
    name: 'ABORT is acknowledged, with data or without, and the connection ends',
    covers: ['abort-ack', 'baseline-options'],
    async run(t, { address }) {
      for (const data of [Buffer.alloc(0), Buffer.from('why not')]) {
        const client = await RawNbd.negotiate(address);
        t.equal(await client.optionEnd(OPT.abort, data), REP.ack);
        client.endSending();
        t.equal((await client.readToEnd()).length, 0);
      }
    },
  },
  {
    name: 'a client that does not wait for the answer to ABORT harms nobody',
    covers: ['abort-tolerant'],
    async run(t, { address, writable }) {
      for (let i = 0; i < 20; i++) {
        const client = await RawNbd.negotiate(address);
        await client.sendAll(optionMessage(OPT.abort));
        client.close();
      }
      const other = await RawNbd.negotiate(address);
      t.ok(await goesOn(other, writable));
      other.close();
    },
  },
  {
    name: 'LIST names every export',
    covers: ['baseline-options', 'server-length'],
    async run(t, { address, writable, readOnly }) {
      const client = await RawNbd.negotiate(address);
      const replies = await client.option(OPT.list);
      t.equal(last(replies).type, REP.ack);
      const names = replies.slice(0, -1).map(({ type, data }) => {
        t.equal(type, REP.server);
        return data.toString('utf8', 4, 4 + data.readUInt32BE(0));
      });
      t.ok(names.includes(writable));
      if (readOnly !== null) t.ok(names.includes(readOnly));
      client.close();
    },
  },
  {
    name: 'LIST and STRUCTURED_REPLY with data are invalid, and the connection goes on',
    covers: ['list-data', 'errors-not-disconnects'],
    async run(t, target) {
      const { address, writable } = target;
      const client = await RawNbd.negotiate(address);
      for (const option of offers(target, 'structured') ? [OPT.list, OPT.structuredReply] : [OPT.list]) {
        const reply = last(await client.option(option, Buffer.from('data')));
        t.equal(reply.type, REP.errInvalid);
      }
      t.ok(await goesOn(client, writable));
      await client.go(writable);
      t.equal(
        (await client.command({ type: 0, length: 512 })).error,
        0,
        'answered simply: nothing was negotiated',
      );
      client.close();
    },
  },
  {
    name: 'STRUCTURED_REPLY is acknowledged, also when asked again',
    covers: ['structured-reads'],
    needs: 'structured',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateStructured();
      const again = await client.optionEnd(OPT.structuredReply);
      t.ok(again === REP.ack || again === REP.errInvalid, again.toString(16));
      t.ok(await goesOn(client, writable));
      client.close();
    },
  },
  {
    name: 'an unknown option is unsupported, its data is consumed, and the connection goes on',
    covers: ['baseline-unsup', 'errors-not-disconnects'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      for (const option of [0, OPT.peekExport, 12, 99, 0xffffffff]) {
        for (const length of [0, 1, 4096, 60_000]) {
          t.equal(
            await client.optionEnd(option, Buffer.alloc(length, 'x')),
            REP.errUnsup,
            `${option} of ${length}`,
          );
        }
      }
      t.ok(await goesOn(client, writable));
      client.close();
    },
  },
  {
    name: 'an option that announces 4 GiB disturbs nobody',
    covers: ['bytes-harmless'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      client.send(u64(0x49484156454f5054n), u32(OPT.info), u32(0xffffffff));
      await client.sendAll(Buffer.alloc(4 * 1024 * 1024));
      const other = await RawNbd.negotiate(address);
      t.ok(await goesOn(other, writable));
      other.close();
      client.close();
    },
  },
  {
    name: 'a client that leaves in the middle of the handshake harms nobody',
    covers: ['bytes-harmless'],
    async run(t, { address, writable }) {
      const whole = Buffer.concat([u32(BOTH), optionMessage(OPT.go, infoRequest(writable))]);
      for (let cut = 0; cut < whole.length; cut += 3) {
        const client = await RawNbd.connect(address);
        await client.sendAll(whole.subarray(0, cut));
        client.close();
      }
      const other = await RawNbd.negotiate(address);
      t.ok(await goesOn(other, writable));
      other.close();
    },
  },
];

export const infoCases: Case[] = [
  {
    name: 'INFO tells the real size, and GO the same',
    covers: ['info-export', 'go-as-info', 'baseline-options'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address);
      const asked = [INFO.name, INFO.description, INFO.blockSize];
      const told = await client.info(writable, asked);
      t.equal(told.size, size);
      const entered = await client.go(writable, asked);
      t.same(
        [entered.size, entered.flags, [...entered.infos].sort()],
        [told.size, told.flags, [...told.infos].sort()],
      );
      client.close();
    },
  },
  {
    name: 'NAME and BLOCK_SIZE are given when asked: 1, 4096 and 32 MiB',
    covers: ['infos'],
    needs: 'promises',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      const { infos } = await client.info(writable, [INFO.name, INFO.description, INFO.blockSize]);
      t.equal(infos.get(INFO.name)?.toString(), writable, 'NAME');
      t.ok(infos.has(INFO.description), 'DESCRIPTION');
      t.same(infos.get(INFO.blockSize), Buffer.concat([u32(1), u32(4096), u32(32 * 1024 * 1024)]));
      client.close();
    },
  },
  {
    name: 'an info asked for twice is no reason to refuse',
    covers: ['infos'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address);
      t.equal((await client.go(writable, [INFO.name, INFO.name, INFO.export])).size, size);
      client.close();
    },
  },
  {
    name: 'infos that are not asked for are not sent',
    covers: ['infos'],
    needs: 'promises',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      const { infos } = await client.info(writable);
      t.same([...infos.keys()], [INFO.export]);
      client.close();
    },
  },
  {
    name: 'unknown infos are ignored',
    covers: ['unknown-infos'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address);
      const unknown = [4, 77, 0x7fff, 0xffff];
      const { infos } = await client.info(writable, [INFO.blockSize, ...unknown]);
      t.notOk(unknown.some((type) => infos.has(type)));
      t.equal((await client.go(writable, unknown)).size, size);
      client.close();
    },
  },
  {
    name: 'lengths that do not fit the data are invalid, and the connection goes on',
    covers: ['option-lengths'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      const wrong: [string, Buffer][] = [
        ['nothing at all', Buffer.alloc(0)],
        ['half a length', Buffer.alloc(3)],
        ['no count of infos', string32(writable)],
        ['a name longer than the data', Buffer.concat([u32(4000), Buffer.from(writable), u16(0)])],
        ['a name of 4 GiB', Buffer.concat([u32(0xffffffff), Buffer.from(writable), u16(0)])],
        ['fewer infos than counted', Buffer.concat([string32(writable), u16(3), u16(INFO.name)])],
        ['more infos than counted', Buffer.concat([string32(writable), u16(0), u16(INFO.name)])],
        ['half an info', Buffer.concat([string32(writable), u16(1), Buffer.from([0])])],
      ];
      for (const option of [OPT.info, OPT.go]) {
        for (const [what, data] of wrong) t.equal(await client.optionEnd(option, data), REP.errInvalid, what);
      }
      t.ok(await goesOn(client, writable));
      client.close();
    },
  },
  {
    name: 'an unknown export is refused with a sentence, and a known one can still be opened',
    covers: ['errors-not-disconnects', 'sentences'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address);
      for (const option of [OPT.info, OPT.go]) {
        const replies = await client.option(option, infoRequest(UNKNOWN_NAME));
        t.equal(replies.length, 1);
        t.equal(last(replies).type, REP.errUnknown);
        t.match(last(replies).data.toString(), /\w+ \w+/);
      }
      t.equal((await client.go(writable)).size, size);
      client.close();
    },
  },
  {
    name: 'an impossible name is refused, and the connection goes on',
    covers: ['names-checked', 'errors-not-disconnects'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      for (const option of [OPT.info, OPT.go]) {
        for (const [what, name] of badNames) {
          const end = await client.optionEnd(option, infoRequest(name));
          t.ok(
            [REP.errInvalid, REP.errUnknown, REP.errTooBig].includes(end as 1),
            `${what}: ${end.toString(16)}`,
          );
        }
      }
      t.equal(await client.optionEnd(OPT.info, infoRequest(Buffer.alloc(MAX_STRING, 'a'))), REP.errUnknown);
      t.ok(await goesOn(client, writable));
      client.close();
    },
  },
  {
    name: 'no zeroes follow GO, whatever was negotiated',
    covers: ['go-no-zeroes'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address, HANDSHAKE.fixedNewstyle);
      await client.go(writable);
      t.equal((await client.command({ type: 0, length: 512 })).error, 0);
      client.close();
    },
  },
  {
    name: 'every refusal carries a sentence',
    covers: ['sentences'],
    needs: 'promises',
    async run(t, { address }) {
      const client = await RawNbd.negotiate(address);
      const refused: [number, Buffer][] = [
        [OPT.list, Buffer.from('x')],
        [OPT.structuredReply, Buffer.from('x')],
        [OPT.extendedHeaders, Buffer.from('x')],
        [OPT.startTls, Buffer.alloc(0)],
        [OPT.info, Buffer.alloc(1)],
        [OPT.info, infoRequest(UNKNOWN_NAME)],
        [OPT.setMetaContext, Buffer.alloc(2)],
        [99, Buffer.alloc(0)],
      ];
      for (const [option, data] of refused) {
        const reply = last(await client.option(option, data));
        t.ok(reply.type >= 2 ** 31, `option ${option} is refused`);
        t.match(reply.data.toString(), /\w+ \w+/);
      }
      client.close();
    },
  },
  {
    name: 'the transmission flags say what the server can do',
    covers: ['flags-told', 'df-flag'],
    needs: 'promises',
    async run(t, { address, writable }) {
      const { hasFlags, flush, fua, trim, writeZeroes, df, canMultiConn, cache, fastZero } = TRANSMISSION;
      const simply = hasFlags | flush | fua | trim | writeZeroes | canMultiConn | cache | fastZero;
      const plain = await RawNbd.open(address, writable, { structured: false });
      t.equal(plain.info.flags & ~TRANSMISSION.rotational, simply, 'no DF without structured replies');
      plain.client.close();
      const structured = await RawNbd.open(address, writable);
      t.equal(structured.info.flags & ~TRANSMISSION.rotational, simply | df);
      structured.client.close();
    },
  },
  {
    name: 'a read-only export says so and offers neither TRIM nor WRITE_ZEROES',
    covers: ['flags-told', 'fast-zero-flag'],
    needs: 'readOnly',
    async run(t, target) {
      const structured = offers(target, 'structured');
      const { client, info } = await RawNbd.open(target.address, target.readOnly as string, { structured });
      t.ok(info.flags & TRANSMISSION.readOnly, 'READ_ONLY');
      t.notOk(
        info.flags & (TRANSMISSION.trim | TRANSMISSION.writeZeroes | TRANSMISSION.fastZero),
        'flags of writes',
      );
      client.close();
    },
  },
];
