// An NBD server that says what a test wants it to say: for clients that must not believe everything. Its export is of zeros and ones.

import net from 'node:net';
import type { Test } from 'tap';
import { ByteStream } from '../../src/nbd-client/byte-stream.js';
import {
  CHUNK,
  COMMAND,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  REQUEST_BYTES,
  STRUCTURED_REPLY_MAGIC,
  TRANSMISSION_FLAG,
} from '../../src/nbd-client/wire.js';

export interface Lies {
  sizeBytes: bigint;
  readOnly?: boolean;
  /** Names of the contexts that are granted, whatever is asked. */
  contexts?: string[];
  /** The reply to GO. */
  goError?: { type: number; sentence: string };
  /** Extents of each context for a BLOCK_STATUS; null: no answer ever. */
  status?: (offset: bigint, length: number) => { length: number; flags: number }[][] | null;
  /** Chunks of a READ; null: no answer ever. */
  read?: (offset: bigint, length: number) => { type: number; payload: Buffer }[] | null;
  onConnection?: () => void;
}

export function dataChunk(offset: bigint, data: Buffer): { type: number; payload: Buffer } {
  const head = Buffer.alloc(8);
  head.writeBigUInt64BE(offset);
  return { type: CHUNK.offsetData, payload: Buffer.concat([head, data]) };
}

/** Answers its address. */
export async function lyingServer(t: Test, path: string, lies: Lies): Promise<string> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    lies.onConnection?.();
    serve(new ByteStream(socket), lies).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `unix:${path}`;
}

async function serve(stream: ByteStream, lies: Lies): Promise<void> {
  const greeting = Buffer.alloc(18);
  greeting.writeBigUInt64BE(NBD_MAGIC, 0);
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
  greeting.writeUInt16BE(3, 16);
  await stream.send(greeting);
  await stream.receive(4);
  for (let isOpen = false; !isOpen; ) isOpen = await option(stream, lies);
  for (;;) await request(stream, lies);
}

async function option(stream: ByteStream, lies: Lies): Promise<boolean> {
  const head = await stream.receive(16);
  const number = head.readUInt32BE(8);
  await stream.receive(head.readUInt32BE(12));
  const reply = (type: number, data = Buffer.alloc(0)): Promise<void> => {
    const bytes = Buffer.alloc(20);
    bytes.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
    bytes.writeUInt32BE(number, 8);
    bytes.writeUInt32BE(type, 12);
    bytes.writeUInt32BE(data.length, 16);
    return stream.send(bytes, data);
  };
  if (number === OPTION.setMetaContext) {
    for (const [index, name] of (lies.contexts ?? ['base:allocation']).entries()) {
      const id = Buffer.alloc(4);
      id.writeUInt32BE(index + 1);
      await reply(OPTION_REPLY.metaContext, Buffer.concat([id, Buffer.from(name)]));
    }
  }
  if (number === OPTION.go && lies.goError) {
    await reply(lies.goError.type, Buffer.from(lies.goError.sentence));
    return false;
  }
  if (number === OPTION.go) {
    const info = Buffer.alloc(12);
    info.writeUInt16BE(INFO.export, 0);
    info.writeBigUInt64BE(lies.sizeBytes, 2);
    const readOnly = lies.readOnly === false ? 0 : TRANSMISSION_FLAG.readOnly;
    info.writeUInt16BE(TRANSMISSION_FLAG.hasFlags | readOnly, 10);
    await reply(OPTION_REPLY.info, info);
  }
  await reply(OPTION_REPLY.ack);
  return number === OPTION.go;
}

async function request(stream: ByteStream, lies: Lies): Promise<void> {
  const head = await stream.receive(REQUEST_BYTES);
  const cookie = head.readBigUInt64BE(8);
  const offset = head.readBigUInt64BE(16);
  const length = head.readUInt32BE(24);
  const chunks =
    head.readUInt16BE(6) === COMMAND.blockStatus
      ? lies.status?.(offset, length)?.map((extents, index) => ({
          type: CHUNK.blockStatus,
          payload: statusPayload(index + 1, extents),
        }))
      : (lies.read ?? ((at, bytes) => [dataChunk(at, Buffer.alloc(bytes, 1))]))(offset, length);
  for (const [index, { type, payload }] of (chunks ?? []).entries()) {
    const bytes = Buffer.alloc(20);
    bytes.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
    bytes.writeUInt16BE(index === chunks!.length - 1 ? 1 : 0, 4);
    bytes.writeUInt16BE(type, 6);
    bytes.writeBigUInt64BE(cookie, 8);
    bytes.writeUInt32BE(payload.length, 16);
    await stream.send(bytes, payload);
  }
}

function statusPayload(id: number, extents: { length: number; flags: number }[]): Buffer {
  const payload = Buffer.alloc(4 + extents.length * 8);
  payload.writeUInt32BE(id, 0);
  for (const [index, { length, flags }] of extents.entries()) {
    payload.writeUInt32BE(length, 4 + index * 8);
    payload.writeUInt32BE(flags, 8 + index * 8);
  }
  return payload;
}
