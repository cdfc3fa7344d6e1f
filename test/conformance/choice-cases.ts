// Extended headers: BLOCK_STATUS with a payload that chooses contexts (doc/proto.md, branch extension-ext-header).
import { CHUNK, CMD, ERRNO, FLAG, MIB, statusFilter, TRANSMISSION } from '../support/nbd-wire.js';
import type { RawNbd } from '../support/raw-nbd.js';
import { CONTEXT, GIB4, stays, withPayload } from './extended-requests.js';
import { type Case, negotiateTarget, type Target } from './target.js';

const OTHER = 'qemu:allocation-depth';

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
