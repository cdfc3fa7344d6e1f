// LIST_META_CONTEXT, SET_META_CONTEXT and BLOCK_STATUS.

import { type Answer, type Extent, last } from '../support/nbd-answers.js';
import { CHUNK, CMD, ERRNO, FLAG, MIB, metaRequest, OPT, REP, string32, u32 } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { type Case, openTarget, replyStyles, negotiateTarget as structured, type Target } from './target.js';

const HOLE = 1;
const ZERO = 2;
const CONTEXT = 'base:allocation';

function wrongRequests(name: string): [string, Buffer][] {
  return [
    ['nothing at all', Buffer.alloc(0)],
    ['a name longer than the data', Buffer.concat([u32(4000), Buffer.from(name), u32(0)])],
    ['no count', string32(name)],
    ['fewer queries than counted', Buffer.concat([string32(name), u32(2), string32(CONTEXT)])],
    ['more queries than counted', Buffer.concat([string32(name), u32(0), string32(CONTEXT)])],
    [
      'a query longer than the data',
      Buffer.concat([string32(name), u32(1), u32(4000), Buffer.from(CONTEXT)]),
    ],
    ['four billion queries', Buffer.concat([string32(name), u32(0xffffffff)])],
  ];
}

async function writable(target: Target, ...contexts: string[]): Promise<{ client: RawNbd; ids: number[] }> {
  const opened = await openTarget(target, { contexts });
  return { client: opened.client, ids: contexts.map((name) => opened.contexts.get(name) as number) };
}

function only(answer: Answer, id: number | undefined): Extent[] {
  return answer.status.get(id as number) ?? [];
}

const sum = (list: Extent[]): number => list.reduce((total, { length }) => total + length, 0);

/** Lengths by flags, runs of equal flags joined. */
function joined(list: Extent[]): [number, number][] {
  const runs: [number, number][] = [];
  for (const { length, flags } of list) {
    const run = runs.at(-1);
    if (run && run[1] === flags) run[0] += length;
    else runs.push([length, flags]);
  }
  return runs;
}

/** BLOCK_STATUS of a range in as many requests as the server likes, cut to the range. */
async function statusOf(
  client: RawNbd,
  id: number,
  offset: number,
  length: number,
): Promise<[number, number][]> {
  const all: Extent[] = [];
  for (let done = 0; done < length; ) {
    const answer = await client.command({
      type: CMD.blockStatus,
      offset: offset + done,
      length: length - done,
    });
    if (answer.error !== 0) throw new Error(`BLOCK_STATUS failed with ${answer.error}: ${answer.message}`);
    for (const extent of only(answer, id)) {
      const kept = Math.min(extent.length, length - done);
      if (kept > 0) all.push({ length: kept, flags: extent.flags });
      done += kept;
    }
  }
  return joined(all);
}

export const contextCases: Case[] = [
  {
    name: 'SET_META_CONTEXT without structured replies is invalid',
    covers: ['set-structured'],
    needs: 'contexts',
    async run(t, { address, writable: name }) {
      const client = await RawNbd.negotiate(address);
      t.equal(await client.optionEnd(OPT.setMetaContext, metaRequest(name, [CONTEXT])), REP.errInvalid);
      client.close();
    },
  },
  {
    name: 'LIST_META_CONTEXT without structured replies is answered or invalid, and the connection goes on',
    covers: ['list-structured'],
    needs: 'contexts',
    async run(t, { address, writable: name }) {
      const client = await RawNbd.negotiate(address);
      const end = await client.optionEnd(OPT.listMetaContext, metaRequest(name, []));
      t.ok(end === REP.ack || end === REP.errInvalid, end.toString(16));
      await client.negotiateStructured();
      t.same(await client.listContexts(name, [CONTEXT]), [CONTEXT]);
      client.close();
    },
  },
  {
    name: 'LIST without queries and the wildcard base: name base:allocation, with id 0',
    covers: ['list-all', 'list-namespace', 'base-list-wildcard'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      for (const queries of [[], ['base:']]) {
        const replies = await client.option(OPT.listMetaContext, metaRequest(target.writable, queries));
        t.equal(last(replies).type, REP.ack);
        const found = replies.find(({ data }) => data.toString('utf8', 4) === CONTEXT);
        t.ok(found, `${CONTEXT} for [${queries}]`);
        if (target.promises) t.equal(found?.data.readUInt32BE(0), 0, 'the id is reserved here');
        t.ok(replies.slice(0, -1).every(({ type }) => type === REP.metaContext));
      }
      client.close();
    },
  },
  {
    name: 'LIST with queries names what matches and ignores what nobody knows',
    covers: ['list-matching', 'list-unknown-namespace', 'list-nothing', 'base-unknown-leaf'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      t.same(await client.listContexts(target.writable, [CONTEXT]), [CONTEXT]);
      t.same(await client.listContexts(target.writable, ['x-nobody:knows', 'base:nonsense']), []);
      t.same(await client.listContexts(target.writable, ['x-nobody:knows', CONTEXT]), [CONTEXT]);
      client.close();
    },
  },
  {
    name: 'qemu: lists the allocation depth and a bitmap for each snapshot',
    covers: ['qemu-contexts'],
    needs: 'bitmap',
    async run(t, target) {
      const client = await structured(target);
      const bitmap = `qemu:dirty-bitmap:${target.bitmap}`;
      const all = await client.listContexts(target.writable, ['qemu:']);
      t.ok(all.includes('qemu:allocation-depth'));
      t.ok(all.includes(bitmap));
      t.ok((await client.listContexts(target.writable, ['qemu:dirty-bitmap:'])).includes(bitmap));
      t.same(await client.listContexts(target.writable, [bitmap]), [bitmap]);
      t.same(await client.listContexts(target.writable, ['qemu:dirty-bitmap:nobody took this']), []);
      t.ok((await client.listContexts(target.writable, [])).includes(bitmap));
      client.close();
    },
  },
  {
    name: 'SET selects what is asked, once each, under ids that differ',
    covers: ['set-ids', 'base-unknown-leaf', 'list-unknown-namespace'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      const asked = [CONTEXT, CONTEXT, 'x-nobody:knows', 'base:nonsense'];
      if (target.promises) asked.push('qemu:allocation-depth');
      const replies = await client.option(OPT.setMetaContext, metaRequest(target.writable, asked));
      t.equal(last(replies).type, REP.ack);
      const chosen = replies.slice(0, -1).map(({ data }) => data.toString('utf8', 4));
      t.same(chosen.sort(), target.promises ? [CONTEXT, 'qemu:allocation-depth'] : [CONTEXT]);
      t.equal(new Set(replies.slice(0, -1).map(({ data }) => data.readUInt32BE(0))).size, chosen.length);
      client.close();
    },
  },
  {
    name: 'SET ignores wildcards',
    covers: ['base-set-ignored'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      const queries = target.promises ? ['base:', 'qemu:', 'qemu:dirty-bitmap:'] : ['base:'];
      t.equal((await client.setContexts(target.writable, queries)).size, 0);
      client.close();
    },
  },
  {
    name: 'an unknown export, and lengths that do not fit, are refused and the connection goes on',
    covers: ['list-syntax', 'option-lengths'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      for (const option of [OPT.listMetaContext, OPT.setMetaContext]) {
        t.equal(await client.optionEnd(option, metaRequest('no such export', [CONTEXT])), REP.errUnknown);
        for (const [what, data] of wrongRequests(target.writable)) {
          t.equal(await client.optionEnd(option, data), REP.errInvalid, what);
        }
      }
      t.same(await client.listContexts(target.writable, [CONTEXT]), [CONTEXT]);
      client.close();
    },
  },
  {
    name: 'a thousand queries are answered or refused as too many',
    covers: ['many-queries'],
    needs: 'contexts',
    async run(t, target) {
      const client = await structured(target);
      const queries = Array.from({ length: 1000 }, (_, i) => `x-${i}:`);
      const end = await client.optionEnd(
        OPT.setMetaContext,
        metaRequest(target.writable, [...queries, CONTEXT]),
      );
      t.ok(end === REP.ack || end === REP.errTooBig, end.toString(16));
      client.close();
    },
  },
  {
    name: 'a later SET replaces the former one, also when it selects nothing or fails',
    covers: ['set-replaces', 'set-none'],
    needs: 'contexts',
    async run(t, target) {
      const later: [string, Buffer][] = [
        ['selects nothing', metaRequest(target.writable, [])],
        ['knows none of the names', metaRequest(target.writable, ['x-nobody:knows'])],
        ['is malformed', Buffer.concat([string32(target.writable), u32(7)])],
        ['names an unknown export', metaRequest('no such export', [CONTEXT])],
      ];
      for (const [what, data] of later) {
        const client = await structured(target);
        await client.setContexts(target.writable, [CONTEXT]);
        await client.option(OPT.setMetaContext, data);
        await client.go(target.writable);
        const answer = await client.command({ type: CMD.blockStatus, length: 4096 });
        t.equal(answer.error, ERRNO.inval, `no contexts after one that ${what}`);
        client.close();
      }
    },
  },
  {
    name: 'contexts set for another export than the one opened are not valid',
    covers: ['set-same-name'],
    needs: ['contexts', 'readOnly', 'secondExport'],
    async run(t, target) {
      const client = await structured(target);
      await client.setContexts(target.readOnly as string, [CONTEXT]);
      await client.go(target.writable);
      t.equal((await client.command({ type: CMD.blockStatus, length: 4096 })).error, ERRNO.inval);
      t.equal((await client.command({ type: CMD.read, length: 4096 })).error, 0);
      client.close();
    },
  },
];

export const statusCases: Case[] = [
  {
    name: 'BLOCK_STATUS without contexts is EINVAL, with structured replies and without',
    covers: ['status-no-context'],
    async run(t, target) {
      for (const isStructured of replyStyles(target)) {
        const { client } = await openTarget(target, { structured: isStructured });
        t.equal((await client.command({ type: CMD.blockStatus, length: 4096 })).error, ERRNO.inval);
        t.equal((await client.command({ type: CMD.read, length: 4096 })).error, 0, 'the connection stays');
        client.close();
      }
    },
  },
  {
    name: 'there is one chunk per context, every extent has a length, and the answer makes progress',
    covers: ['status-per-context', 'status-one-chunk', 'status-progress', 'block-status'],
    needs: 'contexts',
    async run(t, target) {
      const names = target.promises ? [CONTEXT, 'qemu:allocation-depth'] : [CONTEXT];
      const { client, ids } = await writable(target, ...names);
      const answer = await client.command({ type: CMD.blockStatus, offset: 4096, length: 8 * MIB });
      t.equal(answer.error, 0);
      t.same([...answer.status.keys()].sort(), [...ids].sort());
      const status = target.extended ? CHUNK.blockStatusExt : CHUNK.blockStatus;
      t.equal(answer.chunks.filter(({ type }) => type === status).length, ids.length);
      for (const id of ids)
        t.ok(only(answer, id).length > 0 && only(answer, id).every(({ length }) => length > 0));
      client.close();
    },
  },
  {
    name: 'REQ_ONE gives one extent that is not longer than asked, at any alignment',
    covers: ['req-one'],
    needs: 'contexts',
    async run(t, target) {
      const { client, ids } = await writable(target, CONTEXT);
      const step = target.promises ? 1 : 512;
      for (const [offset, length] of [
        [0, 8 * MIB],
        [step, step],
        [4096 - step, 2 * step],
        [2 * MIB - step, 4 * MIB],
      ] as const) {
        const answer = await client.command({ type: CMD.blockStatus, flags: FLAG.reqOne, offset, length });
        t.equal(only(answer, ids[0]).length, 1, `${length} bytes at ${offset}`);
        t.ok(sum(only(answer, ids[0])) <= length);
      }
      client.close();
    },
  },
  {
    name: 'without REQ_ONE only the last extent may go beyond what was asked',
    covers: ['block-status-sum'],
    needs: ['contexts', 'writeZeroes'],
    async run(t, target) {
      const { client, ids } = await writable(target, CONTEXT);
      await client.command({ type: CMD.writeZeroes, offset: 16 * MIB, length: MIB });
      await client.command(
        { type: CMD.write, offset: 16 * MIB + 65536, length: 65536 },
        Buffer.alloc(65536, 1),
      );
      const length = 512 * 1024;
      const answer = await client.command({ type: CMD.blockStatus, offset: 16 * MIB, length });
      const list = only(answer, ids[0]);
      t.ok(sum(list.slice(0, -1)) < length);
      t.ok(16 * MIB + sum(list) <= Number(target.size), 'nor beyond the device');
      client.close();
    },
  },
  {
    name: 'a read-only export tells its status as well',
    covers: ['status-one-chunk', 'status-progress'],
    needs: ['readOnly', 'contexts'],
    async run(t, target) {
      const { client, contexts } = await openTarget(target, { name: target.readOnly, contexts: [CONTEXT] });
      const answer = await client.command({ type: CMD.blockStatus, length: MIB });
      t.equal(answer.error, 0);
      t.ok(sum(only(answer, contexts.get(CONTEXT))) > 0);
      client.close();
    },
  },
  {
    name: 'zero length succeeds or is EINVAL, past the end is EINVAL, and the connection stays',
    covers: ['status-range'],
    needs: 'contexts',
    async run(t, target) {
      const { client } = await writable(target, CONTEXT);
      const empty = await client.command({ type: CMD.blockStatus, offset: 4096, length: 0 });
      t.ok(empty.error === 0 || empty.error === ERRNO.inval);
      for (const offset of [target.size, target.size - 512n, 2n ** 63n, 2n ** 64n - 1n]) {
        const answer = await client.command({ type: CMD.blockStatus, offset, length: 4096 });
        t.equal(answer.error, ERRNO.inval, `at ${offset}`);
      }
      t.equal((await client.command({ type: CMD.blockStatus, length: 4096 })).error, 0);
      client.close();
    },
  },
  {
    name: 'base:allocation follows writes, zeroes and TRIM block by block',
    covers: ['allocation-exact'],
    needs: ['promises', 'contexts', 'trim', 'writeZeroes'],
    async run(t, target) {
      const { client, ids } = await writable(target, CONTEXT);
      const at = 32 * MIB;
      const id = ids[0] as number;
      await client.command({ type: CMD.trim, offset: at, length: 4 * MIB });
      t.same(await statusOf(client, id, at, 4 * MIB), [[4 * MIB, HOLE | ZERO]]);
      await client.command({ type: CMD.write, offset: at + 8192, length: 4096 }, Buffer.alloc(4096, 7));
      await client.command({ type: CMD.write, offset: at + 2 * MIB - 1, length: 2 }, Buffer.alloc(2, 7));
      t.same(await statusOf(client, id, at, 4 * MIB), [
        [8192, HOLE | ZERO],
        [4096, 0],
        [2 * MIB - 4096 - 12288, HOLE | ZERO],
        [8192, 0],
        [2 * MIB - 4096, HOLE | ZERO],
      ]);
      await client.command({ type: CMD.writeZeroes, offset: at + 8192, length: 4096 });
      await client.command({ type: CMD.trim, offset: at + 2 * MIB - 4096, length: 8192 });
      t.same(await statusOf(client, id, at, 4 * MIB), [[4 * MIB, HOLE | ZERO]]);
      client.close();
    },
  },
  {
    name: 'what NO_HOLE zeroed is not reported as a hole',
    covers: ['zeroes-provisioned'],
    needs: ['contexts', 'writeZeroes', 'trim'],
    async run(t, target) {
      const { client, ids } = await writable(target, CONTEXT);
      const [offset, length] = [40 * MIB, 64 * 1024];
      await client.command({ type: CMD.trim, offset, length });
      const zeroed = await client.command({ type: CMD.writeZeroes, flags: FLAG.noHole, offset, length });
      t.equal(zeroed.error, 0);
      const runs = await statusOf(client, ids[0] as number, offset, length);
      t.ok(
        runs.every(([, flags]) => (flags & HOLE) === 0),
        JSON.stringify(runs),
      );
      client.close();
    },
  },
  {
    name: 'a thousand alternating extents are told exactly',
    covers: ['allocation-exact', 'status-progress'],
    needs: ['promises', 'contexts', 'trim'],
    async run(t, target) {
      const { client, ids } = await writable(target, CONTEXT);
      const at = 48 * MIB;
      const count = 1000;
      await client.command({ type: CMD.trim, offset: at, length: count * 8192 });
      for (let i = 0; i < count; i++) {
        client.requestWrite(
          { offset: at + i * 8192, length: 4096, cookie: BigInt(i) },
          Buffer.alloc(4096, 1),
        );
      }
      for (let i = 0; i < count; i++) t.equal((await client.readEmpty()).error, 0);
      const expected = Array.from({ length: count }, () => [
        [4096, 0],
        [4096, HOLE | ZERO],
      ]).flat();
      t.same(await statusOf(client, ids[0] as number, at, count * 8192), expected);
      client.close();
    },
  },
  {
    name: 'the dirty bitmap of a snapshot names what was written since, and the depth whose it is',
    covers: ['qemu-contexts'],
    needs: 'bitmap',
    async run(t, target) {
      const { client, ids } = await writable(
        target,
        `qemu:dirty-bitmap:${target.bitmap}`,
        'qemu:allocation-depth',
      );
      const [bitmap, depth] = ids as [number, number];
      // Nothing here was written before the snapshot, and nothing since; the cases are run with either kind of headers.
      const at = (target.extended ? 104 : 96) * MIB;
      t.same(await statusOf(client, bitmap, at, MIB), [[MIB, 0]]);
      t.same(await statusOf(client, depth, at, MIB), [[MIB, 0]], 'depth 0: nobody has it');
      await client.command({ type: CMD.write, offset: at + 4096, length: 8192 }, Buffer.alloc(8192, 9));
      t.same(await statusOf(client, bitmap, at, MIB), [
        [4096, 0],
        [8192, 1],
        [MIB - 12288, 0],
      ]);
      t.same((await statusOf(client, depth, at, MIB))[1], [8192, 1], 'depth 1: our own');
      client.close();
    },
  },
];
