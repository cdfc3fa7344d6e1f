// Clients that are broken, malicious or gone: at worst their own connection ends. After each, another client is served.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import {
  CMD,
  infoRequest,
  MAX_PAYLOAD,
  MIB,
  OPT,
  optionMessage,
  requestMessage,
  u32,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { replay } from '../support/replay.js';
import type { Case, Target } from './target.js';

const open = async ({ address, writable }: Target): Promise<RawNbd> =>
  (await RawNbd.open(address, writable, { structured: false })).client;

async function serves(target: Target): Promise<boolean> {
  const client = await open(target);
  const { error, data } = await client.command({ type: CMD.read, length: 4096 });
  client.close();
  return error === 0 && data.length === 4096;
}

/** Resident bytes of the server, shared file pages not counted. */
function anonymousBytes(processId: number): number {
  const line = readFileSync(`/proc/${processId}/status`, 'utf8').match(/^RssAnon:\s+(\d+) kB/m);
  return Number(line?.[1] ?? 0) * 1024;
}

/**
 * What 8 greedy clients may cost: two answers of the largest size do not fit into what one connection may hold (64 MiB with
 * their headers), so one each; the payload of the writer that stays in the pool of its thread; and some for everything else.
 */
const HELD_BY_GREEDY = 8 * MAX_PAYLOAD + MAX_PAYLOAD + 32 * MIB;

export const hostileCases: Case[] = [
  {
    name: 'bad magic before a request closes',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const client = await open(target);
      const message = requestMessage({ type: CMD.read, length: 512 });
      message.writeUInt32BE(0xdeadbeef, 0);
      client.send(message);
      const rest = (await client.readToEnd()).length;
      // An answer to what cannot be read is of no use, but not forbidden.
      t.ok(rest === 0 || (rest === 16 && !target.promises), `${rest} bytes`);
      t.ok(await serves(target));
    },
  },
  {
    name: 'a request that arrives byte by byte is served',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const client = await open(target);
      const whole = Buffer.concat([requestMessage({ type: CMD.write, length: 16 }), Buffer.alloc(16, 3)]);
      for (const byte of whole) await client.sendAll(Buffer.from([byte]));
      t.equal((await client.readSimple()).error, 0);
      client.close();
    },
  },
  {
    name: 'a client that leaves within a request or its payload harms nobody, and half a payload changes no other place',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const keeper = await open(target);
      await keeper.command({ type: CMD.write, offset: 2 * MIB, length: 4096 }, Buffer.alloc(4096, 0x42));
      const whole = Buffer.concat([
        requestMessage({ type: CMD.write, offset: MIB, length: 65536 }),
        Buffer.alloc(65536, 0xee),
      ]);
      for (const cut of [1, 4, 27, 28, 29, 28 + 4096, 28 + 65535]) {
        const client = await open(target);
        await client.sendAll(whole.subarray(0, cut));
        client.close();
      }
      t.ok(await serves(target));
      const kept = await keeper.command({ type: CMD.read, offset: 2 * MIB, length: 4096 });
      t.ok(kept.data.equals(Buffer.alloc(4096, 0x42)));
      keeper.close();
    },
  },
  {
    name: 'a client that leaves without reading its answers harms nobody',
    covers: ['memory-bounded', 'bytes-harmless'],
    async run(t, target) {
      for (let i = 0; i < 20; i++) {
        const client = await open(target);
        client.pauseReading();
        for (let n = 0; n < 20; n++) client.request({ type: CMD.read, length: 256 * 1024 });
        client.close();
      }
      t.ok(await serves(target));
    },
  },
  {
    name: 'clients that ask for gigabytes and do not read cost what the limits say and stall nobody',
    covers: ['memory-bounded'],
    async run(t, target) {
      const before = target.processId === null ? 0 : anonymousBytes(target.processId);
      const writer = await open(target);
      await writer.command({ type: CMD.write, length: MAX_PAYLOAD }, Buffer.alloc(MAX_PAYLOAD, 1));
      const greedy: RawNbd[] = [];
      for (let i = 0; i < 8; i++) {
        const client = await open(target);
        for (let n = 0; n < 100; n++) client.request({ type: CMD.read, length: MAX_PAYLOAD });
        await client.readSimple(); // from here on the server holds the rest of a whole answer
        client.pauseReading();
        greedy.push(client);
      }
      let most = 0;
      for (let i = 0; i < 100; i++) {
        t.equal((await writer.command({ type: CMD.read, offset: i * 4096, length: 4096 })).error, 0);
        if (target.processId !== null) most = Math.max(most, anonymousBytes(target.processId) - before);
      }
      if (target.processId !== null) {
        t.ok(most < HELD_BY_GREEDY, `grew by ${Math.round(most / MIB)} MiB of the 25 GiB asked for`);
      }
      for (const client of greedy) client.close();
      writer.close();
      t.ok(await serves(target));
    },
  },
  {
    name: 'a client that reads slowly gets everything it asked for',
    covers: ['memory-bounded', 'read-covers'],
    async run(t, target) {
      const client = await open(target);
      client.pauseReading();
      const count = 40;
      for (let i = 0; i < count; i++) client.request({ type: CMD.read, cookie: BigInt(i), length: 2 * MIB });
      t.ok(await serves(target), 'somebody else meanwhile');
      client.resumeReading();
      for (let i = 0; i < count; i++) {
        t.equal((await client.readSimple()).error, 0);
        t.equal((await client.read(2 * MIB)).length, 2 * MIB);
      }
      client.close();
    },
  },
  {
    name: 'any bytes at any stage end in an answer or a closed connection',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const entrances: Record<string, () => Promise<RawNbd>> = {
        connected: () => RawNbd.connect(target.address),
        options: () => RawNbd.negotiate(target.address),
        transmission: () => open(target),
      };
      const stage = fc.constantFrom(...Object.keys(entrances));
      const option = fc
        .tuple(fc.nat(14), fc.uint8Array({ maxLength: 200 }))
        .map(([number, data]) => optionMessage(number, Buffer.from(data)));
      // Reads and unknown commands only: the content of the export stays what other cases expect.
      const request = fc
        .tuple(
          fc.constantFrom(0, 5, 7, 8, 99),
          fc.nat(0xffff),
          fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
          fc.nat(70_000),
        )
        .map(([type, flags, offset, length]) => requestMessage({ type, flags, offset, length }));
      const garbage = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
      const property = fc.asyncProperty(
        stage,
        fc.array(fc.oneof(option, request, garbage), { maxLength: 12 }),
        async (where, parts) => {
          const client = await (entrances[where] as () => Promise<RawNbd>)();
          await client.sendAll(Buffer.concat(parts));
          client.endSending();
          client.close();
          return serves(target);
        },
      );
      await t.resolves(fc.assert(property, replay({ quick: 50, normal: 200, long: 5000 })));
    },
  },
  {
    name: 'a hundred clients that connect and say nothing leave room for one that does',
    covers: ['bytes-harmless'],
    async run(t, target) {
      const silent = await Promise.all(Array.from({ length: 100 }, () => RawNbd.connect(target.address)));
      t.ok(await serves(target));
      for (const client of silent) client.close();
      const talker = await RawNbd.connect(target.address);
      await talker.greeting();
      talker.send(u32(3), optionMessage(OPT.go, infoRequest(target.writable)));
      t.equal((await talker.readOptionReply()).option, OPT.go);
      talker.close();
    },
  },
];
