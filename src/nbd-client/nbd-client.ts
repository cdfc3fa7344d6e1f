// An NBD client with many requests in flight on one connection. Invariant: every request is answered exactly once: by the
// server's reply, or by the error that ended the connection.

import { ByteStream, ConnectionLost } from './byte-stream.js';
import { Handshake, ProtocolViolation } from './handshake.js';
import { type ReadPart, tile } from './read-parts.js';
import type { TlsWish } from './tls.js';
import {
  type BlockStatus,
  CHUNK,
  CHUNK_ERROR,
  CHUNK_FLAG_DONE,
  COMMAND,
  COMMAND_FLAG,
  decodeBlockStatus,
  decodeErrorChunk,
  ERRNO_NAMES,
  type ExportInfo,
  type Extent,
  encodeRequest,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  TRANSMISSION_FLAG,
} from './wire.js';

export interface ConnectOptions {
  /** `unix:PATH` or `tcp:HOST:PORT`. */
  address: string;
  exportName: string;
  /** Meta contexts to ask for; default base:allocation. Empty: none is negotiated. */
  contexts?: readonly string[];
  /** False: simple replies only, as old clients speak. */
  structured?: boolean;
  /** `export-name`: the way of clients before GO. */
  opening?: 'go' | 'export-name';
  /** Everything but the greeting goes in TLS, or not at all; null or not given: in clear. */
  tls?: TlsWish | null;
  timeoutMs?: number;
  /** The connection is lost when a reply is owed and nothing comes for so long; not given: it is waited for. */
  silenceMs?: number;
}

/** The server answered a request with an error. */
export class RequestFailed extends Error {
  override name = 'RequestFailed';
  /** Name of the errno, such as ENOSPC. */
  readonly code: string;
  constructor(
    readonly command: string,
    readonly errno: number,
    sentence: string,
  ) {
    const code = ERRNO_NAMES[errno] ?? `errno ${errno}`;
    super(`${command}: ${code}${sentence === '' ? '' : `, ${sentence}`}`);
    this.code = code;
  }
}

export interface RequestOptions {
  flags?: number;
  offset?: bigint;
  length?: number;
  payload?: Uint8Array;
  /** What a READ fills, whole. Not given: a new buffer. */
  target?: Buffer;
  /** Of `target` only what is data is written; the chunks of the reply say where nothing is. */
  sparse?: boolean;
}

/** How a reply came, for tests that look at the shape of it. */
export interface ChunkSeen {
  type: number;
  offset: bigint;
  lengthBytes: number;
}

interface Pending {
  name: string;
  command: number;
  offset: bigint;
  /** What a READ fills; zeros where the server says hole. */
  target: Buffer | undefined;
  sparse: boolean;
  statuses: BlockStatus[];
  chunks: ChunkSeen[];
  failure: RequestFailed | undefined;
  resolve: (reply: Reply) => void;
  reject: (error: Error) => void;
}

export interface Reply {
  data: Buffer;
  statuses: BlockStatus[];
  chunks: ChunkSeen[];
}

const COMMAND_NAMES = new Map<number, string>(
  Object.entries(COMMAND).map(([name, number]) => [number, name]),
);
const NO_BYTES = Buffer.alloc(0);

export class NbdClient {
  readonly info: ExportInfo;
  /** Granted contexts, by id. */
  readonly contexts: ReadonlyMap<number, string>;
  readonly #stream: ByteStream;
  readonly #pending = new Map<bigint, Pending>();
  #nextCookie = 1n;
  #lost: Error | undefined;

  private constructor(
    stream: ByteStream,
    info: ExportInfo,
    contexts: ReadonlyMap<number, string>,
    silenceMs: number | undefined,
  ) {
    this.#stream = stream;
    this.info = info;
    this.contexts = contexts;
    if (silenceMs !== undefined) stream.giveUpWhenSilent(silenceMs, () => this.#pending.size > 0);
    void this.#receiveReplies();
  }

  static async connect(options: ConnectOptions): Promise<NbdClient> {
    const stream = await ByteStream.connect(options.address, options.timeoutMs);
    const handshake = new Handshake(stream);
    const destroy = () => {
      stream.destroy();
      handshake.stream.destroy();
    };
    const timer = setTimeout(destroy, options.timeoutMs ?? 10_000);
    try {
      await handshake.greet();
      if (options.tls) await handshake.startTls(options.tls);
      const structured = options.structured !== false && (await handshake.structuredReplies());
      const wanted = options.contexts ?? ['base:allocation'];
      const contexts =
        structured && wanted.length > 0
          ? await handshake.setMetaContexts(options.exportName, wanted)
          : new Map<number, string>();
      const info = await (options.opening === 'export-name'
        ? handshake.exportName(options.exportName)
        : handshake.go(options.exportName));
      return new NbdClient(handshake.stream, info, contexts, options.silenceMs);
    } catch (error) {
      destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  get sizeBytes(): bigint {
    return this.info.sizeBytes;
  }

  get readOnly(): boolean {
    return this.has('readOnly');
  }

  has(flag: keyof typeof TRANSMISSION_FLAG): boolean {
    return (this.info.flags & TRANSMISSION_FLAG[flag]) !== 0;
  }

  get inFlight(): number {
    return this.#pending.size;
  }

  /** The socket below, for tests that send bytes of their own. */
  get stream(): ByteStream {
    return this.#stream;
  }

  async read(offset: bigint, length: number, flags = 0): Promise<Buffer> {
    return (await this.request(COMMAND.read, { offset, length, flags })).data;
  }

  /**
   * Reads into a buffer of the caller's, which may be used again when this has resolved or rejected. Where the answer says `hole` everything
   * is zero and the buffer is left as it was. Several may be in flight: their buffers are all the memory it takes.
   */
  async readInto(offset: bigint, target: Buffer): Promise<ReadPart[]> {
    const { chunks } = await this.request(COMMAND.read, {
      offset,
      length: target.length,
      target,
      sparse: true,
    });
    return tile(chunks, offset, target.length);
  }

  async write(offset: bigint, payload: Uint8Array, flags = 0): Promise<void> {
    await this.request(COMMAND.write, { offset, payload, length: payload.length, flags });
  }

  async flush(): Promise<void> {
    await this.request(COMMAND.flush, {});
  }

  async trim(offset: bigint, length: number, flags = 0): Promise<void> {
    await this.request(COMMAND.trim, { offset, length, flags });
  }

  async writeZeroes(offset: bigint, length: number, flags = 0): Promise<void> {
    await this.request(COMMAND.writeZeroes, { offset, length, flags });
  }

  async cache(offset: bigint, length: number): Promise<void> {
    await this.request(COMMAND.cache, { offset, length });
  }

  /** Extents from `offset` on, by context name. They may cover less than asked, never nothing. */
  async blockStatus(offset: bigint, length: number, flags = 0): Promise<Map<string, Extent[]>> {
    const { statuses } = await this.request(COMMAND.blockStatus, { offset, length, flags });
    return new Map(
      statuses.map(({ contextId, extents }) => [this.contexts.get(contextId) ?? `#${contextId}`, extents]),
    );
  }

  /**
   * Sends any request, legal or not, and gives the reply as it came. Rejects with RequestFailed, or with ConnectionLost when
   * the connection ends before the reply.
   */
  async request(command: number, options: RequestOptions): Promise<Reply> {
    if (this.#lost !== undefined) throw this.#lost;
    const { flags = 0, offset = 0n, payload = NO_BYTES } = options;
    const length = options.length ?? payload.length;
    const cookie = this.#nextCookie++;
    const answered = new Promise<Reply>((resolve, reject) => {
      this.#pending.set(cookie, {
        name: COMMAND_NAMES.get(command) ?? `command ${command}`,
        command,
        offset,
        target: command === COMMAND.read ? (options.target ?? Buffer.alloc(length)) : undefined,
        sparse: options.sparse ?? false,
        statuses: [],
        chunks: [],
        failure: undefined,
        resolve,
        reject,
      });
    });
    // A lost connection is told through the answer; without this a failed send would be an unhandled rejection besides.
    answered.catch(() => undefined);
    await this.#stream.send(encodeRequest({ flags, command, cookie, offset, length }), payload);
    return answered;
  }

  /** Says goodbye and closes; requests in flight are answered first. */
  async disconnect(): Promise<void> {
    if (this.#stream.closed) return;
    const closed = new Promise((resolve) => this.#stream.socket.once('close', resolve));
    await this.#stream.send(
      encodeRequest({ flags: 0, command: COMMAND.disconnect, cookie: 0n, offset: 0n, length: 0 }),
    );
    this.#stream.socket.end();
    const timer = setTimeout(() => this.#stream.destroy(), 5000);
    await closed;
    clearTimeout(timer);
  }

  /** Drops the connection without a word. */
  destroy(): void {
    this.#stream.destroy();
  }

  async #receiveReplies(): Promise<void> {
    try {
      for (;;) await this.#receiveReply();
    } catch (error) {
      const reason = error instanceof Error ? error : new Error(String(error));
      this.#lost =
        reason instanceof ConnectionLost ? reason : new ConnectionLost(reason.message, { cause: reason });
      this.#stream.destroy();
      for (const pending of this.#pending.values()) pending.reject(this.#lost);
      this.#pending.clear();
    }
  }

  async #receiveReply(): Promise<void> {
    const head = await this.#stream.receive(16);
    const magic = head.readUInt32BE(0);
    if (magic === STRUCTURED_REPLY_MAGIC) {
      const length = (await this.#stream.receive(4)).readUInt32BE(0);
      const pending = this.#expect(head.readBigUInt64BE(8));
      await this.#receiveChunk(pending, head.readUInt16BE(6), length);
      if ((head.readUInt16BE(4) & CHUNK_FLAG_DONE) !== 0) this.#settle(head.readBigUInt64BE(8), pending);
    } else if (magic === SIMPLE_REPLY_MAGIC) {
      const pending = this.#expect(head.readBigUInt64BE(8));
      const errno = head.readUInt32BE(4);
      if (errno !== 0) pending.failure = new RequestFailed(pending.name, errno, '');
      else if (pending.target !== undefined) {
        await this.#stream.receiveInto(pending.target);
        pending.chunks.push({
          type: CHUNK.offsetData,
          offset: pending.offset,
          lengthBytes: pending.target.length,
        });
      }
      this.#settle(head.readBigUInt64BE(8), pending);
    } else {
      throw new ProtocolViolation(`a reply with magic 0x${magic.toString(16)}`);
    }
  }

  #expect(cookie: bigint): Pending {
    const pending = this.#pending.get(cookie);
    if (pending === undefined)
      throw new ProtocolViolation(`a reply to cookie ${cookie}, which is not in flight`);
    return pending;
  }

  async #receiveChunk(pending: Pending, type: number, length: number): Promise<void> {
    if (type === CHUNK.offsetData && pending.target !== undefined && length > 8) {
      const offset = (await this.#stream.receive(8)).readBigUInt64BE(0);
      pending.chunks.push({ type, offset, lengthBytes: length - 8 });
      await this.#stream.receiveInto(targetPart(pending, offset, length - 8));
      return;
    }
    if (length > 16 * 1024 * 1024)
      throw new ProtocolViolation(`a chunk of type ${type} with ${length} bytes`);
    const payload = await this.#stream.receive(length);
    if ((type & CHUNK_ERROR) !== 0) {
      const { errno, message } = decodeErrorChunk(payload);
      pending.failure ??= new RequestFailed(pending.name, errno, message);
      pending.chunks.push({ type, offset: pending.offset, lengthBytes: 0 });
    } else if (type === CHUNK.offsetHole && length === 12) {
      const hole = { type, offset: payload.readBigUInt64BE(0), lengthBytes: payload.readUInt32BE(8) };
      const zeros = targetPart(pending, hole.offset, hole.lengthBytes);
      if (!pending.sparse) zeros.fill(0);
      pending.chunks.push(hole);
    } else if (type === CHUNK.blockStatus) {
      pending.statuses.push(decodeBlockStatus(payload));
    } else if (type !== CHUNK.none) {
      throw new ProtocolViolation(
        `a chunk of type ${type} with ${length} bytes in a reply to ${pending.name}`,
      );
    }
  }

  #settle(cookie: bigint, pending: Pending): void {
    this.#pending.delete(cookie);
    if (pending.failure !== undefined) pending.reject(pending.failure);
    else
      pending.resolve({
        data: pending.target ?? NO_BYTES,
        statuses: pending.statuses,
        chunks: pending.chunks,
      });
  }
}

/** The part of a READ's buffer a chunk speaks about; a chunk outside of what was asked is a violation. */
function targetPart(pending: Pending, offset: bigint, lengthBytes: number): Buffer {
  const at = offset - pending.offset;
  const target = pending.target;
  if (target === undefined || at < 0n || at + BigInt(lengthBytes) > BigInt(target.length)) {
    throw new ProtocolViolation('a read chunk outside of the range that was asked for');
  }
  return target.subarray(Number(at), Number(at) + lengthBytes);
}

export { COMMAND_FLAG };
