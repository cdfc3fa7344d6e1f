// NBD connections of the simulated network to the data plane of a host: for clients of people, and for the copies of other hosts.
//
// Invariant: a request is carried out once or not at all, in the process of the host; whoever asked hears of it, or that the connection is gone.

import { ConnectionLost } from '../../src/nbd-client/byte-stream.js';
import { OptionRefused } from '../../src/nbd-client/handshake.js';
import type { ConnectSource, SourceClient } from '../../src/operations/copy/source.js';
import type { ChangedContext } from '../../src/plane/treaty.js';
import type { Session } from '../support/fake-plane.js';
import type { Lane, Network, Party } from './network.js';
import type { Process, Scheduler } from './scheduler.js';
import type { SimPlane } from './sim-plane.js';

const BLOCK = 4096;
const CHANGED_SINCE = 'qemu:dirty-bitmap:';
const SILENCE_MS = 5_000;
const GO = 7;
const REFUSED = 0x80000006;
const [DATA, ZERO] = [0, 3];

/** A host, as its clients see it. */
export interface Server extends Party {
  readonly isListening: boolean;
  readonly plane: SimPlane;
}

export class NbdConnection {
  readonly host: Server;
  session!: Session;
  granted: string[] = [];
  sizeBytes = 0n;
  readonly #there: Lane;
  readonly #back: Lane;
  readonly #scheduler: Scheduler;
  readonly #from: Process;
  readonly #pending = new Set<(error: Error) => void>();
  #lost: Error | null = null;

  private constructor(network: Network, scheduler: Scheduler, ends: { from: Party; to: Server }) {
    const { from, to } = ends;
    this.host = to;
    this.#scheduler = scheduler;
    this.#from = from.process!;
    this.#there = network.lane(from.name, to.name);
    this.#back = network.lane(to.name, from.name);
  }

  static async open(
    network: Network,
    scheduler: Scheduler,
    { from, to, exportName, since = [] }: { from: Party; to: Server; exportName: string; since?: string[] },
  ): Promise<NbdConnection> {
    const connection = new NbdConnection(network, scheduler, { from, to });
    await connection.#request(async () => {
      if (!to.isListening) throw new ConnectionLost('connection refused');
      const { description, refusal } = await to.plane.describe(exportName);
      if (!description) throw new Error(refusal);
      // What is not offered is not granted.
      connection.granted = since.filter((name) => description.snapshots.includes(name));
      connection.session = await to.plane.connect(exportName, connection.granted);
      connection.sizeBytes = connection.session.volume.sizeBytes;
    });
    return connection;
  }

  /** Null: it is open. */
  get lost(): Error | null {
    return this.#lost;
  }

  /** What the host answers; `ConnectionLost` when nothing is heard. */
  request<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return this.#request(() => {
      if (!this.session.isOpen) throw new ConnectionLost('the server has ended the connection');
      return work(this.session);
    });
  }

  end(): void {
    this.#fail(new ConnectionLost('the client has ended the connection'));
  }

  #request<T>(work: () => Promise<T>): Promise<T> {
    if (this.#lost) return Promise.reject(this.#lost);
    return new Promise<T>((resolve, reject) => {
      this.#pending.add(reject);
      const patience = this.#scheduler.after(SILENCE_MS, () => this.#fail(new ConnectionLost('silence')));
      const answer = (settle: () => void): void => {
        if (this.host.process === null) return;
        this.#back.send(this.#from, () => {
          patience();
          if (this.#pending.delete(reject)) settle();
        });
      };
      const { process } = this.host;
      this.#there.send(process ?? this.#scheduler.world, () => {
        // Another process has no such connection, and says so.
        if (process === null || this.host.process !== process)
          return this.host.isOff
            ? undefined
            : this.#back.send(this.#from, () => this.#fail(new ConnectionLost('connection refused')));
        void Promise.resolve()
          .then(work)
          .then(
            (value) => answer(() => resolve(value)),
            (error: Error) =>
              answer(() => {
                if (error instanceof ConnectionLost) this.#fail(error);
                reject(error);
              }),
          );
      });
    });
  }

  #fail(error: Error): void {
    if (this.#lost) return;
    this.#lost = error;
    // What has not arrived never does.
    this.#there.end();
    const { session, host } = this;
    for (const reject of [...this.#pending]) reject(error);
    this.#pending.clear();
    // The other side sees it too, sooner or later.
    if (session && host.process)
      this.#scheduler.after(1, () => session.isOpen && session.close(), host.process);
  }
}

/** How a host's copies connect to others. `hostAt`: who listens at an address. */
export function sourcesOf(
  network: Network,
  scheduler: Scheduler,
  { from, hostAt }: { from: Party; hostAt: (address: string) => Server },
): ConnectSource {
  return async ({ address, exportName, contexts = [] }) => {
    const since = contexts.slice(1).map((context) => context.slice(CHANGED_SINCE.length));
    try {
      const connection = await NbdConnection.open(network, scheduler, {
        from,
        to: hostAt(address),
        exportName,
        since,
      });
      return new SimSource(connection, contexts);
    } catch (error) {
      if (error instanceof ConnectionLost) throw error;
      throw new OptionRefused(GO, REFUSED, (error as Error).message);
    }
  };
}

class SimSource implements SourceClient {
  readonly readOnly = true;
  readonly contexts: ReadonlyMap<number, string>;
  readonly #connection: NbdConnection;
  readonly #names: readonly string[];

  constructor(connection: NbdConnection, names: readonly string[]) {
    this.#connection = connection;
    this.#names = [...names.slice(0, 1), ...connection.granted.map((name) => `${CHANGED_SINCE}${name}`)];
    this.contexts = new Map(this.#names.map((name, id) => [id, name]));
  }

  get sizeBytes(): bigint {
    return this.#connection.sizeBytes;
  }

  async blockStatus(offset: bigint, length: number) {
    const [first, count] = [Number(offset) / BLOCK, Math.ceil(length / BLOCK)];
    const { values, changed } = await this.#connection.request(async (session) => ({
      values: await session.read(first, count),
      changed: await Promise.all(
        session.contexts.map((_, index) => changedIn(session, index, { first, count })),
      ),
    }));
    const extents = (flags: number[]) => flags.map((each) => ({ lengthBytes: BLOCK, flags: each }));
    const told = [
      values.map((value) => (value === 0 ? ZERO : DATA)),
      ...changed.map((list) => list.map(Number)),
    ];
    return new Map(this.#names.map((name, index) => [name, extents(told[index]!)]));
  }

  async readInto(offset: bigint, target: Buffer) {
    const [first, count] = [Number(offset) / BLOCK, target.length / BLOCK];
    const values = await this.#connection.request((session) => session.read(first, count));
    target.fill(0);
    for (const [index, value] of values.entries()) target.writeBigUInt64LE(BigInt(value), index * BLOCK);
    return [{ kind: 'data' as const, offset, lengthBytes: target.length }];
  }

  destroy(): void {
    this.#connection.end();
  }
}

/** Block by block: as the map says, and what differs besides. */
async function changedIn(
  session: Session,
  index: number,
  { first, count }: { first: number; count: number },
): Promise<boolean[]> {
  const { alsoChanged } = session.contexts[index] as ChangedContext;
  const changed = await session.changed(index, first, count);
  for (let at = 0; at < alsoChanged.length; at += 2) {
    const from = Math.floor(Number(alsoChanged[at]!) / BLOCK);
    const end = Math.ceil(Number(alsoChanged[at]! + alsoChanged[at + 1]!) / BLOCK);
    for (let block = Math.max(from, first); block < Math.min(end, first + count); block++)
      changed[block - first] = true;
  }
  return changed;
}
