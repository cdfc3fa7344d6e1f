// What an NBD server answered, put together from replies and chunks, with its form checked.
import { CHUNK, CHUNK_DONE, INFO, REP } from './nbd-wire.js';

export interface OptionReply {
  option: number;
  type: number;
  data: Buffer;
}

export interface ExportInfo {
  size: bigint;
  flags: number;
  infos: Map<number, Buffer>;
}

export interface Chunk {
  flags: number;
  type: number;
  cookie: bigint;
  data: Buffer;
}

export interface Extent {
  length: number;
  flags: number;
}

/** One whole answer, simple or structured. */
export interface Answer {
  error: number;
  /** What a READ gave, holes filled in. */
  data: Buffer;
  chunks: Chunk[];
  /** The sentence of an error chunk. */
  message: string;
  /** BLOCK_STATUS: extents by context id. */
  status: Map<number, Extent[]>;
}

export class ConnectionEnded extends Error {}
export class ProtocolError extends Error {}

export function last<T>(list: T[]): T {
  if (list.length === 0) throw new ProtocolError('nothing was answered');
  return list[list.length - 1] as T;
}

export function expectFrame(holds: boolean, what: string): void {
  if (!holds) throw new ProtocolError(what);
}

export function exportInfo(replies: OptionReply[]): ExportInfo {
  const end = last(replies);
  if (end.type !== REP.ack)
    throw new ProtocolError(`refused with ${end.type.toString(16)}: ${end.data.toString()}`);
  const infos = new Map<number, Buffer>();
  for (const { type, data } of replies.slice(0, -1)) {
    expectFrame(type === REP.info && data.length >= 2, `reply ${type.toString(16)} amid infos`);
    infos.set(data.readUInt16BE(0), data.subarray(2));
  }
  const main = infos.get(INFO.export);
  if (main?.length !== 10) throw new ProtocolError('no NBD_INFO_EXPORT of 12 bytes');
  return { size: main.readBigUInt64BE(0), flags: main.readUInt16BE(8), infos };
}
/** Puts the chunks of one answer together and checks that a READ was covered exactly once. */
export function assemble(chunks: Chunk[], read: { offset: bigint; length: number } | null): Answer {
  const answer: Answer = {
    error: 0,
    data: Buffer.alloc(0),
    chunks,
    message: '',
    status: new Map(),
  };
  let covered = 0;
  const taken: [from: number, to: number][] = [];
  const place = (chunk: Chunk, length: number): number => {
    if (!read) throw new ProtocolError('content in an answer that is not of a READ');
    const at = Number(chunk.data.readBigUInt64BE(0) - read.offset);
    expectFrame(
      length > 0 && at >= 0 && at + length <= read.length,
      `chunk at ${at} of ${length} bytes lies outside`,
    );
    expectFrame(
      !taken.some(([from, to]) => at < to && from < at + length),
      `chunk at ${at} lies over another`,
    );
    taken.push([at, at + length]);
    // Not before there is content: what was asked for may be more than there is memory.
    if (covered === 0) answer.data = Buffer.alloc(read.length);
    covered += length;
    return at;
  };
  for (const chunk of chunks) {
    const { data } = chunk;
    switch (chunk.type) {
      case CHUNK.none:
        expectFrame(
          data.length === 0 && (chunk.flags & CHUNK_DONE) !== 0,
          'NONE has content or is not the last',
        );
        break;
      case CHUNK.offsetData: {
        const at = place(chunk, data.length - 8);
        data.copy(answer.data, at, 8);
        break;
      }
      case CHUNK.offsetHole:
        expectFrame(data.length === 12, 'OFFSET_HOLE is not 12 bytes');
        place(chunk, data.readUInt32BE(8));
        break;
      case CHUNK.blockStatus:
        answer.status.set(data.readUInt32BE(0), extents(data.subarray(4)));
        break;
      case CHUNK.blockStatusExt:
        answer.status.set(data.readUInt32BE(0), longExtents(data.readUInt32BE(4), data.subarray(8)));
        break;
      default:
        expectFrame(chunk.type >= 2 ** 15, `unknown chunk type ${chunk.type}`);
        answer.error = data.readUInt32BE(0);
        answer.message = errorMessage(chunk, read);
    }
  }
  if (read && answer.error === 0)
    expectFrame(covered === read.length, `${covered} of ${read.length} bytes were answered`);
  return answer;
}

/** The sentence of an error chunk, after a look at its form. */
function errorMessage({ type, data }: Chunk, read: { offset: bigint; length: number } | null): string {
  const fixed = type === CHUNK.errorOffset ? 14 : 6;
  expectFrame(data.length >= fixed, `an error chunk of ${data.length} bytes`);
  const length = data.readUInt16BE(4);
  expectFrame(data.readUInt32BE(0) !== 0, 'an error chunk without an error');
  expectFrame(length <= 4096 && length + fixed <= data.length, `an error message of ${length} bytes`);
  if (type === CHUNK.errorOffset && read) {
    const at = data.readBigUInt64BE(6 + length) - read.offset;
    expectFrame(at >= 0 && at < read.length, `an error at ${at} of ${read.length} bytes`);
  }
  return data.toString('utf8', 6, 6 + length);
}

function extents(data: Buffer): Extent[] {
  expectFrame(data.length > 0 && data.length % 8 === 0, `block status of ${data.length} bytes`);
  return Array.from({ length: data.length / 8 }, (_, i) => ({
    length: data.readUInt32BE(i * 8),
    flags: data.readUInt32BE(i * 8 + 4),
  }));
}

/** Lengths and flags of 64 bits, as many as counted; no context known here has flags beyond 32 bits. */
function longExtents(count: number, data: Buffer): Extent[] {
  expectFrame(count > 0 && data.length === count * 16, `${count} extents in ${data.length} bytes`);
  return Array.from({ length: count }, (_, i) => {
    const [length, flags] = [data.readBigUInt64BE(i * 16), data.readBigUInt64BE(i * 16 + 8)];
    expectFrame(length > 0n && flags < 2n ** 32n, `an extent of ${length} bytes with flags ${flags}`);
    return { length: Number(length), flags: Number(flags) };
  });
}
