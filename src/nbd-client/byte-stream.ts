// A socket read by pulling exact numbers of bytes. Keeps the invariant that a receiver either gets all the bytes it asked for,
// in order, or an error: an end of stream in the middle of a message is never mistaken for a short message.

import { connect, type Socket } from 'node:net';
import { connectOptions } from './address.js';

/** Bytes that may wait here before the socket is paused. */
const HIGH_WATER_BYTES = 4 * 1024 * 1024;

export class ConnectionLost extends Error {
  override name = 'ConnectionLost';
}

interface Waiter {
  target: Buffer;
  filled: number;
  resolve: (bytes: Buffer) => void;
  reject: (error: Error) => void;
}

/** What is told of a socket on which nothing comes or goes any more though something should. */
const SILENT = 'the NBD server is silent';

export class ByteStream {
  readonly socket: Socket;
  #chunks: Buffer[] = [];
  #queuedBytes = 0;
  #waiters: Waiter[] = [];
  #ended: Error | undefined;
  #paused = false;
  #draining: Promise<void> | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => this.#arrived(chunk));
    socket.on('error', (error) =>
      this.#end(new ConnectionLost(`the NBD connection failed: ${error.message}`, { cause: error })),
    );
    socket.on('close', () => this.#end(new ConnectionLost('the NBD server closed the connection')));
    socket.on('end', () => this.#end(new ConnectionLost('the NBD server closed the connection')));
  }

  static async connect(address: string, timeoutMs = 10_000): Promise<ByteStream> {
    const socket = connect(connectOptions(address));
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.destroy();
        reject(new ConnectionLost(`no answer from ${address} within ${timeoutMs} ms`));
      }, timeoutMs);
      socket.once('connect', () => {
        clearTimeout(timer);
        socket.removeAllListeners('error');
        resolve();
      });
      socket.once('error', (error) => {
        clearTimeout(timer);
        reject(new ConnectionLost(`cannot connect to ${address}: ${error.message}`, { cause: error }));
      });
    });
    socket.setNoDelay(true);
    return new ByteStream(socket);
  }

  /** Resolves once the bytes were handed to the kernel or may wait in memory without harm (back-pressure). */
  async send(...parts: Uint8Array[]): Promise<void> {
    if (this.#ended !== undefined) throw this.#ended;
    this.socket.cork();
    let keepGoing = true;
    for (const part of parts) if (part.length > 0) keepGoing = this.socket.write(part);
    this.socket.uncork();
    if (!keepGoing) await this.#drained();
  }

  receive(count: number): Promise<Buffer> {
    return this.receiveInto(Buffer.allocUnsafe(count));
  }

  /** Fills `target` whole. */
  receiveInto(target: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ target, filled: 0, resolve, reject });
      this.#serve();
    });
  }

  /** Everything that still comes until the other side closes. Only for looking at what a server does to odd bytes. */
  async receiveUntilClosed(): Promise<Buffer> {
    const received: Buffer[] = [];
    for (;;) {
      try {
        received.push(await this.receive(1));
      } catch {
        return Buffer.concat(received);
      }
    }
  }

  get closed(): boolean {
    return this.#ended !== undefined;
  }

  /** The connection is given up when nothing comes or goes for so long while `isWaiting` says that something should. */
  giveUpWhenSilent(silenceMs: number, isWaiting: () => boolean): void {
    this.socket.setTimeout(silenceMs, () => {
      if (!isWaiting()) return;
      this.#end(new ConnectionLost(`${SILENT}: nothing came for ${silenceMs} ms`));
      this.socket.destroy();
    });
  }

  /** Lets go of the socket, for whoever reads from it next. Throws when something has come that nobody has received. */
  release(): Socket {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#queuedBytes > 0) throw new Error('bytes have come that nobody asked for');
    for (const event of ['data', 'error', 'close', 'end']) this.socket.removeAllListeners(event);
    return this.socket;
  }

  destroy(): void {
    this.socket.destroy();
    this.#end(new ConnectionLost('the connection was closed here'));
  }

  /** One wait for all senders that find the socket full. */
  #drained(): Promise<void> {
    this.#draining ??= new Promise<void>((resolve, reject) => {
      const done = () => {
        this.#draining = undefined;
        this.socket.off('drain', done);
        this.socket.off('close', done);
        if (this.#ended !== undefined) reject(this.#ended);
        else resolve();
      };
      this.socket.on('drain', done);
      this.socket.on('close', done);
    });
    return this.#draining;
  }

  #arrived(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#queuedBytes += chunk.length;
    this.#serve();
    if (!this.#paused && this.#queuedBytes > HIGH_WATER_BYTES) {
      this.#paused = true;
      this.socket.pause();
    }
  }

  #serve(): void {
    for (let waiter = this.#waiters[0]; waiter !== undefined; waiter = this.#waiters[0]) {
      this.#fill(waiter);
      if (waiter.filled < waiter.target.length) break;
      this.#waiters.shift();
      waiter.resolve(waiter.target);
    }
    if (this.#paused && this.#queuedBytes <= HIGH_WATER_BYTES) {
      this.#paused = false;
      this.socket.resume();
    }
    if (this.#ended !== undefined) this.#rejectWaiters(this.#ended);
  }

  #fill(waiter: Waiter): void {
    for (
      let chunk = this.#chunks[0];
      chunk !== undefined && waiter.filled < waiter.target.length;
      chunk = this.#chunks[0]
    ) {
      const count = Math.min(chunk.length, waiter.target.length - waiter.filled);
      chunk.copy(waiter.target, waiter.filled, 0, count);
      waiter.filled += count;
      this.#queuedBytes -= count;
      if (count === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(count);
    }
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#serve();
  }

  #rejectWaiters(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}
