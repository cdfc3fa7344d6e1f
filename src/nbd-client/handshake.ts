// Option haggling of the fixed newstyle handshake. Tests use it directly to say odd things; NbdClient uses it to open exports.

import { ByteStream } from './byte-stream.js';
import { secure, TlsRefused, type TlsWish } from './tls.js';
import {
  decodeExportInfo,
  type ExportInfo,
  encodeInfoRequest,
  encodeMetaContextRequest,
  encodeOption,
  HANDSHAKE_FLAG,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_ERROR,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  type OptionReply,
} from './wire.js';

/** A server that refuses an option; `type` is the NBD_REP_ERR number, the message is the server's sentence. */
export class OptionRefused extends Error {
  override name = 'OptionRefused';
  constructor(
    readonly option: number,
    readonly type: number,
    sentence: string,
  ) {
    super(sentence || `the NBD server refused option ${option} (0x${type.toString(16)})`);
  }
}

/** A server that does not speak the protocol. */
export class ProtocolViolation extends Error {
  override name = 'ProtocolViolation';
}

/** No option reply of ours is longer; a larger length means the stream is not NBD. */
const MAXIMUM_OPTION_REPLY_BYTES = 1024 * 1024;

export class Handshake {
  #stream: ByteStream;
  #noZeroes = false;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  get stream(): ByteStream {
    return this.#stream;
  }

  /** Reads the greeting and answers with our flags. Returns the server's handshake flags. */
  async greet(flags: number = HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes): Promise<number> {
    const greeting = await this.#stream.receive(18);
    if (greeting.readBigUInt64BE(0) !== NBD_MAGIC || greeting.readBigUInt64BE(8) !== OPTION_MAGIC) {
      throw new ProtocolViolation('what answers there is not an NBD server of the newstyle protocol');
    }
    const offered = greeting.readUInt16BE(16);
    const answer = Buffer.allocUnsafe(4);
    answer.writeUInt32BE(flags >>> 0, 0);
    await this.#stream.send(answer);
    this.#noZeroes = (offered & flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    return offered;
  }

  /** Sends an option and collects its replies up to and including the final one (ACK or an error). */
  async option(option: number, data: Uint8Array = Buffer.alloc(0)): Promise<OptionReply[]> {
    await this.#stream.send(encodeOption(option, data));
    const replies: OptionReply[] = [];
    for (;;) {
      const reply = await this.receiveReply();
      if (reply.option !== option) {
        throw new ProtocolViolation(`the server answered option ${reply.option} instead of ${option}`);
      }
      replies.push(reply);
      if (reply.type === OPTION_REPLY.ack || reply.type >= OPTION_REPLY_ERROR) return replies;
    }
  }

  async receiveReply(): Promise<OptionReply> {
    const head = await this.#stream.receive(OPTION_REPLY_HEADER_BYTES);
    if (head.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC)
      throw new ProtocolViolation('bad magic in an option reply');
    const length = head.readUInt32BE(16);
    if (length > MAXIMUM_OPTION_REPLY_BYTES)
      throw new ProtocolViolation(`an option reply of ${length} bytes`);
    return {
      option: head.readUInt32BE(8),
      type: head.readUInt32BE(12),
      data: await this.#stream.receive(length),
    };
  }

  /** Like option(), but an error reply is thrown. */
  async demand(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    const replies = await this.option(option, data);
    const last = replies[replies.length - 1];
    if (last !== undefined && last.type >= OPTION_REPLY_ERROR) {
      throw new OptionRefused(option, last.type, last.data.toString('utf8'));
    }
    return replies;
  }

  /** Everything goes in TLS from here on, and nothing that was negotiated before counts. Throws TlsRefused. */
  async startTls(wish: TlsWish): Promise<void> {
    const replies = await this.option(OPTION.startTls);
    const last = replies[replies.length - 1]!;
    if (last.type !== OPTION_REPLY.ack) {
      const sentence = last.data.toString('utf8');
      throw new TlsRefused(`the NBD server does not begin TLS${sentence === '' ? '' : `: ${sentence}`}`);
    }
    // Whatever came in clear behind the consent may be from somebody in between: release() throws then.
    this.#stream = new ByteStream(await secure(this.#stream.release(), wish));
  }

  async structuredReplies(): Promise<boolean> {
    const replies = await this.option(OPTION.structuredReply);
    return replies[replies.length - 1]?.type === OPTION_REPLY.ack;
  }

  /** Context names by id, as granted. */
  async setMetaContexts(exportName: string, queries: readonly string[]): Promise<Map<number, string>> {
    const replies = await this.demand(OPTION.setMetaContext, encodeMetaContextRequest(exportName, queries));
    const granted = new Map<number, string>();
    for (const { type, data } of replies) {
      if (type === OPTION_REPLY.metaContext) granted.set(data.readUInt32BE(0), data.toString('utf8', 4));
    }
    return granted;
  }

  /** Opens the export: transmission begins. */
  go(exportName: string): Promise<ExportInfo> {
    return this.#exportInfo(OPTION.go, exportName);
  }

  /** Asks about the export without opening it. */
  info(exportName: string): Promise<ExportInfo> {
    return this.#exportInfo(OPTION.info, exportName);
  }

  /** Opens the export the old way, which has no error reply: an unknown name closes the connection. */
  async exportName(exportName: string): Promise<ExportInfo> {
    await this.#stream.send(encodeOption(OPTION.exportName, Buffer.from(exportName, 'utf8')));
    const answer = await this.#stream.receive(this.#noZeroes ? 10 : 134);
    return {
      sizeBytes: answer.readBigUInt64BE(0),
      flags: answer.readUInt16BE(8),
      name: undefined,
      description: undefined,
      blockSize: undefined,
    };
  }

  /** Names and descriptions of the exports. */
  async list(): Promise<{ name: string; description: string }[]> {
    const replies = await this.demand(OPTION.list);
    return replies.flatMap(({ type, data }) => {
      if (type !== OPTION_REPLY.server) return [];
      const length = data.readUInt32BE(0);
      return [{ name: data.toString('utf8', 4, 4 + length), description: data.toString('utf8', 4 + length) }];
    });
  }

  /** Leaves politely. */
  async abort(): Promise<void> {
    await this.#stream.send(encodeOption(OPTION.abort, Buffer.alloc(0)));
  }

  async #exportInfo(option: number, exportName: string): Promise<ExportInfo> {
    const wanted = [INFO.name, INFO.description, INFO.blockSize];
    const info = decodeExportInfo(await this.demand(option, encodeInfoRequest(exportName, wanted)));
    if (info === undefined) throw new ProtocolViolation('the server did not say the size of the export');
    return info;
  }
}
