// Numbers of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd), written down once more for the tests: they must not
// agree with the server by sharing its tables.

export const MAGIC = {
  nbd: 0x4e42444d41474943n,
  option: 0x49484156454f5054n,
  optionReply: 0x0003e889045565a9n,
  request: 0x25609513,
  simpleReply: 0x67446698,
  chunk: 0x668e33ef,
  extendedRequest: 0x21e41c71,
  extendedChunk: 0x6e8a278c,
} as const;

export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPT = {
  exportName: 1,
  abort: 2,
  list: 3,
  peekExport: 4,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

const err = (n: number): number => 2 ** 31 + n;

export const REP = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: err(1),
  errPolicy: err(2),
  errInvalid: err(3),
  errPlatform: err(4),
  errTlsReqd: err(5),
  errUnknown: err(6),
  errShutdown: err(7),
  errBlockSizeReqd: err(8),
  errTooBig: err(9),
  errExtHeaderReqd: err(10),
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const TRANSMISSION = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  flush: 1 << 2,
  fua: 1 << 3,
  rotational: 1 << 4,
  trim: 1 << 5,
  writeZeroes: 1 << 6,
  df: 1 << 7,
  canMultiConn: 1 << 8,
  resize: 1 << 9,
  cache: 1 << 10,
  fastZero: 1 << 11,
  blockStatusPayload: 1 << 12,
} as const;

export const CMD = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16, payloadLen: 32 } as const;

export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  blockStatusExt: 6,
  error: 2 ** 15 + 1,
  errorOffset: 2 ** 15 + 2,
} as const;

export const CHUNK_DONE = 1;

export const ERRNO = {
  perm: 1,
  io: 5,
  noMem: 12,
  inval: 22,
  noSpc: 28,
  overflow: 75,
  notSup: 95,
  shutdown: 108,
} as const;

export const MIB = 1024 * 1024;
/** The largest payload the server promises to take. */
export const MAX_PAYLOAD = 32 * MIB;
/** The longest name the protocol allows, in bytes. */
export const MAX_STRING = 4096;

export function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint | number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A string with its 32-bit length before it. */
export function string32(text: string | Buffer): Buffer {
  const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text, 'utf8');
  return Buffer.concat([u32(bytes.length), bytes]);
}

export function optionMessage(option: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u64(MAGIC.option), u32(option), u32(data.length), data]);
}

/** The data of INFO and GO. */
export function infoRequest(name: string | Buffer, infos: number[] = []): Buffer {
  return Buffer.concat([string32(name), u16(infos.length), ...infos.map(u16)]);
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaRequest(name: string | Buffer, queries: (string | Buffer)[]): Buffer {
  return Buffer.concat([string32(name), u32(queries.length), ...queries.map(string32)]);
}

export interface RequestFields {
  type: number;
  flags?: number;
  cookie?: bigint;
  offset?: bigint | number;
  length?: bigint | number;
}

export function requestMessage(
  { type, flags = 0, cookie = 1n, offset = 0, length = 0 }: RequestFields,
  headers: 'compact' | 'extended' = 'compact',
): Buffer {
  const rest = [u16(flags), u16(type), u64(cookie), u64(offset)];
  return headers === 'extended'
    ? Buffer.concat([u32(MAGIC.extendedRequest), ...rest, u64(length)])
    : Buffer.concat([u32(MAGIC.request), ...rest, u32(Number(length))]);
}

/** The payload of BLOCK_STATUS: what is asked about, and which contexts. */
export function statusFilter(length: bigint | number, ids: number[]): Buffer {
  return Buffer.concat([u64(length), ...ids.map(u32)]);
}
