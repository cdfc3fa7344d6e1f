// Hosts that hold volumes in memory and speak the real protocol over real WebSockets: what a coordinator has before it, without their disks.
//
// Invariant: each snapshot that is answered is the child of the one before it under the one epoch there is; anything else is refused.
import { CellblockError } from '../../src/base/errors.js';
import type { HostAnswer } from '../../src/model/cell/answer.js';
import type { Head } from '../../src/model/cell/route.js';
import { AgentClient, type SaidOutcome } from '../../src/protocol/client.js';
import type { Log } from '../../src/protocol/log.js';

export interface FleetOptions {
  readonly hosts: number;
  readonly cells: number;
  readonly volumes: number;
  readonly addresses: readonly string[];
}

const NO_LOG: Log = { debug() {}, info() {}, warn() {}, error() {} };
const CALL_MS = 60_000;
/** Of an answer, as agents give them. */
const LATEST = 16;

export const hostName = (host: number): string => `h${host}`;
export const cellOf = (host: number, cells: number): string => `c${host % cells}`;
export const tokenOf = (host: number): string => `token-of-host-${String(host).padStart(8, '0')}`;
export const storeIdOf = (host: number): string => (host + 1).toString(16).padStart(32, '0');
export const volumeName = (volume: number): string => `v${volume}`;
export const volumeId = (volume: number): string => (volume + 2 ** 32).toString(16).padStart(32, '0');

/** Which host has a volume. */
export const hostOf = (volume: number, hosts: number): number => volume % hosts;

export class Fleet {
  readonly #options: FleetOptions;
  readonly #clients: AgentClient[] = [];
  /** Ids of snapshots, by volume, oldest first. */
  readonly lineages = new Map<string, string[]>();
  readonly #names = new Set<string>();
  /** Volumes that were claimed, and the host of each. */
  readonly #claimed = new Map<string, number>();

  constructor(options: FleetOptions) {
    this.#options = options;
    for (let host = 0; host < options.hosts; host++) this.#clients.push(this.#client(host));
  }

  start(): void {
    for (const client of this.#clients) client.start();
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.stop();
  }

  get connected(): number {
    return this.#clients.filter((client) => client.isConnected).length;
  }

  /** A verb that somebody types at this host; throws what it is refused with. */
  async call<Result>(host: number, call: Parameters<AgentClient['call']>[0]): Promise<Result> {
    const outcome = await this.#clients[host]!.call(call, { timeoutMs: CALL_MS });
    if (outcome.kind === 'done') return outcome.value as Result;
    throw new Error(outcome.kind === 'failed' ? `${outcome.code}: ${outcome.message}` : 'no answer');
  }

  #client(host: number): AgentClient {
    const { cells, hosts, volumes, addresses } = this.#options;
    const held = Array.from({ length: volumes }, (_, volume) => volume).filter(
      (volume) => hostOf(volume, hosts) === host,
    );
    const facts = (id: string) => ({ id, epoch: 1, head: this.#head(id), state: 'ACTIVE' as const });
    const refuse = async (): Promise<never> => {
      throw new Error('the bench asks no such thing');
    };
    return new AgentClient({
      coordinators: addresses,
      credentials: () => ({ token: tokenOf(host) }),
      log: NO_LOG,
      application: {
        facts: () => ({
          host: hostName(host),
          cell: cellOf(host, cells),
          storeId: storeIdOf(host),
          boot: 1,
          nbd: ['tcp:127.0.0.1:10809'],
          program: 'bench',
          groups: [],
          volumes: [
            ...held.map((volume) => facts(volumeId(volume))),
            ...[...this.#claimed].flatMap(([id, at]) => (at === host ? [facts(id)] : [])),
          ],
        }),
        probe: async (volume) => this.#answer(host, volume),
        perform: async ({ volume, epoch, parent, operation }) =>
          operation.kind === 'snapshot'
            ? this.#snapshot(volume, { epoch, parent, id: operation.id, name: operation.name })
            : refuse(),
        command: refuse,
        claim: async (volume) => {
          this.#claimed.set(volume, host);
          return { volume, answer: this.#answer(host, volume) };
        },
        describe: refuse,
        pull: refuse,
        digest: refuse,
        group: refuse,
        load: refuse,
        welcomed: () => undefined,
        ended: () => undefined,
      },
    });
  }

  #head(volume: string): Head | null {
    const ids = this.lineages.get(volume) ?? [];
    return ids.length === 0 ? null : { id: ids.at(-1)!, seq: ids.length };
  }

  #answer(host: number, volume: string): HostAnswer {
    const ids = this.lineages.get(volume) ?? [];
    const first = Math.max(0, ids.length - LATEST);
    return {
      host: hostName(host),
      cell: cellOf(host, this.#options.cells),
      storeId: storeIdOf(host),
      state: 'ACTIVE',
      epoch: 1,
      lineageHead: this.#head(volume),
      sealedHead: null,
      activatedFrom: null,
      dirtySinceHead: true,
      released: null,
      move: null,
      tombstone: null,
      inFlight: null,
      replica: null,
      lineage: Object.fromEntries(ids.slice(first).map((id, at) => [first + at + 1, id])),
    };
  }

  #snapshot(
    volume: string,
    { epoch, parent, id, name }: { epoch: number; parent: Head | null; id: string; name: string },
  ): SaidOutcome {
    const head = this.#head(volume);
    if (head?.id === id) return { kind: 'done', head };
    if (epoch !== 1) return { kind: 'refused', refusal: 'STALE_EPOCH', because: 'the epoch is 1' };
    const named = `${volume}@${name}`;
    // As an agent says it: who asks again after silence may have been heard the first time.
    if (this.#names.has(named))
      throw new CellblockError('snapshot-exists', `There is already a snapshot ${named}.`, { hint: '' });
    if (head?.id !== parent?.id) return { kind: 'refused', refusal: 'LINEAGE_MISMATCH', because: 'no child' };
    this.#names.add(named);
    this.lineages.set(volume, [...(this.lineages.get(volume) ?? []), id]);
    return { kind: 'done', head: this.#head(volume) };
  }
}
