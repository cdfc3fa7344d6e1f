// A client that sees every byte of an NBD connection: it sends whatever it is told, checks the frame of every answer and
// hands the content over. Nothing is retried or smoothed over, so that tests can state what exactly was on the wire.
import { appendFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import {
  CHUNK,
  CHUNK_DONE,
  CMD,
  FLAG,
  HANDSHAKE,
  INFO,
  infoRequest,
  MAGIC,
  MAX_PAYLOAD,
  metaRequest,
  OPT,
  optionMessage,
  REP,
  type RequestFields,
  requestMessage,
  u32,
} from './nbd-wire.js';

/** Where what clients send is kept, one file a connection: seeds for fuzzing, see scripts/fuzz-seeds.js. */
const { CELLBLOCK_RECORD_SESSIONS: recordings } = process.env;
let recorded = 0;

/** A wait longer than this is a hang; far above anything a working server needs. */
const HANG_MS = 60_000;

/** The largest payload of a chunk: content of the largest size and its offset. */
const MAX_CHUNK = BigInt(MAX_PAYLOAD + 8);

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

function socketTo(address: string): net.Socket {
  const tcp = /^tcp:(.*):(\d+)$/.exec(address);
  if (tcp) return net.connect({ host: tcp[1] as string, port: Number(tcp[2]), allowHalfOpen: true });
  return net.connect({ path: address.replace(/^unix:/, ''), allowHalfOpen: true });
}

export class RawNbd {
  #socket: net.Socket;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #ended = false;
  #wake: (() => void) | null = null;
  #lastCookie = 0n;
  readonly #recording = recordings && path.join(recordings, `${process.pid}-${recorded++}`);
  /** Structured replies were negotiated: answers come in chunks. */
  structured = false;
  /** So were extended headers: all headers are long. */
  extended = false;
  /** Extended: offsets of the requests not answered yet, by cookie, which every chunk has to repeat. */
  #offsets = new Map<bigint, bigint>();

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#listen();
  }

  #listen(): void {
    const awaken = (): void => this.#wake?.();
    this.#socket.on('data', (bytes) => {
      this.#waiting.push(bytes);
      this.#waitingBytes += bytes.length;
      awaken();
    });
    // A reset is an end too: which of the two a peer sees depends on what it still had to read.
    const end = (): void => {
      this.#ended = true;
      awaken();
    };
    this.#socket.on('end', end).on('close', end).on('error', end);
  }

  /** Connects to `unix:PATH`, `tcp:HOST:PORT` or a path; `tls+` before it: for negotiate(). */
  static async connect(withScheme: string): Promise<RawNbd> {
    const address = withScheme.replace(/^tls\+/, '');
    const giveUp = Date.now() + HANG_MS;
    for (;;) {
      const socket = socketTo(address);
      const error = await new Promise<NodeJS.ErrnoException | null>((resolve) =>
        socket.once('connect', () => resolve(null)).once('error', resolve),
      );
      if (error === null) {
        socket.setNoDelay(true);
        return new RawNbd(socket);
      }
      // A unix socket whose queue is full says so at once, where TCP waits.
      if (error.code !== 'EAGAIN' || Date.now() > giveUp) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Connects and passes the greeting, and with an address `tls+...` STARTTLS, of whomever: options can be sent. */
  static async negotiate(
    address: string,
    flags: number = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes,
  ): Promise<RawNbd> {
    const client = await RawNbd.connect(address);
    await client.greeting();
    client.send(u32(flags));
    const known = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes;
    // TLS is for fixed newstyle only.
    if (address.startsWith('tls+') && flags & HANDSHAKE.fixedNewstyle && (flags & ~known) === 0)
      await client.startTls({ rejectUnauthorized: false });
    return client;
  }

  /** STARTTLS, and everything after it in TLS. Rejects when that does not come about. */
  async startTls(options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
    const end = await this.optionEnd(OPT.startTls);
    expectFrame(end === REP.ack, `STARTTLS refused: ${end.toString(16)}`);
    this.#socket.removeAllListeners();
    const secured = tls.connect({ ...options, socket: this.#socket });
    await new Promise<void>((resolve, reject) => {
      secured.once('secureConnect', resolve).once('error', reject);
      secured.once('close', () => reject(new ConnectionEnded('connection ended in the handshake of TLS')));
    });
    this.#socket = secured;
    this.#listen();
    return secured;
  }

  /**
   * Connects, negotiates structured replies (unless told not to) or extended headers and the contexts asked for, and enters
   * transmission.
   */
  static async open(
    address: string,
    name: string,
    options: { structured?: boolean; extended?: boolean; contexts?: string[] } = {},
  ): Promise<{ client: RawNbd; info: ExportInfo; contexts: Map<string, number> }> {
    const client = await RawNbd.negotiate(address);
    if (options.structured ?? true) await client.negotiateChunks(options);
    const contexts = options.contexts
      ? await client.setContexts(name, options.contexts)
      : new Map<string, number>();
    return { client, info: await client.go(name), contexts };
  }

  send(...parts: Buffer[]): void {
    if (this.#socket.destroyed) return;
    const bytes = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    this.#record(bytes);
    this.#socket.write(bytes);
  }

  /** Sends and waits until the kernel has taken it all; resolves as well when the peer closes meanwhile. */
  async sendAll(bytes: Buffer): Promise<void> {
    if (this.#ended || this.#socket.destroyed) return;
    this.#record(bytes);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        this.#socket.off('close', done);
        resolve();
      };
      this.#socket.once('close', done);
      this.#socket.write(bytes, done);
    });
  }

  /** No more bytes will be sent; answers can still be read. */
  endSending(): void {
    this.#socket.end();
  }

  /** Stops taking bytes from the kernel: a client that does not read. */
  pauseReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Ends transmission the polite way, and returns when the server has closed too. */
  async leave(): Promise<void> {
    this.request({ type: CMD.disc });
    await this.readToEnd();
    this.close();
  }

  /** Exactly `count` bytes; ConnectionEnded if the peer closes before. */
  async read(count: number): Promise<Buffer> {
    await this.#until(() => this.#waitingBytes >= count || this.#ended, `${count} bytes`);
    if (this.#waitingBytes < count) {
      throw new ConnectionEnded(`connection ended with ${this.#waitingBytes} of ${count} bytes`);
    }
    return this.#take(count);
  }

  /** Everything until the peer closes. */
  async readToEnd(): Promise<Buffer> {
    await this.#until(() => this.#ended, 'the end of the connection');
    return this.#take(this.#waitingBytes);
  }

  async greeting(): Promise<number> {
    const bytes = await this.read(18);
    expectFrame(bytes.readBigUInt64BE(0) === MAGIC.nbd, 'greeting does not begin with NBDMAGIC');
    expectFrame(bytes.readBigUInt64BE(8) === MAGIC.option, 'greeting is not newstyle');
    return bytes.readUInt16BE(16);
  }

  async readOptionReply(): Promise<OptionReply> {
    const head = await this.read(20);
    expectFrame(head.readBigUInt64BE(0) === MAGIC.optionReply, 'bad magic in an option reply');
    const data = await this.read(head.readUInt32BE(16));
    return { option: head.readUInt32BE(8), type: head.readUInt32BE(12), data };
  }

  /** Sends an option and reads replies up to the one that ends it (ACK or an error). */
  async option(option: number, data?: Buffer): Promise<OptionReply[]> {
    this.send(optionMessage(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.readOptionReply();
      expectFrame(reply.option === option, `reply to option ${reply.option}, asked ${option}`);
      replies.push(reply);
      if (reply.type === REP.ack || reply.type >= 2 ** 31) return replies;
    }
  }

  /** The type of the reply that ends the option. */
  async optionEnd(option: number, data?: Buffer): Promise<number> {
    return last(await this.option(option, data)).type;
  }

  async negotiateStructured(): Promise<void> {
    const end = await this.optionEnd(OPT.structuredReply);
    expectFrame(end === REP.ack, `structured replies refused: ${end.toString(16)}`);
    this.structured = true;
  }

  async negotiateExtended(): Promise<void> {
    const end = await this.optionEnd(OPT.extendedHeaders);
    expectFrame(end === REP.ack, `extended headers refused: ${end.toString(16)}`);
    this.structured = true;
    this.extended = true;
  }

  /** What it takes to have answers in chunks, the one way or the other. */
  negotiateChunks({ extended = false }: { extended?: boolean }): Promise<void> {
    return extended ? this.negotiateExtended() : this.negotiateStructured();
  }

  /** SET_META_CONTEXT; context names to ids. */
  async setContexts(name: string, queries: string[]): Promise<Map<string, number>> {
    const replies = await this.option(OPT.setMetaContext, metaRequest(name, queries));
    expectFrame(last(replies).type === REP.ack, `SET_META_CONTEXT refused: ${last(replies).data.toString()}`);
    return new Map(replies.slice(0, -1).map(({ data }) => [data.toString('utf8', 4), data.readUInt32BE(0)]));
  }

  async listContexts(name: string, queries: string[]): Promise<string[]> {
    const replies = await this.option(OPT.listMetaContext, metaRequest(name, queries));
    expectFrame(
      last(replies).type === REP.ack,
      `LIST_META_CONTEXT refused: ${last(replies).data.toString()}`,
    );
    return replies.slice(0, -1).map(({ data }) => data.toString('utf8', 4));
  }

  async info(name: string, infos: number[] = []): Promise<ExportInfo> {
    return exportInfo(await this.option(OPT.info, infoRequest(name, infos)));
  }

  async go(name: string, infos: number[] = []): Promise<ExportInfo> {
    return exportInfo(await this.option(OPT.go, infoRequest(name, infos)));
  }

  async exportName(
    name: string,
    options: { zeroes: boolean },
  ): Promise<{ size: bigint; flags: number; zeroes: Buffer }> {
    this.send(optionMessage(OPT.exportName, Buffer.from(name)));
    const bytes = await this.read(10 + (options.zeroes ? 124 : 0));
    return { size: bytes.readBigUInt64BE(0), flags: bytes.readUInt16BE(8), zeroes: bytes.subarray(10) };
  }

  nextCookie(): bigint {
    this.#lastCookie += 1n;
    return this.#lastCookie;
  }

  /** Sends a request as it is told without waiting; gives its cookie. */
  request(fields: RequestFields, payload?: Buffer): bigint {
    const cookie = fields.cookie ?? this.nextCookie();
    const message = requestMessage({ ...fields, cookie }, this.extended ? 'extended' : 'compact');
    if (this.extended) this.#offsets.set(cookie, BigInt(fields.offset ?? 0));
    if (payload) this.send(message, payload);
    else this.send(message);
    return cookie;
  }

  /** Sends a WRITE without waiting; with extended headers it announces its data. */
  requestWrite(fields: Omit<RequestFields, 'type'>, payload: Buffer): bigint {
    const flags = (fields.flags ?? 0) | (this.extended ? FLAG.payloadLen : 0);
    return this.request({ ...fields, type: CMD.write, flags }, payload);
  }

  /** Sends a request and reads its whole answer. A WRITE announces its data where it has to. */
  async command(fields: RequestFields, payload?: Buffer): Promise<Answer> {
    const cookie =
      fields.type === CMD.write && payload
        ? this.requestWrite(fields, payload)
        : this.request(fields, payload);
    const isRead = fields.type === CMD.read;
    return this.readAnswer(
      cookie,
      isRead ? { offset: BigInt(fields.offset ?? 0), length: Number(fields.length ?? 0) } : null,
    );
  }

  /** The next answer on the wire, of a request that gives nothing back but success or an error. */
  async readEmpty(): Promise<{ cookie: bigint; error: number }> {
    if (!this.extended) return this.readSimple();
    const chunk = await this.readChunk();
    expectFrame((chunk.flags & CHUNK_DONE) !== 0, 'more than one chunk for nothing');
    return { cookie: chunk.cookie, error: assemble([chunk], null).error };
  }

  /** Reads the answer of `cookie`, which has to be the next one on the wire. */
  async readAnswer(cookie: bigint, read: { offset: bigint; length: number } | null): Promise<Answer> {
    if (!this.structured) {
      const { cookie: got, error } = await this.readSimple();
      expectFrame(got === cookie, `answer of request ${got}, expected ${cookie}`);
      const data = read && error === 0 ? await this.read(read.length) : Buffer.alloc(0);
      return { error, data, chunks: [], message: '', status: new Map() };
    }
    const magic = (await this.peek(4)).readUInt32BE(0);
    if (magic === MAGIC.simpleReply && !this.extended) {
      expectFrame(read === null, 'a simple reply to READ after structured replies were negotiated');
      const { cookie: got, error } = await this.readSimple();
      expectFrame(got === cookie, `answer of request ${got}, expected ${cookie}`);
      return { error, data: Buffer.alloc(0), chunks: [], message: '', status: new Map() };
    }
    const chunks: Chunk[] = [];
    do {
      const chunk = await this.readChunk();
      expectFrame(chunk.cookie === cookie, `chunk of request ${chunk.cookie}, expected ${cookie}`);
      chunks.push(chunk);
    } while ((last(chunks).flags & CHUNK_DONE) === 0);
    return assemble(chunks, read);
  }

  async readSimple(): Promise<{ cookie: bigint; error: number }> {
    const bytes = await this.read(16);
    expectFrame(
      bytes.readUInt32BE(0) === MAGIC.simpleReply,
      `bad magic of a simple reply: ${bytes.toString('hex')}`,
    );
    return { error: bytes.readUInt32BE(4), cookie: bytes.readBigUInt64BE(8) };
  }

  async readChunk(): Promise<Chunk> {
    const { extended } = this;
    const head = await this.read(extended ? 32 : 20);
    const magic = extended ? MAGIC.extendedChunk : MAGIC.chunk;
    expectFrame(head.readUInt32BE(0) === magic, `bad magic of a chunk: ${head.toString('hex')}`);
    const flags = head.readUInt16BE(4);
    expectFrame((flags & ~CHUNK_DONE) === 0, `unknown chunk flags ${flags}`);
    const type = head.readUInt16BE(6);
    expectFrame(
      type !== (extended ? CHUNK.blockStatus : CHUNK.blockStatusExt),
      `a chunk of type ${type}, which belongs to other headers`,
    );
    const cookie = head.readBigUInt64BE(8);
    if (extended) {
      const [offset, asked] = [head.readBigUInt64BE(16), this.#offsets.get(cookie)];
      expectFrame(offset === asked, `a chunk repeats offset ${offset} of request ${cookie} at ${asked}`);
    }
    if (flags & CHUNK_DONE) this.#offsets.delete(cookie);
    const length = extended ? head.readBigUInt64BE(24) : BigInt(head.readUInt32BE(16));
    expectFrame(length <= MAX_CHUNK, `a chunk of ${length} bytes`);
    return { flags, type, cookie, data: await this.read(Number(length)) };
  }

  /** The next bytes, which stay to be read. */
  async peek(count: number): Promise<Buffer> {
    const bytes = await this.read(count);
    this.#waiting.unshift(bytes);
    this.#waitingBytes += bytes.length;
    return bytes;
  }

  /** Every piece with its length before it. */
  #record(bytes: Buffer): void {
    if (this.#recording) appendFileSync(this.#recording, Buffer.concat([u32(bytes.length), bytes]));
  }

  #take(count: number): Buffer {
    const all = this.#waiting.length === 1 ? (this.#waiting[0] as Buffer) : Buffer.concat(this.#waiting);
    const rest = all.subarray(count);
    this.#waiting = rest.length > 0 ? [rest] : [];
    this.#waitingBytes = rest.length;
    return all.subarray(0, count);
  }

  async #until(reached: () => boolean, what: string): Promise<void> {
    while (!reached()) {
      await new Promise<void>((resolve, reject) => {
        const hang = setTimeout(() => reject(new Error(`hung while waiting for ${what}`)), HANG_MS);
        this.#wake = () => {
          clearTimeout(hang);
          this.#wake = null;
          resolve();
        };
      });
    }
  }
}

export function last<T>(list: T[]): T {
  if (list.length === 0) throw new ProtocolError('nothing was answered');
  return list[list.length - 1] as T;
}

function expectFrame(holds: boolean, what: string): void {
  if (!holds) throw new ProtocolError(what);
}

function exportInfo(replies: OptionReply[]): ExportInfo {
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
function assemble(chunks: Chunk[], read: { offset: bigint; length: number } | null): Answer {
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
