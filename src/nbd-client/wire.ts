// Numbers and layouts of the NBD protocol as a client needs them, pure over bytes: nothing here knows a socket.
// Source: NetworkBlockDevice/nbd, doc/proto.md.

export const NBD_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const HANDSHAKE_FLAG = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const OPTION_REPLY = { ack: 1, server: 2, info: 3, metaContext: 4 } as const;
/** Option replies with this bit are errors. */
export const OPTION_REPLY_ERROR = 0x80000000;
/** The export is not there. */
export const OPTION_REPLY_UNKNOWN = 0x80000006;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const COMMAND_FLAG = { fua: 1, noHole: 2, dontFragment: 4, requestOne: 8, fastZero: 16 } as const;

export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDontFragment: 1 << 7,
  canMultiConnect: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
} as const;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;
/** Set on the last chunk of a structured reply. */
export const CHUNK_FLAG_DONE = 1;
/** Chunk types with this bit carry an error. */
export const CHUNK_ERROR = 0x8000;

/** Extent flags of the context `base:allocation`. */
export const STATE = { hole: 1, zero: 2 } as const;

/** The errors a server may answer with; they are Linux errno values. */
export const ERRNO_NAMES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  12: 'ENOMEM',
  22: 'EINVAL',
  28: 'ENOSPC',
  75: 'EOVERFLOW',
  95: 'ENOTSUP',
  108: 'ESHUTDOWN',
};

export const REQUEST_BYTES = 28;
export const OPTION_REPLY_HEADER_BYTES = 20;

export interface RequestHeader {
  flags: number;
  command: number;
  cookie: bigint;
  offset: bigint;
  length: number;
}

export function encodeRequest(request: RequestHeader): Buffer {
  const bytes = Buffer.allocUnsafe(REQUEST_BYTES);
  bytes.writeUInt32BE(REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(request.flags, 4);
  bytes.writeUInt16BE(request.command, 6);
  bytes.writeBigUInt64BE(request.cookie, 8);
  bytes.writeBigUInt64BE(request.offset, 16);
  bytes.writeUInt32BE(request.length, 24);
  return bytes;
}

export function encodeOption(option: number, data: Uint8Array): Buffer {
  const head = Buffer.allocUnsafe(16);
  head.writeBigUInt64BE(OPTION_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(data.length, 12);
  return Buffer.concat([head, data]);
}

/** A string preceded by its length as u32, as names travel inside option data. */
export function encodeString(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.allocUnsafe(4);
  length.writeUInt32BE(bytes.length, 0);
  return Buffer.concat([length, bytes]);
}

/** Data of INFO and GO. */
export function encodeInfoRequest(exportName: string, infos: readonly number[]): Buffer {
  const tail = Buffer.allocUnsafe(2 + infos.length * 2);
  tail.writeUInt16BE(infos.length, 0);
  for (const [index, info] of infos.entries()) tail.writeUInt16BE(info, 2 + index * 2);
  return Buffer.concat([encodeString(exportName), tail]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function encodeMetaContextRequest(exportName: string, queries: readonly string[]): Buffer {
  const count = Buffer.allocUnsafe(4);
  count.writeUInt32BE(queries.length, 0);
  return Buffer.concat([encodeString(exportName), count, ...queries.map(encodeString)]);
}

export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

export interface ExportInfo {
  sizeBytes: bigint;
  /** Transmission flags, see TRANSMISSION_FLAG. */
  flags: number;
  name: string | undefined;
  description: string | undefined;
  blockSize: { minimum: number; preferred: number; maximum: number } | undefined;
}

/** Collects the INFO replies of one INFO or GO. Undefined when the server left out the one that is required. */
export function decodeExportInfo(replies: readonly OptionReply[]): ExportInfo | undefined {
  const info: ExportInfo = {
    sizeBytes: -1n,
    flags: 0,
    name: undefined,
    description: undefined,
    blockSize: undefined,
  };
  for (const { type, data } of replies) {
    if (type !== OPTION_REPLY.info || data.length < 2) continue;
    const kind = data.readUInt16BE(0);
    if (kind === INFO.export && data.length === 12) {
      info.sizeBytes = data.readBigUInt64BE(2);
      info.flags = data.readUInt16BE(10);
    } else if (kind === INFO.name) {
      info.name = data.toString('utf8', 2);
    } else if (kind === INFO.description) {
      info.description = data.toString('utf8', 2);
    } else if (kind === INFO.blockSize && data.length === 14) {
      info.blockSize = {
        minimum: data.readUInt32BE(2),
        preferred: data.readUInt32BE(6),
        maximum: data.readUInt32BE(10),
      };
    }
  }
  return info.sizeBytes < 0n ? undefined : info;
}

export interface Extent {
  lengthBytes: number;
  flags: number;
}

export interface BlockStatus {
  contextId: number;
  extents: Extent[];
}

export function decodeBlockStatus(payload: Buffer): BlockStatus {
  if (payload.length < 12 || (payload.length - 4) % 8 !== 0) {
    throw new Error(`a block status chunk of ${payload.length} bytes is malformed`);
  }
  const extents: Extent[] = [];
  for (let at = 4; at < payload.length; at += 8) {
    extents.push({ lengthBytes: payload.readUInt32BE(at), flags: payload.readUInt32BE(at + 4) });
  }
  return { contextId: payload.readUInt32BE(0), extents };
}

/** Error number and sentence of an error chunk. */
export function decodeErrorChunk(payload: Buffer): { errno: number; message: string } {
  if (payload.length < 6) return { errno: 22, message: 'malformed error chunk' };
  const length = payload.readUInt16BE(4);
  return { errno: payload.readUInt32BE(0), message: payload.toString('utf8', 6, 6 + length) };
}
