// A client that sees every byte of an NBD connection: it sends whatever it is told, checks the frame of every answer and
// hands the content over. Nothing is retried or smoothed over, so that tests can state what exactly was on the wire.
import { appendFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import {
  type Answer,
  assemble,
  type Chunk,
  ConnectionEnded,
  type ExportInfo,
  expectFrame,
  exportInfo,
  last,
  type OptionReply,
} from './nbd-answers.js';
import {
  CHUNK,
  CHUNK_DONE,
  CMD,
  FLAG,
  HANDSHAKE,
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
