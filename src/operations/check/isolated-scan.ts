// Reads a copy of the metadata through a process of its own (metadata-reader.ts): whatever LevelDB makes of damage, only that one ends.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { KeyRange } from '../../catalog/level.js';

/** Records of one or more ranges, in order of ranges and keys. */
export interface ScannedPage {
  /** Index of the range. */
  range: number;
  entries: [Buffer, Buffer][];
}

/** The database cannot be opened: nothing was read. Any other error means that reading broke off. */
export class CannotOpen extends Error {}

const READER = fileURLToPath(new URL('./metadata-reader.js', import.meta.url));
const HEAD_BYTES = 12;
const OPENED_BYTES = 1;

export async function* isolatedScan(
  directory: string,
  ranges: readonly KeyRange[],
): AsyncGenerator<ScannedPage> {
  const bounds = ranges.flatMap(({ gte, lt }) => [gte.toString('hex'), lt.toString('hex')]);
  const { NODE_OPTIONS: _options, ...env } = process.env;
  const child = spawn(process.execPath, [READER, directory, ...bounds], {
    cwd: directory,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  // An error before anybody waits for it is told when somebody does.
  ended.catch(() => undefined);
  let complaint = '';
  child.stderr.on('data', (bytes: Buffer) => {
    complaint = (complaint + bytes.toString()).slice(-1000);
  });
  const frames = new Frames();
  try {
    for await (const bytes of child.stdout as AsyncIterable<Buffer>) yield* frames.take(bytes);
    const [code, signal] = await ended;
    if (code === 0) return;
    const reason = signal ? `LevelDB gave up on it (${signal}${assertion(complaint)})` : complaint.trim();
    throw frames.opened ? new Error(reason) : new CannotOpen(reason);
  } finally {
    child.kill('SIGKILL');
    await ended.catch(() => undefined);
  }
}

function assertion(complaint: string): string {
  const found = /Assertion `([^']*)'/.exec(complaint);
  return found ? `: ${found[1]}` : '';
}

/** Cuts the stream into records. */
class Frames {
  opened = false;
  #rest: Buffer = Buffer.alloc(0);

  *take(bytes: Buffer): Generator<ScannedPage> {
    let buffer = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    if (!this.opened) {
      this.opened = true;
      buffer = buffer.subarray(OPENED_BYTES);
    }
    let page: ScannedPage | null = null;
    let at = 0;
    while (buffer.length - at >= HEAD_BYTES) {
      const range = buffer.readUInt32LE(at);
      const keyAt = at + HEAD_BYTES;
      const valueAt = keyAt + buffer.readUInt32LE(at + 4);
      const end = valueAt + buffer.readUInt32LE(at + 8);
      if (end > buffer.length) break;
      if (page && page.range !== range) {
        yield page;
        page = null;
      }
      page ??= { range, entries: [] };
      page.entries.push([buffer.subarray(keyAt, valueAt), buffer.subarray(valueAt, end)]);
      at = end;
    }
    this.#rest = buffer.subarray(at);
    if (page) yield page;
  }
}
