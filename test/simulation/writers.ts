// Clients of people: each writes to one volume, numbers that only grow, and follows it to whoever serves it. Sometimes it believes that another host does.

import { NbdConnection } from './nbd.js';
import type { Party } from './network.js';
import { Process } from './scheduler.js';
import type { SimHost } from './sim-host.js';
import type { World } from './world.js';

const PAUSE_MS = { from: 5, to: 120 };
const AGAIN_MS = 200;
/** How often it asks a host that it has no reason to ask. */
const MISLED = 0.25;

export class Writer implements Party {
  readonly name: string;
  readonly isOff = false;
  readonly process: Process;
  readonly #world: World;
  readonly #volume: string;
  #connection: NbdConnection | null = null;
  isResting = false;

  constructor(world: World, volume: string) {
    this.#world = world;
    this.#volume = volume;
    this.name = `client ${volume}`;
    this.process = new Process(this.name);
  }

  start(): void {
    this.#world.scheduler.after(0, () => void this.#write(), this.process);
  }

  stop(): void {
    this.process.isDead = true;
  }

  async #write(): Promise<void> {
    const { scheduler, chance } = this.#world;
    for (;;) {
      await scheduler.sleep(chance.between(this.name, PAUSE_MS.from, PAUSE_MS.to));
      if (this.isResting || this.#world.oracle.volume(this.#volume).isDeleted) continue;
      if (!this.#connection && !(await this.#connect())) await scheduler.sleep(AGAIN_MS);
      else await this.#writeOne(this.#connection!);
    }
  }

  async #connect(): Promise<boolean> {
    const { network, scheduler } = this.#world;
    const to = this.#guess();
    try {
      this.#connection = await NbdConnection.open(network, scheduler, {
        from: this,
        to,
        exportName: this.#volume,
      });
      return true;
    } catch {
      return false;
    }
  }

  #guess(): SimHost {
    const { etcd, chance, hosts } = this.#world;
    const route = etcd.state.table.named(this.#volume);
    if (!route || chance.isSo(this.name, MISLED)) return chance.of(this.name, [...hosts.values()]);
    return this.#world.host(route.active.primary);
  }

  async #writeOne(connection: NbdConnection): Promise<void> {
    const { oracle } = this.#world;
    const begun = oracle.begin(this.#volume);
    if (!begun) return;
    const { write, block } = begun;
    const { host } = connection;
    try {
      await connection.request(async (session) => {
        oracle.arrived(write, host.name);
        try {
          await session.write(block, [write]);
          session.flush();
          oracle.acknowledged(write, this.#world.host(host.name));
        } finally {
          oracle.ended(write);
        }
      });
    } catch {
      oracle.unanswered(write);
      connection.end();
      this.#connection = null;
    }
  }
}
