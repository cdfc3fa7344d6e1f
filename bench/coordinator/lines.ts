// Connections that can be cut without anybody noticing: what is sent is taken and goes nowhere, as where a network drops packets.
import net from 'node:net';

/** Ways to some addresses, all of one client. */
export class Lines {
  readonly #servers: net.Server[] = [];
  readonly #open = new Set<net.Socket>();
  #isCut = false;

  /** Addresses on loopback that lead to those given. */
  static async to(targets: readonly string[]): Promise<{ lines: Lines; addresses: string[] }> {
    const lines = new Lines();
    const addresses: string[] = [];
    for (const target of targets) addresses.push(await lines.#lead(target));
    return { lines, addresses };
  }

  async #lead(target: string): Promise<string> {
    const [host = '', port = ''] = target.split(':');
    const server = net.createServer((near) => {
      const far = net.connect(Number(port), host);
      this.#join(near, far);
      this.#join(far, near);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    this.#servers.push(server);
    return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  }

  #join(from: net.Socket, to: net.Socket): void {
    this.#open.add(from);
    from.setNoDelay(true);
    from.on('data', (bytes) => {
      if (!this.#isCut) to.write(bytes);
    });
    from.on('error', () => undefined);
    from.once('close', () => {
      this.#open.delete(from);
      to.destroy();
    });
  }

  cut(): void {
    this.#isCut = true;
  }

  /** What was under way stays lost: connections from before end. */
  mend(): void {
    this.#isCut = false;
    for (const socket of this.#open) socket.destroy();
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#open) socket.destroy();
  }
}
