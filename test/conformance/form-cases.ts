// The form of what a server sends, whatever it says: strings, sizes, names, flags, chunks. Much of it is checked by RawNbd at every
// answer; these cases make a server send all of it.

import { type Answer, last } from '../support/nbd-answers.js';
import {
  CHUNK,
  CMD,
  ERRNO,
  FLAG,
  HANDSHAKE,
  INFO,
  infoRequest,
  MAX_PAYLOAD,
  MAX_STRING,
  MIB,
  OPT,
  REP,
  type RequestFields,
  TRANSMISSION,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { type Case, offers, type Target } from './target.js';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** What is wrong with a string by the protocol's rules, or null. */
function stringFault(bytes: Buffer): string | null {
  if (bytes.length > MAX_STRING) return `${bytes.length} bytes`;
  if (bytes.includes(0)) return 'a NUL';
  try {
    utf8.decode(bytes);
    return null;
  } catch {
    return 'bytes that are no UTF-8';
  }
}

/** The longest name of this beginning and this character. */
function fill(before: string, character: string): string {
  const bytes = MAX_STRING - Buffer.byteLength(before);
  return before + character.repeat(Math.floor(bytes / Buffer.byteLength(character)));
}

const isPowerOf2 = (value: number): boolean => value > 0 && Number.isInteger(Math.log2(value));

/** Minimum, preferred and maximum of BLOCK_SIZE; null where the server does not tell. */
async function sizesOf({ address, writable }: Target): Promise<[number, number, number] | null> {
  const client = await RawNbd.negotiate(address);
  const told = (await client.info(writable, [INFO.blockSize])).infos.get(INFO.blockSize);
  client.close();
  return told ? [told.readUInt32BE(0), told.readUInt32BE(4), told.readUInt32BE(8)] : null;
}

async function open(target: Target, structured: boolean): Promise<{ client: RawNbd; flags: number }> {
  const { client, info } = await RawNbd.open(target.address, target.writable, { structured });
  return { client, flags: info.flags };
}

const read = (client: RawNbd, offset: number | bigint, length: number, flags = 0): Promise<Answer> =>
  client.command({ type: CMD.read, flags, offset, length });

const write = (client: RawNbd, offset: number, bytes: Buffer): Promise<Answer> =>
  client.command({ type: CMD.write, offset, length: bytes.length }, bytes);

const isContent = ({ type }: { type: number }): boolean =>
  type === CHUNK.offsetData || type === CHUNK.offsetHole;

export const handshakeFormCases: Case[] = [
  {
    name: 'without TLS, STARTTLS is refused with an error that is allowed, and nothing is refused for want of TLS',
    covers: ['notls-starttls', 'notls-never-required', 'starttls-answer'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      const allowed = [REP.errPolicy, REP.errUnsup, REP.errPlatform, REP.errInvalid, REP.errShutdown];
      // An address of TLS has it behind itself.
      if (!address.startsWith('tls+')) {
        t.ok((allowed as number[]).includes(await client.optionEnd(OPT.startTls)));
      }
      const options: [number, Buffer][] = [
        [OPT.list, Buffer.alloc(0)],
        [OPT.info, infoRequest(writable)],
        [OPT.info, infoRequest('no such export')],
        [OPT.structuredReply, Buffer.alloc(0)],
        [99, Buffer.alloc(0)],
      ];
      for (const [option, data] of options) {
        t.not(await client.optionEnd(option, data), REP.errTlsReqd, `option ${option}`);
      }
      client.close();
    },
  },
  {
    name: 'names and sentences are UTF-8 without NUL and at most 4096 bytes, also in reply to the longest name',
    covers: ['strings', 'server-length'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      for (const { type, data } of (await client.option(OPT.list)).slice(0, -1)) {
        t.equal(type, REP.server);
        const length = data.readUInt32BE(0);
        t.ok(length <= data.length - 4, 'the name lies within its reply');
        t.equal(stringFault(data.subarray(4, 4 + length)), null, 'a name');
        t.equal(stringFault(data.subarray(4 + length)), null, 'a description');
      }
      // A sentence that quotes this name has to be cut, and not within a character.
      const long = ['é', '€'].flatMap((character) =>
        ['', 'a', 'ab'].map((before) => fill(before, character)),
      );
      for (const longest of long) {
        for (const option of [OPT.info, OPT.go]) {
          const { type, data } = last(await client.option(option, infoRequest(longest)));
          t.ok(type >= 2 ** 31, 'it is refused');
          t.equal(stringFault(data), null, 'the sentence');
        }
      }
      t.equal(await client.optionEnd(OPT.info, infoRequest(writable)), REP.ack, 'the connection goes on');
      client.close();
    },
  },
  {
    name: 'BLOCK_SIZE keeps the rules of its three sizes, and asking for it rules out ERR_BLOCK_SIZE_REQD',
    covers: [
      'minimum-block',
      'preferred-block',
      'maximum-payload',
      'info-block-size-length',
      'block-size-reqd',
    ],
    async run(t, target) {
      const client = await RawNbd.negotiate(target.address);
      for (const option of [OPT.info, OPT.go]) {
        const replies = await client.option(option, infoRequest(target.writable, [INFO.blockSize]));
        t.equal(last(replies).type, REP.ack);
        const told = replies.find(
          ({ data }) => data.length >= 2 && data.readUInt16BE(0) === INFO.blockSize,
        )?.data;
        if (told === undefined) continue;
        t.equal(told.length, 14);
        const [minimum, preferred, maximum] = [
          told.readUInt32BE(2),
          told.readUInt32BE(6),
          told.readUInt32BE(10),
        ];
        t.ok(isPowerOf2(minimum) && minimum <= 65_536, `minimum ${minimum}`);
        t.ok(isPowerOf2(preferred) && preferred >= Math.max(minimum, 512), `preferred ${preferred}`);
        t.ok(maximum >= preferred, `maximum ${maximum}`);
      }
      client.close();
    },
  },
  {
    name: 'information has the lengths of its types',
    covers: ['info-export-length', 'info-name-length', 'info-export'],
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      const asked = [INFO.name, INFO.description, INFO.blockSize];
      const replies = await client.option(OPT.info, infoRequest(writable, asked));
      t.equal(last(replies).type, REP.ack);
      const types = replies.slice(0, -1).map(({ type, data }) => {
        t.equal(type, REP.info);
        t.ok(data.length >= 2);
        const info = data.readUInt16BE(0);
        if (info === INFO.export) t.equal(data.length, 12);
        if (info === INFO.name || info === INFO.description) t.equal(stringFault(data.subarray(2)), null);
        return info;
      });
      t.ok(types.includes(INFO.export));
      t.equal(new Set(types).size, types.length, 'each once');
      client.close();
    },
  },
  {
    name: 'names of contexts are a known namespace, a colon and more',
    covers: ['context-names', 'context-utf8', 'list-namespace'],
    needs: 'contexts',
    async run(t, { address, writable }) {
      const client = await RawNbd.negotiate(address);
      await client.negotiateStructured();
      const names = await client.listContexts(writable, []);
      t.ok(names.length > 0);
      for (const name of names) {
        t.match(name, /^(base|nbd-server|qemu|x-[^:]*):/);
        t.equal(stringFault(Buffer.from(name)), null, name);
        t.notOk(name.includes('\ufffd'), 'UTF-8');
      }
      client.close();
    },
  },
  {
    name: 'NO_ZEROES counts also for a client that says nothing of fixed newstyle',
    covers: ['no-zeroes'],
    async run(t, { address, writable, size }) {
      const client = await RawNbd.negotiate(address, HANDSHAKE.noZeroes);
      t.equal((await client.exportName(writable, { zeroes: false })).size, size);
      t.equal((await read(client, 0, 512)).error, 0, 'a READ right behind it');
      client.close();
    },
  },
];

export const transmissionFormCases: Case[] = [
  {
    name: 'without structured replies none is sent, whatever is asked and however it fails',
    covers: ['simple-unless-negotiated', 'read-simple', 'read-error-no-payload', 'cookies'],
    async run(t, target) {
      const { client } = await open(target, false);
      const requests: RequestFields[] = [
        { type: CMD.read, length: 4096 },
        { type: CMD.read, offset: target.size, length: 4096 },
        { type: CMD.read, flags: 1 << 15, length: 4096 },
        { type: CMD.blockStatus, length: 4096 },
        { type: 99, length: 4096 },
      ];
      for (const [i, fields] of requests.entries()) {
        const cookie = 2n ** 64n - 1n - BigInt(i);
        const { error } = await client.command({ ...fields, cookie });
        t.equal(error === 0, i === 0, `command ${fields.type}: ${error}`);
      }
      t.equal((await read(client, 0, 4096)).data.length, 4096, 'still in step');
      client.close();
    },
  },
  {
    name: 'with structured replies a READ is never answered simply, however early it fails',
    covers: ['read-is-structured', 'error', 'error-offset', 'no-reply-flags'],
    needs: 'structured',
    async run(t, target) {
      const { client } = await open(target, true);
      const requests: RequestFields[] = [
        { type: CMD.read, flags: 1 << 15, length: 4096 },
        { type: CMD.read, flags: FLAG.noHole, length: 4096 },
        { type: CMD.read, offset: target.size, length: 4096 },
        { type: CMD.read, offset: 2n ** 64n - 1n, length: 4096 },
        { type: CMD.read, offset: target.size, length: MAX_PAYLOAD * 2 },
      ];
      for (const fields of requests) {
        const { error, message } = await client.command(fields);
        t.not(error, 0, `flags ${fields.flags ?? 0} at ${fields.offset ?? 0}`);
        t.equal(stringFault(Buffer.from(message)), null);
      }
      t.equal((await read(client, 0, 4096)).error, 0);
      client.close();
    },
  },
  {
    name: 'the chunks of a READ over data and holes cover it once, the last one says so',
    covers: [
      'none',
      'offset-data',
      'offset-hole',
      'read-chunk-content',
      'read-covers',
      'done-is-last',
      'done-flag',
      'chunk-payload',
    ],
    needs: 'structured',
    async run(t, target) {
      const { client } = await open(target, true);
      const base = 44 * MIB;
      const model = Buffer.alloc(8 * MIB);
      if (offers(target, 'trim'))
        await client.command({ type: CMD.trim, offset: base, length: model.length });
      await write(client, base, model.subarray(0, MIB));
      for (let at = 0; at < model.length; at += 96 * 1024) {
        const bytes = Buffer.alloc(4096, 1 + ((at >>> 12) % 255));
        bytes.copy(model, at);
        await write(client, base + at, bytes.subarray(0, Math.min(4096, model.length - at)));
      }
      if (!offers(target, 'trim')) return client.close();
      for (const [at, length] of [
        [0, model.length],
        [MIB - 512, 2 * MIB],
        [4096, 512],
        [4 * MIB, 1536],
      ] as const) {
        const answer = await read(client, base + at, length);
        t.ok(answer.data.equals(model.subarray(at, at + length)), `${length} bytes at ${at}`);
        t.ok(answer.chunks.every(({ flags }, i) => (flags === 1) === (i === answer.chunks.length - 1)));
        t.ok(answer.chunks.every(({ data }) => data.length <= MAX_PAYLOAD + 8));
      }
      client.close();
    },
  },
  {
    name: 'DF reads beyond 64 KiB are whole, or EOVERFLOW without content',
    covers: ['read-df-overflow', 'read-df-one'],
    needs: 'df',
    async run(t, target) {
      const { client } = await open(target, true);
      for (const length of [65_537, MIB, MAX_PAYLOAD, MAX_PAYLOAD + 4096]) {
        const { error, chunks } = await read(client, 0, length, FLAG.df);
        t.ok(error === 0 || error === ERRNO.overflow || error === ERRNO.inval, `${length} bytes: ${error}`);
        t.equal(chunks.filter(isContent).length, error === 0 ? 1 : 0, `${length} bytes`);
      }
      client.close();
    },
  },
  {
    name: 'what the flags offer works, and what depends on another flag is not set without it',
    covers: ['has-flags', 'only-supported', 'df-flag', 'fast-zero-flag'],
    async run(t, target) {
      const simple = await open(target, false);
      t.notOk(simple.flags & TRANSMISSION.df, 'DF without structured replies');
      simple.client.close();
      const { client, flags } = await open(target, offers(target, 'structured'));
      t.ok(flags & TRANSMISSION.hasFlags);
      if (!(flags & TRANSMISSION.writeZeroes)) t.notOk(flags & TRANSMISSION.fastZero, 'FAST_ZERO');
      const works = async (flag: number, fields: RequestFields): Promise<void> => {
        if (!(flags & flag)) return;
        const data = fields.type === CMD.write ? Buffer.alloc(4096, 3) : undefined;
        t.equal(
          (await client.command(fields, data)).error,
          0,
          `command ${fields.type}, flags ${fields.flags ?? 0}`,
        );
      };
      await works(TRANSMISSION.flush, { type: CMD.flush });
      await works(TRANSMISSION.fua, { type: CMD.write, flags: FLAG.fua, length: 4096 });
      await works(TRANSMISSION.trim, { type: CMD.trim, length: 4096 });
      await works(TRANSMISSION.writeZeroes, { type: CMD.writeZeroes, length: 4096 });
      await works(TRANSMISSION.df, { type: CMD.read, flags: FLAG.df, length: 4096 });
      client.close();
    },
  },
  {
    name: 'FAST_ZERO gives zeros, or ENOTSUP and everything as it was',
    covers: ['fast-zero-quick', 'zeroes-read-back'],
    needs: ['fastZero', 'writeZeroes'],
    async run(t, target) {
      const { client } = await open(target, offers(target, 'structured'));
      const before = Buffer.alloc(65_536, 0x77);
      for (const more of [0, FLAG.noHole]) {
        await write(client, 52 * MIB, before);
        const flags = FLAG.fastZero | more;
        const { error } = await client.command({
          type: CMD.writeZeroes,
          flags,
          offset: 52 * MIB,
          length: 65_536,
        });
        t.ok(error === 0 || error === ERRNO.notSup, `flags ${flags}: ${error}`);
        const after = (await read(client, 52 * MIB, 65_536)).data;
        t.ok(after.equals(error === 0 ? Buffer.alloc(65_536) : before), `the content, flags ${flags}`);
      }
      client.close();
    },
  },
  {
    name: 'CACHE changes nothing, and takes no flag that it does not know',
    covers: ['cache-same', 'cache-flags'],
    needs: 'cache',
    async run(t, target) {
      const { client } = await open(target, offers(target, 'structured'));
      const before = Buffer.alloc(65_536, 0x55);
      await write(client, 56 * MIB, before);
      const { error } = await client.command({ type: CMD.cache, offset: 56 * MIB, length: MIB });
      t.ok(error === 0 || error === ERRNO.inval, `${error}`);
      for (const flags of [FLAG.noHole, FLAG.df, FLAG.reqOne, 1 << 7, 1 << 15]) {
        t.not((await client.command({ type: CMD.cache, flags, length: 4096 })).error, 0, `flags ${flags}`);
      }
      t.ok((await read(client, 56 * MIB, 65_536)).data.equals(before));
      client.close();
    },
  },
  {
    name: 'a request that breaks the minimum block size is an error that changes nothing; without one any byte can be written',
    covers: ['unaligned-clean', 'sizes-advertised'],
    async run(t, target) {
      const [minimum] = (await sizesOf(target)) ?? [1];
      const { client } = await open(target, offers(target, 'structured'));
      const before = Buffer.alloc(8192, 0x33);
      await write(client, 60 * MIB, before);
      const { error } = await write(client, 60 * MIB + 4097, Buffer.from([0x44]));
      if (minimum === 1) {
        t.equal(error, 0, 'nothing was told that forbids it');
        before[4097] = 0x44;
      } else {
        t.not(error, 0, `the minimum is ${minimum}`);
      }
      t.ok((await read(client, 60 * MIB, 8192)).data.equals(before));
      client.close();
    },
  },
];
