// A relay in front of a unix socket that lets so many bytes through towards the client, and then breaks every connection: a network that fails in the
// middle of anything.

import net from 'node:net';

export class BrittleRelay {
  readonly address: string;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  /** Towards the client, until the next break; then for ever. */
  #budgets: number[] = [];
  /** Nothing goes through any more, and nothing is said of it. */
  isStuck = false;
  breaks = 0;

  private constructor(path: string, target: () => string) {
    this.address = `unix:${path}`;
    this.#server = net.createServer((socket) => this.#join(socket, target()));
  }

  static async begin(path: string, target: () => string): Promise<BrittleRelay> {
    const relay = new BrittleRelay(path, target);
    await new Promise<void>((resolve) => relay.#server.listen(path, resolve));
    return relay;
  }

  breakAfter(budgets: readonly number[]): void {
    this.#budgets = [...budgets];
  }

  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  end(): void {
    this.drop();
    this.#server.close();
  }

  #join(socket: net.Socket, target: string): void {
    const onward = net.connect(target);
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    socket.pipe(onward);
    onward.on('data', (bytes) => this.#passOn(bytes, socket));
  }

  #passOn(bytes: Buffer, socket: net.Socket): void {
    if (this.isStuck) return;
    const left = this.#budgets[0];
    if (left === undefined || left > bytes.length) {
      if (left !== undefined) this.#budgets[0] = left - bytes.length;
      socket.write(bytes);
      return;
    }
    this.#budgets.shift();
    this.breaks++;
    socket.write(bytes.subarray(0, left));
    this.drop();
  }
}
