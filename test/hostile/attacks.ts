// What hostile and broken clients do, each bounded by counts and never by time. An attack ends with its clients gone; what it
// left behind at the server is for the caller to look at.
import {
  CMD,
  infoRequest,
  MAX_PAYLOAD,
  MIB,
  metaRequest,
  OPT,
  optionMessage,
  requestMessage,
  u32,
  u64,
} from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';

export interface Victim {
  address: string;
  /** A writable export that only the attackers use, of 64 MiB at least. */
  name: string;
}

export interface Attack {
  name: string;
  /** `rounds`: how much of it. */
  run: (victim: Victim, rounds: number) => Promise<void>;
}

const open = async ({ address, name }: Victim): Promise<RawNbd> =>
  (await RawNbd.open(address, name, { structured: false })).client;

/** Does it so many times, some at a time. */
async function crowd(times: number, together: number, one: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < times) await one(next++);
  };
  await Promise.all(Array.from({ length: together }, worker));
}

/** Sends without reading; only when somebody else has been served meanwhile are the answers read, all of them. */
async function floodThenRead(address: string, option: Buffer, times: number): Promise<void> {
  const client = await RawNbd.negotiate(address);
  client.pauseReading();
  const hundred = Buffer.concat(Array.from({ length: 100 }, () => option));
  for (let n = 0; n < times; n += 100) client.send(hundred);
  client.send(optionMessage(OPT.abort));
  const other = await RawNbd.negotiate(address);
  await other.optionEnd(OPT.list);
  other.close();
  client.resumeReading();
  await client.readToEnd();
  client.close();
}

/** Sends and reads: every option is answered. */
async function askOften(client: RawNbd, option: number, data: Buffer, times: number): Promise<void> {
  for (let n = 0; n < times; n++) await client.optionEnd(option, data);
  client.close();
}

const bigOption = Buffer.alloc(256 * 1024, 0x61);
const manyQueries = metaRequest(
  'disk',
  Array.from({ length: 5000 }, (_, n) => `qemu:dirty-bitmap:${n}`),
);

/** Touches no server: what any process beside the client costs it on this machine. */
export const comparison: Attack = {
  name: 'for comparison: a process that only computes',
  async run(_victim, rounds) {
    let sum = 0;
    for (let n = 0; n < rounds * 100_000; n++) sum = (sum * 31 + n) | 0;
    if (sum === 0.5) throw new Error('no integer');
    // Whoever runs it has to hear that it is enough.
    await new Promise((resolve) => setImmediate(resolve));
  },
};

export const attacks: Attack[] = [
  {
    name: 'writers that send byte by byte',
    async run(victim, rounds) {
      const bytes = Buffer.concat([requestMessage({ type: CMD.write, length: 64 }), Buffer.alloc(64, 1)]);
      await crowd(rounds, 20, async () => {
        const client = await open(victim);
        for (const byte of bytes) await client.sendAll(Buffer.from([byte]));
        await client.readSimple();
        client.close();
      });
    },
  },
  {
    name: 'handshakes that come byte by byte',
    async run({ address, name }, rounds) {
      const bytes = Buffer.concat([u32(3), optionMessage(OPT.go, infoRequest(name))]);
      await crowd(rounds, 20, async () => {
        const client = await RawNbd.connect(address);
        await client.greeting();
        for (const byte of bytes) await client.sendAll(Buffer.from([byte]));
        await client.readOptionReply();
        client.close();
      });
    },
  },
  {
    name: 'readers that take some bytes and stop again',
    async run(victim, rounds) {
      await crowd(rounds, 10, async () => {
        const client = await open(victim);
        client.pauseReading();
        for (let n = 0; n < 8; n++) client.request({ type: CMD.read, length: MIB });
        for (let n = 0; n < 20; n++) {
          client.resumeReading();
          await client.peek(1);
          client.pauseReading();
        }
        client.close();
      });
    },
  },
  {
    name: 'clients with thousands of requests that never read',
    async run(victim, rounds) {
      const requests = Buffer.concat(
        Array.from({ length: 2000 }, (_, n) =>
          requestMessage({ type: CMD.read, cookie: BigInt(n), offset: n * 4096, length: 64 * 1024 }),
        ),
      );
      const clients: RawNbd[] = [];
      for (let n = 0; n < rounds; n++) {
        const client = await open(victim);
        client.pauseReading();
        client.send(requests);
        clients.push(client);
      }
      for (const client of clients) client.close();
    },
  },
  {
    name: 'connections that are half open',
    async run(victim, rounds) {
      const silent = await Promise.all(Array.from({ length: rounds }, () => RawNbd.connect(victim.address)));
      const ended = await Promise.all(Array.from({ length: rounds }, () => open(victim)));
      for (const client of ended) {
        client.request({ type: CMD.read, length: 4096 });
        client.endSending();
      }
      for (const client of [...silent, ...ended]) client.close();
    },
  },
  {
    name: 'connections that come and go',
    async run(victim, rounds) {
      await crowd(rounds, 16, async (n) => {
        const client = await RawNbd.connect(victim.address);
        if (n % 4 > 0) await client.greeting();
        if (n % 4 > 1) client.send(u32(3));
        if (n % 4 > 2) await client.go(victim.name);
        client.close();
      });
    },
  },
  {
    name: 'floods of options, answered',
    async run({ address, name }, rounds) {
      await Promise.all([
        askOften(await RawNbd.negotiate(address), OPT.list, Buffer.alloc(0), rounds),
        askOften(await RawNbd.negotiate(address), OPT.info, infoRequest(name, [0, 1, 2, 3]), rounds),
        askOften(await RawNbd.negotiate(address), 0x1234, Buffer.alloc(100), rounds),
      ]);
    },
  },
  {
    name: 'floods of options whose answers are not read for long',
    async run({ address, name }, rounds) {
      const options = [
        optionMessage(OPT.list),
        optionMessage(OPT.info, infoRequest(name, [0, 1, 2, 3])),
        optionMessage(0x1234, Buffer.alloc(100)),
      ];
      await Promise.all(options.map((option) => floodThenRead(address, option, rounds * 20)));
    },
  },
  {
    name: 'options as large as there may be, and larger',
    async run({ address }, rounds) {
      await crowd(Math.ceil(rounds / 10), 4, async () => {
        const client = await RawNbd.negotiate(address);
        await client.optionEnd(OPT.info, bigOption);
        await client.optionEnd(OPT.go, Buffer.concat([bigOption, bigOption]));
        await client.optionEnd(OPT.listMetaContext, manyQueries);
        client.send(Buffer.concat([u64(0x49484156454f5054n), u32(OPT.go), u32(0xffffffff)]), bigOption);
        client.close();
      });
    },
  },
  {
    name: 'payloads that are giant, or never end',
    async run(victim, rounds) {
      const chunk = Buffer.alloc(MIB, 7);
      await crowd(Math.ceil(rounds / 50), 2, async (n) => {
        const client = await open(victim);
        const length = n % 2 === 0 ? MAX_PAYLOAD + 1 : 0xffffffff;
        client.send(requestMessage({ type: CMD.write, length }));
        for (let sent = 0; sent < MAX_PAYLOAD; sent += MIB) await client.sendAll(chunk);
        if (n % 2 === 0) {
          await client.sendAll(Buffer.alloc(1));
          await client.readSimple();
        }
        client.close();
      });
    },
  },
  {
    name: 'payloads that stop in the middle',
    async run(victim, rounds) {
      const bytes = Buffer.concat([
        requestMessage({ type: CMD.write, length: MAX_PAYLOAD }),
        Buffer.alloc(200_000),
      ]);
      const clients: RawNbd[] = [];
      for (let n = 0; n < Math.min(rounds, 200); n++) {
        const client = await open(victim);
        client.send(bytes);
        clients.push(client);
      }
      for (const client of clients) client.close();
    },
  },
  {
    name: 'garbage at every stage',
    async run(victim, rounds) {
      const garbage = Buffer.alloc(4096);
      for (let at = 0; at < garbage.length; at++) garbage[at] = (at * 167 + (at >> 3)) & 0xff;
      await crowd(rounds, 16, async (n) => {
        const stages = [RawNbd.connect, RawNbd.negotiate, () => open(victim)];
        const client = await (stages[n % 3] as (address: string) => Promise<RawNbd>)(victim.address);
        await client.sendAll(garbage.subarray(n % 1000));
        client.close();
      });
    },
  },
];
