// The transmission phase: what each command does, and how it is refused.

import type { Answer } from '../support/nbd-answers.js';
import { CHUNK, CMD, ERRNO, FLAG, MAX_PAYLOAD, MIB, type RequestFields } from '../support/nbd-wire.js';
import type { RawNbd } from '../support/raw-nbd.js';
import { type Case, type Offer, offers, openTarget, replyStyles, type Target } from './target.js';

const HUGE_OFFSETS = [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n - 512n];

const open = async (target: Target, structured = offers(target, 'structured')): Promise<RawNbd> =>
  (await openTarget(target, { structured })).client;

/** With base:allocation where the server has it. */
async function openForAll(target: Target): Promise<RawNbd> {
  if (!offers(target, 'contexts')) return open(target);
  return (await openTarget(target, { contexts: ['base:allocation'] })).client;
}

const offeredAs = new Map<number, Offer>([
  [CMD.flush, 'flush'],
  [CMD.trim, 'trim'],
  [CMD.cache, 'cache'],
  [CMD.writeZeroes, 'writeZeroes'],
  [CMD.blockStatus, 'contexts'],
]);

/** A client may send the command to this server. */
function knows(target: Target, type: number): boolean {
  const offer = offeredAs.get(type);
  return offer === undefined || offers(target, offer);
}

/** Bytes that differ from place to place. */
function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) * 7 + seed) & 0xff || 1;
  return bytes;
}

const write = (client: RawNbd, offset: number | bigint, bytes: Buffer, flags = 0): Promise<Answer> =>
  client.command({ type: CMD.write, flags, offset, length: bytes.length }, bytes);

const read = (client: RawNbd, offset: number | bigint, length: number, flags = 0): Promise<Answer> =>
  client.command({ type: CMD.read, flags, offset, length });

/** The connection still answers, and in step. */
async function stays(client: RawNbd): Promise<boolean> {
  return (await read(client, 0, 512)).error === 0;
}

/** A command with the payload it needs. */
function complete(fields: RequestFields): [RequestFields, Buffer?] {
  return fields.type === CMD.write ? [fields, Buffer.alloc(Number(fields.length ?? 0), 0xee)] : [fields];
}

export const dataCases: Case[] = [
  {
    name: 'what is written is read back, with structured replies and without',
    covers: [
      'baseline-commands',
      'write-then-reply',
      'read-simple',
      'read-covers',
      'simple-unless-negotiated',
    ],
    async run(t, target) {
      for (const structured of replyStyles(target)) {
        const client = await open(target, structured);
        const bytes = pattern(300 * 1024, structured ? 1 : 2);
        t.equal((await write(client, 4096, bytes)).error, 0);
        t.ok((await read(client, 4096, bytes.length)).data.equals(bytes));
        t.ok((await read(client, 4096 + 512, 1024)).data.equals(bytes.subarray(512, 512 + 1024)));
        client.close();
      }
    },
  },
  {
    name: 'any alignment down to a byte works, and neighbours are left alone',
    covers: ['any-alignment'],
    needs: ['promises', 'writeZeroes'],
    async run(t, target) {
      const client = await open(target);
      const base = 6 * MIB;
      const model = pattern(3 * MIB);
      await write(client, base, model);
      const places: [number, number][] = [
        [0, 1],
        [1, 1],
        [4095, 2],
        [4097, 4096],
        [8191, 1],
        [2 * MIB - 1, 2],
        [2 * MIB - 4097, 8195],
        [123_457, 65_537],
        [3 * MIB - 3, 3],
      ];
      for (const [at, length] of places) {
        const bytes = pattern(length, at);
        t.equal((await write(client, base + at, bytes)).error, 0);
        bytes.copy(model, at);
        t.ok((await read(client, base + at, length)).data.equals(bytes), `${length} bytes at ${at}`);
      }
      for (const [at, length] of places) {
        await client.command({ type: CMD.writeZeroes, offset: base + at + 7, length });
        model.fill(0, at + 7, Math.min(at + 7 + length, model.length));
      }
      t.ok((await read(client, base, model.length)).data.equals(model));
      client.close();
    },
  },
  {
    name: 'TRIM: whole blocks read as zeros here, the bytes at its edges as before or as zeros, all else as before',
    covers: ['trim-zeros'],
    needs: 'trim',
    async run(t, target) {
      const client = await open(target);
      const base = 12 * MIB;
      const model = pattern(MIB);
      await write(client, base, model);
      const step = target.promises ? 1 : 512;
      const [from, to] = [4096 + step, 300 * 1024 - step];
      t.equal((await client.command({ type: CMD.trim, offset: base + from, length: to - from })).error, 0);
      const after = (await read(client, base, MIB)).data;
      t.ok(after.subarray(0, from).equals(model.subarray(0, from)), 'what lies before');
      t.ok(after.subarray(to).equals(model.subarray(to)), 'what lies behind');
      if (target.promises) {
        const [firstWhole, endWhole] = [8192, 296 * 1024];
        t.ok(
          after.subarray(firstWhole, endWhole).equals(Buffer.alloc(endWhole - firstWhole)),
          'whole blocks',
        );
        for (const [start, end] of [
          [from, firstWhole],
          [endWhole, to],
        ] as const) {
          const edge = after.subarray(start, end);
          t.ok(edge.equals(model.subarray(start, end)) || edge.equals(Buffer.alloc(end - start)), 'an edge');
        }
      }
      client.close();
    },
  },
  {
    name: 'WRITE_ZEROES gives zeros with every combination of its flags',
    covers: ['zeroes-read-back', 'no-hole', 'zeroes-no-enotsup'],
    needs: 'writeZeroes',
    async run(t, target) {
      const client = await open(target);
      const combinations = [0, FLAG.noHole, FLAG.fua, FLAG.noHole | FLAG.fua];
      if (target.promises) combinations.push(FLAG.fastZero, FLAG.fastZero | FLAG.noHole | FLAG.fua);
      for (const flags of combinations) {
        await write(client, 14 * MIB, pattern(MIB));
        const zeroed = await client.command({
          type: CMD.writeZeroes,
          flags,
          offset: 14 * MIB + 4096,
          length: MIB - 8192,
        });
        t.equal(zeroed.error, 0, `flags ${flags}`);
        const after = (await read(client, 14 * MIB, MIB)).data;
        t.ok(after.subarray(4096, MIB - 4096).equals(Buffer.alloc(MIB - 8192)), `zeros, flags ${flags}`);
        t.ok(after.subarray(0, 4096).equals(pattern(4096)), `the neighbour, flags ${flags}`);
      }
      client.close();
    },
  },
  {
    name: 'the last byte of the device can be read, written and zeroed',
    covers: ['any-alignment'],
    needs: ['promises', 'writeZeroes'],
    async run(t, target) {
      const client = await open(target);
      const at = target.size - 1n;
      t.equal((await write(client, at, Buffer.from([0x5a]))).error, 0);
      t.same((await read(client, at, 1)).data, Buffer.from([0x5a]));
      t.equal((await client.command({ type: CMD.writeZeroes, offset: at, length: 1 })).error, 0);
      t.same((await read(client, at, 1)).data, Buffer.from([0]));
      client.close();
    },
  },
  {
    name: 'FUA is accepted on every command',
    covers: ['fua-accepted'],
    needs: 'fua',
    async run(t, target) {
      const client = await openForAll(target);
      for (const type of [CMD.read, CMD.write, ...offeredAs.keys()]) {
        if (!knows(target, type)) continue;
        const length = type === CMD.flush ? 0 : 4096;
        const answer = await client.command(...complete({ type, flags: FLAG.fua, length }));
        t.equal(answer.error, 0, `command ${type}`);
      }
      client.close();
    },
  },
  {
    name: 'a request of zero bytes succeeds, also at the very end of the device',
    covers: ['zero-length', 'no-other-disconnect'],
    async run(t, target) {
      const client = await open(target);
      for (const type of [CMD.read, CMD.write, CMD.trim, CMD.cache, CMD.writeZeroes]) {
        if (!knows(target, type)) continue;
        for (const offset of [0n, target.size]) {
          const answer = await client.command(...complete({ type, offset, length: 0 }));
          if (target.promises) t.equal(answer.error, 0, `command ${type} at ${offset}`);
          t.ok(await stays(client), `the connection after command ${type} at ${offset}`);
        }
      }
      client.close();
    },
  },
  {
    name: 'a read-only export refuses WRITE, TRIM and WRITE_ZEROES with EPERM and stays what it was',
    covers: ['read-only-errors', 'read-only-eperm'],
    needs: 'readOnly',
    async run(t, target) {
      for (const structured of replyStyles(target)) {
        const { client } = await openTarget(target, { name: target.readOnly, structured });
        const before = (await read(client, 0, 65536)).data;
        for (const type of [CMD.write, CMD.trim, CMD.writeZeroes]) {
          for (const flags of [0, FLAG.fua]) {
            t.equal(
              (await client.command(...complete({ type, flags, length: 8192 }))).error,
              ERRNO.perm,
              `${type}`,
            );
          }
        }
        t.ok((await read(client, 0, 65536)).data.equals(before));
        if (offers(target, 'flush')) t.equal((await client.command({ type: CMD.flush })).error, 0);
        client.close();
      }
    },
  },
  {
    name: 'CAN_MULTI_CONN: what one connection was answered for, another one sees',
    covers: ['multi-conn-visible'],
    needs: 'canMultiConn',
    async run(t, target) {
      const [one, two] = [await open(target), await open(target)];
      for (let i = 0; i < 50; i++) {
        const bytes = pattern(4096, i);
        await write(one, 18 * MIB + i * 512, bytes);
        t.ok((await read(two, 18 * MIB + i * 512, 4096)).data.equals(bytes));
      }
      if (offers(target, 'flush')) t.equal((await two.command({ type: CMD.flush })).error, 0);
      one.close();
      two.close();
    },
  },
];

export const refusalCases: Case[] = [
  {
    name: 'READ, TRIM and CACHE past the end are EINVAL, WRITE and WRITE_ZEROES are ENOSPC, and the connection stays',
    covers: ['past-end', 'write-error', 'zeroes-error', 'read-error-no-payload', 'no-other-disconnect'],
    async run(t, target) {
      const expected = new Map<number, number>([
        [CMD.read, ERRNO.inval],
        [CMD.trim, ERRNO.inval],
        [CMD.cache, ERRNO.inval],
        [CMD.write, ERRNO.noSpc],
        [CMD.writeZeroes, ERRNO.noSpc],
      ]);
      for (const structured of replyStyles(target)) {
        const client = await open(target, structured);
        for (const [type, error] of expected) {
          if (!knows(target, type)) continue;
          for (const offset of [target.size, target.size - 512n, ...HUGE_OFFSETS]) {
            const answer = await client.command(...complete({ type, offset, length: 1024 }));
            t.equal(answer.error, error, `command ${type} at ${offset}`);
          }
          t.ok(await stays(client));
        }
        client.close();
      }
    },
  },
  {
    name: 'a WRITE that was refused has written nothing',
    covers: ['write-error'],
    async run(t, target) {
      const client = await open(target);
      await write(client, target.size - 4096n, Buffer.alloc(4096));
      await client.command(...complete({ type: CMD.write, offset: target.size - 512n, length: 1024 }));
      t.ok((await read(client, target.size - 4096n, 4096)).data.equals(Buffer.alloc(4096)));
      client.close();
    },
  },
  {
    name: 'an unknown command or flag, or a flag that belongs to another command, is EINVAL and the connection stays',
    covers: ['unknown-einval', 'cache-flags', 'no-other-disconnect'],
    async run(t, target) {
      const client = await openForAll(target);
      // With extended headers, PAYLOAD_LEN is a flag that is known.
      const unknown = [1 << 6, 1 << 15, ...(target.extended ? [] : [FLAG.payloadLen])];
      const refused: RequestFields[] = [
        ...[8, 9, 77, 0xffff].map((type) => ({ type })),
        ...[CMD.read, CMD.write, CMD.trim, CMD.writeZeroes, CMD.blockStatus].flatMap((type) =>
          unknown.map((flags) => ({ type, flags })),
        ),
        ...[FLAG.noHole, FLAG.reqOne, FLAG.fastZero].map((flags) => ({ type: CMD.read, flags })),
        ...[FLAG.noHole, FLAG.df, FLAG.reqOne, FLAG.fastZero].map((flags) => ({ type: CMD.write, flags })),
        ...[FLAG.noHole, FLAG.df, FLAG.reqOne, FLAG.fastZero].map((flags) => ({ type: CMD.trim, flags })),
        ...[FLAG.df, FLAG.reqOne].map((flags) => ({ type: CMD.writeZeroes, flags })),
        ...[FLAG.noHole, FLAG.df, FLAG.fastZero].map((flags) => ({ type: CMD.blockStatus, flags })),
        ...[FLAG.noHole, FLAG.df, FLAG.reqOne].map((flags) => ({ type: CMD.cache, flags })),
      ];
      for (const fields of refused) {
        if (!knows(target, fields.type)) continue;
        const answer = await client.command(...complete({ ...fields, length: 4096 }));
        t.equal(answer.error, ERRNO.inval, `command ${fields.type} with flags ${fields.flags ?? 0}`);
      }
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'FLUSH of a range, which is reserved, is EINVAL and the connection stays',
    covers: ['flush-range'],
    needs: ['promises', 'flush'],
    async run(t, target) {
      const client = await open(target);
      for (const range of [{ offset: 4096 }, { length: 4096 }, { offset: target.size, length: 1 }]) {
        t.equal((await client.command({ type: CMD.flush, ...range })).error, ERRNO.inval);
      }
      t.equal((await client.command({ type: CMD.flush })).error, 0);
      client.close();
    },
  },
  {
    name: 'DF without structured replies is EINVAL',
    covers: ['unknown-einval'],
    needs: 'promises',
    async run(t, target) {
      const client = await open(target, false);
      t.equal((await read(client, 0, 4096, FLAG.df)).error, ERRNO.inval);
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'payloads and reads of 32 MiB are served, with structured replies and without',
    covers: ['payload-32m', 'chunk-payload'],
    async run(t, target) {
      const bytes = pattern(MAX_PAYLOAD);
      for (const structured of replyStyles(target)) {
        const client = await open(target, structured);
        t.equal((await write(client, 64 * MIB, bytes)).error, 0);
        t.ok((await read(client, 64 * MIB, MAX_PAYLOAD)).data.equals(bytes));
        client.close();
      }
    },
  },
  {
    name: 'a payload beyond the maximum is drained and EINVAL; a READ beyond it is refused; the connection stays',
    covers: ['payload-32m'],
    needs: ['promises', 'compact'],
    async run(t, target) {
      const client = await open(target);
      const tooMuch = MAX_PAYLOAD + 8 * MIB;
      t.equal((await write(client, 0, Buffer.alloc(tooMuch, 0xee))).error, ERRNO.inval);
      t.ok(await stays(client));
      const refused = await read(client, 0, tooMuch);
      t.ok([ERRNO.inval, ERRNO.overflow].includes(refused.error as 22), `READ: ${refused.error}`);
      t.equal((await read(client, 0, 0xffffffff)).error > 0, true);
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'TRIM and WRITE_ZEROES may be longer than any payload',
    covers: ['zeroes-of-any-length'],
    needs: ['trim', 'writeZeroes'],
    async run(t, target) {
      const client = await open(target);
      const length = Number(target.size);
      await write(client, 100 * MIB, pattern(4096));
      t.equal((await client.command({ type: CMD.writeZeroes, length })).error, 0, 'WRITE_ZEROES');
      t.ok((await read(client, 100 * MIB, 4096)).data.equals(Buffer.alloc(4096)), 'zeros');
      t.equal((await client.command({ type: CMD.trim, length })).error, 0, 'TRIM');
      client.close();
    },
  },
];

export const structureCases: Case[] = [
  {
    name: 'holes are answered as OFFSET_HOLE chunks, no zeros are sent',
    covers: ['holes-unsent', 'offset-hole'],
    needs: ['promises', 'structured', 'trim'],
    async run(t, target) {
      const client = await open(target);
      const at = 20 * MIB;
      await client.command({ type: CMD.trim, offset: at, length: 4 * MIB });
      const hole = await read(client, at, 4 * MIB);
      t.notOk(
        hole.chunks.some(({ type }) => type === CHUNK.offsetData),
        'zeros were sent',
      );
      t.ok(
        hole.chunks.some(({ type }) => type === CHUNK.offsetHole),
        'a hole',
      );
      await write(client, at + 8192, pattern(4096));
      const mixed = await read(client, at, 65536);
      const data = mixed.chunks.filter(({ type }) => type === CHUNK.offsetData);
      t.equal(
        data.reduce((sum, chunk) => sum + chunk.data.length - 8, 0),
        4096,
      );
      t.ok(mixed.data.subarray(8192, 12288).equals(pattern(4096)));
      client.close();
    },
  },
  {
    name: 'a DF read gets one content chunk, be it data, a hole or both, up to 32 MiB',
    covers: ['read-df-one', 'read-df-64k', 'df-32m'],
    needs: ['df', 'writeZeroes'],
    async run(t, target) {
      const client = await open(target);
      const at = 24 * MIB;
      await client.command({ type: CMD.writeZeroes, offset: at, length: MAX_PAYLOAD });
      await write(client, at + 4096, pattern(4096));
      await write(client, at + 3 * MIB, pattern(65536));
      const longest = target.promises ? MAX_PAYLOAD : 65536;
      for (const [offset, length] of [
        [at + 4096, 4096],
        [at, 65536],
        [at + MIB, 65536],
        [at, longest],
      ] as const) {
        const answer = await read(client, offset, length, FLAG.df);
        t.equal(answer.error, 0);
        const content = answer.chunks.filter(
          ({ type }) => type === CHUNK.offsetData || type === CHUNK.offsetHole,
        );
        t.equal(content.length, 1, `${length} bytes at ${offset}`);
      }
      client.close();
    },
  },
  {
    name: 'errors of a structured READ come as an error chunk',
    covers: ['read-is-structured', 'error'],
    needs: 'structured',
    async run(t, target) {
      const client = await open(target);
      const answer = await read(client, target.size, 4096);
      t.equal(answer.error, ERRNO.inval);
      t.ok(answer.chunks.some(({ type }) => type === CHUNK.error || type === CHUNK.errorOffset));
      client.close();
    },
  },
  {
    name: 'many requests on the way at once are each answered once, with the cookie they had',
    covers: ['cookies', 'out-of-order'],
    async run(t, target) {
      const client = await open(target, false);
      const count = 200;
      const cookieOf = (i: number): bigint => BigInt(i) * 0x0123456789abcdn + (i % 2 ? 2n ** 63n : 0n);
      const expected = new Map(Array.from({ length: count }, (_, i) => [cookieOf(i), i]));
      for (let i = 0; i < count; i++) {
        client.request(
          { type: CMD.write, cookie: cookieOf(i), offset: 28 * MIB + i * 4096, length: 4096 },
          pattern(4096, i),
        );
      }
      for (let i = 0; i < count; i++) {
        const { cookie, error } = await client.readSimple();
        t.equal(error, 0);
        t.ok(expected.delete(cookie), `cookie ${cookie} was sent and not yet answered`);
      }
      t.equal(expected.size, 0);
      for (let i = 0; i < count; i++) {
        client.request({ type: CMD.read, cookie: BigInt(i), offset: 28 * MIB + i * 4096, length: 4096 });
      }
      for (let i = 0; i < count; i++) {
        const { cookie } = await client.readSimple();
        t.ok((await client.read(4096)).equals(pattern(4096, Number(cookie))));
      }
      client.close();
    },
  },
  {
    name: 'structured answers of many READs on the way at once belong together by their cookie',
    covers: ['cookies', 'done-is-last', 'done-flag', 'read-chunk-content'],
    needs: 'structured',
    async run(t, target) {
      const client = await open(target);
      const count = 64;
      const at = 30 * MIB;
      for (let i = 0; i < count; i++) await write(client, at + i * 16384 + 4096, pattern(4096, i));
      for (let i = 0; i < count; i++) {
        client.request({ type: CMD.read, cookie: BigInt(i), offset: at + i * 16384, length: 16384 });
      }
      const gathered = Array.from({ length: count }, () => Buffer.alloc(16384));
      for (let open = count; open > 0; ) {
        const chunk = await client.readChunk();
        const i = Number(chunk.cookie);
        if (chunk.type === CHUNK.offsetData) {
          const from = Number(chunk.data.readBigUInt64BE(0)) - (at + i * 16384);
          chunk.data.copy(gathered[i] as Buffer, from, 8);
        }
        if (chunk.flags & 1) open--;
      }
      for (let i = 0; i < count; i++) t.ok(gathered[i]?.subarray(4096, 8192).equals(pattern(4096, i)));
      client.close();
    },
  },
  {
    name: 'requests under one cookie are each answered under it',
    covers: ['cookies'],
    needs: 'cache',
    async run(t, target) {
      const client = await open(target, false);
      const cookie = 0xfedcba9876543210n;
      for (let i = 0; i < 20; i++) client.request({ type: CMD.cache, cookie, length: 4096 });
      for (let i = 0; i < 20; i++) t.equal((await client.readSimple()).cookie, cookie);
      client.close();
    },
  },
  {
    name: 'DISC closes whatever its other fields say, and what follows it is not done',
    covers: ['disc-closes'],
    needs: 'writeZeroes',
    async run(t, target) {
      const bytes = pattern(4096, 9);
      const keeper = await open(target);
      await write(keeper, 38 * MIB, bytes);
      for (const fields of [{}, { flags: 0xffff }, { offset: 2n ** 64n - 1n, length: 0xffffffff }]) {
        const client = await open(target, false);
        client.request({ type: CMD.disc, ...fields });
        client.request({ type: CMD.writeZeroes, offset: 38 * MIB, length: 4096 });
        t.equal((await client.readToEnd()).length, 0);
        client.close();
      }
      t.ok((await read(keeper, 38 * MIB, 4096)).data.equals(bytes));
      keeper.close();
    },
  },
  {
    name: 'DISC lets what came before it finish, and closes',
    covers: ['disc-finishes', 'disc-closes'],
    async run(t, target) {
      const client = await open(target, false);
      const bytes = pattern(MIB, 5);
      client.request({ type: CMD.write, offset: 36 * MIB, length: MIB }, bytes);
      client.request({ type: CMD.disc });
      const rest = await client.readToEnd();
      t.ok(rest.length === 16 || rest.length === 0, 'at most the answer of the WRITE');
      const other = await open(target);
      t.ok((await read(other, 36 * MIB, MIB)).data.equals(bytes));
      other.close();
    },
  },
];
