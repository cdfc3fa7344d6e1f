// Program of its own, started by isolated-scan.ts: opens a copy of a LevelDB directory and writes its records to stdout. In a process
// of its own because LevelDB ends the process it runs in (assertions) at some kinds of damage.
//
//   node metadata-reader.js DIRECTORY FROM TO [FROM TO]...     bounds in hexadecimal
//
// Output: one byte when the database is open; per record u32 range, u32 key bytes, u32 value bytes (little-endian), key, value.
// Exit codes: 0; 3 it cannot be opened; 4 it cannot be read to the end. What is wrong goes to stderr.

import { once } from 'node:events';

import { classicLevel } from '../../catalog/level.js';
import { reasonOf } from './findings.js';

const CANNOT_OPEN = 3;
const CANNOT_READ = 4;

async function write(bytes: Buffer): Promise<void> {
  if (!process.stdout.write(bytes)) await once(process.stdout, 'drain');
}

function frame(range: number, [key, value]: [Buffer, Buffer]): Buffer {
  const head = Buffer.allocUnsafe(12);
  head.writeUInt32LE(range, 0);
  head.writeUInt32LE(key.length, 4);
  head.writeUInt32LE(value.length, 8);
  return Buffer.concat([head, key, value]);
}

async function main([directory, ...bounds]: string[]): Promise<number> {
  const level = classicLevel(directory!);
  try {
    await level.open();
  } catch (error) {
    process.stderr.write(reasonOf(error));
    return CANNOT_OPEN;
  }
  try {
    await write(Buffer.of(1));
    for (let at = 0; at < bounds.length; at += 2) {
      const range = { gte: Buffer.from(bounds[at]!, 'hex'), lt: Buffer.from(bounds[at + 1]!, 'hex') };
      for await (const page of level.scan(range)) {
        await write(Buffer.concat(page.map((entry) => frame(at / 2, entry))));
      }
    }
    return 0;
  } catch (error) {
    process.stderr.write(reasonOf(error));
    return CANNOT_READ;
  } finally {
    await level.close();
  }
}

process.exitCode = await main(process.argv.slice(2));
