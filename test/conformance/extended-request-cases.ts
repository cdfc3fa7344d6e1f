// Extended headers: requests and replies (doc/proto.md of NetworkBlockDevice/nbd, branch extension-ext-header). That every answer comes
// with the long header, the cookie and the offset of its request, and lengths that fit, RawNbd checks at each of them.
import fc from 'fast-check';
import { CHUNK, CMD, ERRNO, FLAG, MAX_PAYLOAD, MIB, requestMessage } from '../support/nbd-wire.js';
import { replay } from '../support/replay.js';
import { bait, CONTEXT, GIB4, open, stays, trap, withPayload } from './extended-requests.js';
import { type Case, openTarget } from './target.js';

export const extendedRequestCases: Case[] = [
  {
    name: 'every command is answered by chunks, also one that gives nothing back, and one of no bytes',
    covers: ['ext-replies'],
    async run(t, target) {
      const client = await open(target, CONTEXT);
      for (const offset of [0, 4096, 5 * MIB]) {
        for (const length of [512, 0]) {
          for (const type of [CMD.read, CMD.write, CMD.flush, CMD.trim, CMD.cache, CMD.writeZeroes]) {
            const range = type === CMD.flush ? {} : { offset, length };
            const payload = type === CMD.write ? Buffer.alloc(length, 1) : undefined;
            const answer = await client.command({ type, ...range }, payload);
            if (length > 0 || target.promises) t.equal(answer.error, 0, `command ${type} at ${offset}`);
            t.ok(answer.chunks.length > 0, 'chunks');
          }
        }
      }
      client.close();
    },
  },
  {
    name: 'a chunk of content says where it lies, its header where the request began',
    covers: ['ext-replies', 'offset-data'],
    async run(t, target) {
      const client = await open(target);
      const at = 60 * MIB;
      await client.command({ type: CMD.trim, offset: at, length: MIB });
      await client.command({ type: CMD.write, offset: at + 65536, length: 65536 }, Buffer.alloc(65536, 7));
      const answer = await client.command({ type: CMD.read, offset: at, length: 256 * 1024 });
      const content = answer.chunks.filter(({ type }) => type !== CHUNK.none);
      const starts = content.map(({ data }) => Number(data.readBigUInt64BE(0)) - at);
      if (target.promises) t.same(starts, [0, 65536, 131072], 'hole, data, hole');
      t.ok(answer.data.subarray(65536, 131072).equals(Buffer.alloc(65536, 7)));
      client.close();
    },
  },
  {
    name: 'the compact header is not understood any more: the connection closes',
    covers: ['ext-requests'],
    async run(t, target) {
      const client = await open(target);
      client.send(requestMessage({ type: CMD.read, length: 512 }), Buffer.alloc(64));
      t.equal((await client.readToEnd()).length, 0);
    },
  },
  {
    name: 'lengths are taken with all of their 64 bits',
    covers: ['ext-lengths'],
    async run(t, target) {
      const client = await open(target, CONTEXT);
      const kept = await bait(target);
      const expected = new Map<number, number[]>([
        [CMD.read, [ERRNO.inval, ERRNO.overflow]],
        [CMD.trim, [ERRNO.inval]],
        [CMD.cache, [ERRNO.inval]],
        [CMD.writeZeroes, [ERRNO.noSpc]],
        [CMD.blockStatus, [ERRNO.inval]],
      ]);
      for (const [type, errors] of expected) {
        for (const length of [GIB4, GIB4 + 4096n, 2n ** 63n, 2n ** 64n - 1n]) {
          const { error } = await client.command({ type, offset: 70 * MIB, length });
          t.ok(errors.includes(error), `command ${type} of ${length} bytes: ${error}`);
        }
      }
      t.ok(await stays(client));
      t.ok(await kept(), 'nothing was done to the lower half of them');
      client.close();
    },
  },
  {
    name: 'the whole device in one request, and BLOCK_STATUS of it goes on to its end',
    covers: ['ext-lengths', 'ext-status', 'zeroes-of-any-length'],
    async run(t, target) {
      const client = await open(target, CONTEXT);
      for (const type of [CMD.writeZeroes, CMD.trim]) {
        t.equal((await client.command({ type, length: target.size })).error, 0, `command ${type}`);
      }
      for (let at = 0n; at < target.size; ) {
        const answer = await client.command({ type: CMD.blockStatus, offset: at, length: target.size - at });
        t.equal(answer.error, 0);
        for (const { length } of [...answer.status.values()][0] ?? []) at += BigInt(length);
      }
      client.close();
    },
  },
  {
    name: 'a payload no command expects is consumed, EINVAL, and the connection stays in step',
    covers: ['ext-payload-consumed'],
    async run(t, target) {
      const client = await open(target);
      const kept = await bait(target);
      for (const type of [
        CMD.read,
        CMD.flush,
        CMD.trim,
        CMD.cache,
        CMD.writeZeroes,
        CMD.blockStatus,
        8,
        99,
      ]) {
        for (const length of [1, 32, 65536, 3 * MIB]) {
          const answer = await withPayload(client, type, trap(length));
          t.equal(answer.error, ERRNO.inval, `command ${type} with ${length} bytes`);
        }
        t.ok(await stays(client));
      }
      t.ok(await kept());
      client.close();
    },
  },
  {
    name: 'so is one of 32 MiB, and that of a WRITE that is refused',
    covers: ['ext-payload-consumed', 'payload-32m'],
    async run(t, target) {
      const client = await open(target);
      const kept = await bait(target);
      t.equal((await withPayload(client, CMD.trim, trap(MAX_PAYLOAD))).error, ERRNO.inval);
      const late = await withPayload(client, CMD.write, trap(65536), { offset: target.size - 4096n });
      t.equal(late.error, ERRNO.noSpc);
      const odd = await withPayload(client, CMD.write, trap(65536), { flags: FLAG.df });
      t.equal(odd.error, ERRNO.inval);
      t.ok(await stays(client));
      t.ok(await kept());
      client.close();
    },
  },
  {
    name: 'PAYLOAD_LEN without a byte is EINVAL where no payload belongs, and the connection stays',
    covers: ['ext-payload-consumed'],
    async run(t, target) {
      const client = await open(target, CONTEXT);
      for (const type of [CMD.read, CMD.flush, CMD.trim, CMD.cache, CMD.writeZeroes, CMD.blockStatus]) {
        t.equal((await withPayload(client, type, Buffer.alloc(0))).error, ERRNO.inval, `command ${type}`);
      }
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'a payload beyond the maximum ends the connection, after EINVAL, and nothing behind it is done',
    covers: ['ext-payload-limits'],
    needs: 'promises',
    async run(t, target) {
      const kept = await bait(target);
      for (const type of [CMD.write, CMD.blockStatus, CMD.trim, 99]) {
        for (const length of [BigInt(MAX_PAYLOAD) + 1n, GIB4, 2n ** 63n, 2n ** 64n - 1n]) {
          const client = await open(target, CONTEXT);
          const cookie = client.request({ type, flags: FLAG.payloadLen, length }, trap(65536));
          t.equal((await client.readAnswer(cookie, null)).error, ERRNO.inval, `${type} of ${length} bytes`);
          t.equal((await client.readToEnd()).length, 0);
          client.close();
        }
      }
      t.ok(await kept());
    },
  },
  {
    name: 'a WRITE that does not announce its data is EINVAL and ends the connection, and its data is no request',
    covers: ['ext-payload-limits'],
    needs: 'promises',
    async run(t, target) {
      const kept = await bait(target);
      const client = await open(target);
      const cookie = client.request({ type: CMD.write, length: 65536 }, trap(65536));
      t.equal((await client.readAnswer(cookie, null)).error, ERRNO.inval);
      t.equal((await client.readToEnd()).length, 0);
      client.close();
      t.ok(await kept());
    },
  },
  {
    name: 'a READ beyond the maximum is refused or comes whole, and the connection stays',
    covers: ['no-other-disconnect'],
    async run(t, target) {
      const client = await open(target);
      const { error } = await client.command({ type: CMD.read, length: MAX_PAYLOAD + 4096 });
      t.ok([0, ERRNO.inval, ERRNO.overflow].includes(error as 0), `${error}`);
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'a read-only export refuses with EPERM, payloads included, and the connection stays',
    covers: ['read-only-errors', 'read-only-eperm'],
    needs: 'readOnly',
    async run(t, target) {
      const { client } = await openTarget(target, { name: target.readOnly });
      for (const type of [CMD.trim, CMD.writeZeroes]) {
        t.equal((await client.command({ type, length: 4096 })).error, ERRNO.perm, `command ${type}`);
      }
      t.equal((await withPayload(client, CMD.write, trap(65536))).error, ERRNO.perm, 'WRITE');
      t.ok(await stays(client));
      client.close();
    },
  },
  {
    name: 'requests that arrive byte by byte are served',
    covers: ['ext-requests'],
    async run(t, target) {
      const client = await open(target);
      const whole = Buffer.concat([
        requestMessage({ type: CMD.write, flags: FLAG.payloadLen, cookie: 5n, length: 16 }, 'extended'),
        Buffer.alloc(16, 3),
      ]);
      for (const byte of whole) await client.sendAll(Buffer.from([byte]));
      const head = await client.read(32);
      t.equal(head.readBigUInt64BE(8), 5n);
      t.same(head.subarray(16, 32), Buffer.alloc(16), 'offset of the request, no payload');
      client.close();
    },
  },
  {
    name: 'any bytes end in an answer or a closed connection, and another client is served',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const number64 = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat(70_000).map(BigInt));
      // Reads, statuses and unknown commands only: the content of the export stays what other cases expect.
      const request = fc
        .tuple(
          fc.constantFrom(0, 5, 7, 8, 99),
          fc.constantFrom(0, FLAG.payloadLen, 0xffff, FLAG.df),
          number64,
          number64,
        )
        .map(([type, flags, offset, length]) => requestMessage({ type, flags, offset, length }, 'extended'));
      const garbage = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
      const property = fc.asyncProperty(
        fc.array(fc.oneof(request, garbage), { maxLength: 12 }),
        async (parts) => {
          const client = await open(target, CONTEXT);
          await client.sendAll(Buffer.concat(parts));
          client.endSending();
          client.close();
          const other = await open(target);
          const served = await stays(other);
          other.close();
          return served;
        },
      );
      await t.resolves(fc.assert(property, replay({ quick: 50, normal: 150, long: 5000 })));
    },
  },
];
