// Extended headers: what the protocol document's extension of that name demands (doc/proto.md, branch extension-ext-header).
// That every answer comes with the long header, the cookie and the offset of its request, and lengths that fit, RawNbd
// checks at each of them.
import fc from 'fast-check';
import {
  CHUNK,
  CMD,
  ERRNO,
  FLAG,
  infoRequest,
  MAX_PAYLOAD,
  MIB,
  metaRequest,
  OPT,
  optionMessage,
  REP,
  requestMessage,
  statusFilter,
  TRANSMISSION,
} from '../support/nbd-wire.js';
import { type Answer, RawNbd } from '../support/raw-nbd.js';
import { replay } from '../support/replay.js';
import { type Case, negotiateTarget, openTarget, type Target } from './target.js';

const CONTEXT = 'base:allocation';
const OTHER = 'qemu:allocation-depth';
const GIB4 = 2n ** 32n;

const open = async (target: Target, ...contexts: string[]): Promise<RawNbd> =>
  (await openTarget(target, contexts.length > 0 ? { contexts } : {})).client;

async function stays(client: RawNbd): Promise<boolean> {
  return (await client.command({ type: CMD.read, length: 512 })).error === 0;
}

/** A request that announces the payload with it, whatever its command is. */
async function withPayload(
  client: RawNbd,
  type: number,
  payload: Buffer,
  fields: { offset?: bigint | number; flags?: number } = {},
): Promise<Answer> {
  const flags = (fields.flags ?? 0) | FLAG.payloadLen;
  const cookie = client.request({ type, ...fields, flags, length: payload.length }, payload);
  return client.readAnswer(cookie, null);
}

/** What looks like requests, for whoever took a payload for some. */
function trap(length: number): Buffer {
  const one = requestMessage({ type: CMD.writeZeroes, offset: 70 * MIB, length: 4096 }, 'extended');
  return Buffer.alloc(length, one);
}

/** Writes where the trap would put zeros; the returned function says whether it is still there. */
async function bait(target: Target): Promise<() => Promise<boolean>> {
  const bytes = Buffer.alloc(4096, 0x5e);
  const client = await open(target);
  await client.command({ type: CMD.write, offset: 70 * MIB, length: 4096 }, bytes);
  return async () => {
    const { data } = await client.command({ type: CMD.read, offset: 70 * MIB, length: 4096 });
    client.close();
    return data.equals(bytes);
  };
}

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

/** Calls `use` where the server offers the choice; else what it has to do with a payload it does not offer to take. */
async function choosing(
  t: Parameters<Case['run']>[0],
  target: Target,
  use: (client: RawNbd, ids: number[]) => Promise<void>,
): Promise<void> {
  const names = target.promises ? [CONTEXT, OTHER] : [CONTEXT];
  const client = await negotiateTarget(target);
  const ids = [...(await client.setContexts(target.writable, names)).values()];
  const { flags } = await client.go(target.writable);
  if (flags & TRANSMISSION.blockStatusPayload) {
    await use(client, ids);
  } else {
    t.notOk(target.promises, 'the choice is offered');
    const filter = statusFilter(4096, ids.slice(0, 1));
    t.equal((await withPayload(client, CMD.blockStatus, filter)).error, ERRNO.inval, 'not offered');
  }
  t.ok(await stays(client));
  client.close();
}

export const choiceCases: Case[] = [
  {
    name: 'BLOCK_STATUS with a payload answers for the contexts it names, once each, and without one for all',
    covers: ['ext-filter'],
    run: (t, target) =>
      choosing(t, target, async (client, ids) => {
        for (const chosen of [ids, ids.slice(0, 1), ids.slice(-1), [...ids].reverse()]) {
          const answer = await withPayload(client, CMD.blockStatus, statusFilter(8 * MIB, chosen), {
            offset: 4096,
          });
          t.equal(answer.error, 0);
          t.same([...answer.status.keys()].sort(), [...chosen].sort());
          t.equal(answer.chunks.filter(({ type }) => type === CHUNK.blockStatusExt).length, chosen.length);
        }
        const all = await client.command({ type: CMD.blockStatus, length: 8 * MIB });
        t.same([...all.status.keys()].sort(), [...ids].sort());
      }),
  },
  {
    name: 'the length in the payload is the one that counts: for REQ_ONE, and for the end of the device',
    covers: ['ext-filter'],
    run: (t, target) =>
      choosing(t, target, async (client, ids) => {
        const [id] = ids as [number];
        const one = await withPayload(client, CMD.blockStatus, statusFilter(8192, [id]), {
          flags: FLAG.reqOne,
        });
        t.equal(one.status.get(id)?.length, 1);
        t.ok((one.status.get(id)?.[0]?.length as number) <= 8192);
        const last = await withPayload(client, CMD.blockStatus, statusFilter(4096, [id]), {
          offset: target.size - 4096n,
        });
        t.equal(last.error, 0, 'to the end');
        for (const length of [8192n, GIB4 + 4096n, 2n ** 64n - 1n]) {
          const beyond = await withPayload(client, CMD.blockStatus, statusFilter(length, [id]), {
            offset: target.size - 4096n,
          });
          t.equal(beyond.error, ERRNO.inval, `${length} bytes beyond the end`);
        }
      }),
  },
  {
    name: 'unknown contexts, one twice, and payloads of another shape are consumed, EINVAL, and the connection stays',
    covers: ['ext-filter-form'],
    run: (t, target) =>
      choosing(t, target, async (client, ids) => {
        const [id] = ids as [number];
        const strange = Math.max(...ids) + 1;
        const wrong: [string, Buffer][] = [
          ['an unknown id', statusFilter(4096, [strange])],
          ['a known and an unknown id', statusFilter(4096, [id, strange])],
          ['an id of 32 bits', statusFilter(4096, [0xffffffff])],
          ['an id twice', statusFilter(4096, [id, id])],
          ['no id', statusFilter(4096, [])],
          ['half a length', Buffer.alloc(4)],
          ['half an id', statusFilter(4096, [id]).subarray(0, 10)],
          [
            'ids without end',
            statusFilter(
              4096,
              Array.from({ length: 20_000 }, (_, i) => i),
            ),
          ],
        ];
        for (const [what, payload] of wrong) {
          t.equal((await withPayload(client, CMD.blockStatus, payload)).error, ERRNO.inval, what);
          t.ok(await stays(client), what);
        }
      }),
  },
  {
    name: 'many choices on the way at once are each answered for what they chose',
    covers: ['ext-filter', 'out-of-order'],
    run: (t, target) =>
      choosing(t, target, async (client, ids) => {
        const wanted = new Map<bigint, Set<number>>();
        for (let i = 0; i < 100; i++) {
          const chosen = ids.filter((_, n) => (i >> n) & 1);
          if (chosen.length === 0) continue;
          const payload = statusFilter(MIB, chosen);
          const cookie = client.request(
            { type: CMD.blockStatus, flags: FLAG.payloadLen, length: payload.length },
            payload,
          );
          wanted.set(cookie, new Set(chosen));
        }
        for (let left = wanted.size; left > 0; ) {
          const chunk = await client.readChunk();
          const chosen = wanted.get(chunk.cookie);
          t.ok(chosen?.delete(chunk.data.readUInt32BE(0)), 'a context that was chosen, once');
          if ((chunk.flags & 1) === 0) continue;
          t.equal(chosen?.size, 0, 'all of them');
          left--;
        }
      }),
  },
];
