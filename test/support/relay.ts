// A relay in front of a port on loopback, which a test can cut: as a network that fails.

import type { AddressInfo } from 'node:net';
import net from 'node:net';
import type { Test } from 'tap';

export class Relay {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #target: () => number;
  /** How many connections came. */
  taken = 0;
  /** Nobody gets through. */
  isCut = false;

  private constructor(target: () => number) {
    this.#target = target;
    this.#server = net.createServer((socket) => this.#join(socket));
  }

  static async begin(t: Test, target: () => number): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((resolve) => relay.#server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      relay.drop();
      relay.#server.close();
    });
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get address(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** Every connection ends, on both sides. */
  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(socket: net.Socket): void {
    this.taken++;
    if (this.isCut) {
      socket.destroy();
      return;
    }
    const onward = net.connect(this.#target(), '127.0.0.1');
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
      one.pipe(other);
    }
  }
}
