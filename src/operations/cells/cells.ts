// Volumes of cells at this host, put together: what the agent does behind the protocol with a coordinator, and what the rest of the agent asks
// of cells. It decides nothing: records are judged by src/model/cell, each kind of request is carried out in a file of its own.

import type { Catalog } from '../../catalog/catalog.js';
import type { HostAnswer } from '../../model/cell/answer.js';
import type { HostCommand, HostRecord } from '../../model/cell/host-record.js';
import type { Container } from '../../model/entities.js';
import type { AgentApplication, Performed, SaidOutcome } from '../../protocol/client.js';
import type {
  Digest,
  GroupOutcome,
  GroupStep,
  OpenGroup,
  Pull,
  VolumeDescription,
  VolumeLoad,
} from '../../protocol/exchange.js';
import { LIMITS } from '../../protocol/limits.js';
import type { Welcome } from '../../protocol/messages.js';
import type { Copies, CopyHost } from '../copy/treaty.js';
import type { Devices } from '../devices.js';
import type { Attachments } from '../kernel/attachments.js';
import type { PlaneClient } from '../plane-client.js';
import type { Reclaim } from '../reclaim.js';
import type { Snapshots } from '../snapshots.js';
import type { CellState, Logger } from '../types.js';
import type { Volumes } from '../volumes.js';
import { Claiming } from './claiming.js';
import { Closing } from './closing.js';
import { Commands } from './commands.js';
import { CoordinatorLink, factsOf, type VolumeFacts } from './coordinator-link.js';
import { Describing } from './describing.js';
import { Facts, type HostIdentity } from './facts.js';
import { Forks } from './forks.js';
import type { Gate } from './gate.js';
import { Groups } from './groups.js';
import { HiddenSnapshots } from './hidden-snapshots.js';
import type { Lineages } from './lineages.js';
import { isOwner } from './lineages.js';
import { Loads } from './loads.js';
import type { LocalVerbs } from './local-verbs.js';
import { Maps } from './maps.js';
import { Performing } from './performing.js';
import { Receiving } from './receiving.js';
import { Reconciling } from './reconciling.js';
import { Serial } from './serial.js';
import { SnapshotDeletes } from './snapshot-deletes.js';
import { Standings } from './standing.js';

export interface CellsOptions {
  storeId: string;
  identity: HostIdentity;
  /** Null: never. */
  serveAloneAfterMs: number | null;
  holdLimitMs: number;
}

export interface CellsCollaborators {
  catalog: Catalog;
  devices: Devices;
  client: PlaneClient;
  snapshots: Snapshots;
  volumes: Volumes;
  attachments: Attachments;
  reclaim: Reclaim;
  lineages: Lineages;
  localVerbs: LocalVerbs;
  gate: Gate;
  log: Logger;
}

export class Cells implements Omit<AgentApplication, 'facts'> {
  readonly link = new CoordinatorLink();
  readonly performing: Performing;
  readonly loads: Loads;
  readonly #catalog: Catalog;
  readonly #lineages: Lineages;
  readonly #gate: Gate;
  readonly #facts: Facts;
  readonly #closing: Closing;
  readonly #hidden: HiddenSnapshots;
  readonly #commands: Commands;
  readonly #claiming: Claiming;
  readonly #describing: Describing;
  readonly #groups: Groups;
  readonly #receiving: Receiving;
  readonly #reconciling: Reconciling;
  readonly #standings: Standings;
  readonly #serial = new Serial();
  readonly #log: Logger;
  #copies: Copies | null = null;

  constructor(collaborators: CellsCollaborators, options: CellsOptions) {
    const { catalog, lineages, gate, log } = collaborators;
    const { holdLimitMs } = options;
    this.#catalog = catalog;
    this.#lineages = lineages;
    this.#gate = gate;
    this.#log = log;
    const serial = this.#serial;
    this.#facts = new Facts(collaborators, options);
    this.#closing = new Closing(collaborators, { holdLimitMs });
    this.#hidden = new HiddenSnapshots(collaborators);
    const more = {
      ...collaborators,
      serial,
      facts: this.#facts,
      closing: this.#closing,
      hidden: this.#hidden,
      forks: new Forks(collaborators),
      deletes: new SnapshotDeletes(collaborators),
      maps: new Maps(collaborators),
      link: this.link,
    };
    this.#commands = new Commands(more);
    const all = { ...more, commands: this.#commands };
    this.performing = new Performing(all);
    this.#claiming = new Claiming(all);
    this.#describing = new Describing(catalog, lineages);
    this.loads = new Loads(collaborators);
    this.#groups = new Groups(all, { holdLimitMs, turns: new Serial() });
    this.#receiving = new Receiving(all);
    this.#reconciling = new Reconciling(all);
    this.#standings = new Standings(all, options);
    this.performing.onLocal = (record) =>
      this.link.event({ name: 'snapshot-taken', record, move: null, through: record.head, message: '' });
    this.#standings.onFaulted = (record, because) =>
      this.link.event({ name: 'faulted', record, move: null, through: null, message: because });
  }

  /** What the puller keeps its records with. */
  get copyHost(): CopyHost {
    return this.#receiving;
  }

  /** Who brings snapshots from other hosts. */
  set copies(copies: Copies) {
    this.#copies = copies;
    this.#commands.copies = copies;
  }

  /** Before anybody is served. */
  async reconcile(): Promise<void> {
    await this.#reconciling.run();
    for (const { record } of this.#lineages.all()) await this.#hidden.tidy(record.volume);
    this.#standings.start();
  }

  /** Called once, when volumes of cells are served. */
  set onOpen(called: () => void) {
    this.#standings.onOpen = called;
  }

  async stop(): Promise<void> {
    this.#standings.stop();
    this.#closing.stop();
    await this.#groups.stop();
  }

  /** The cold start is over. */
  get isServing(): boolean {
    return this.#gate.isOpen;
  }

  /** What stands of its volumes in a hello. */
  async volumes(): Promise<VolumeFacts[]> {
    await this.#catalog.barrier();
    const facts = this.#lineages.all().map(({ record }) => factsOf(record));
    // Of more than fit those that are gone are left out first: a coordinator that wants to know of one asks.
    const isGone = ({ state }: VolumeFacts): number => (state === 'GONE' ? 1 : 0);
    return facts.sort((a, b) => isGone(a) - isGone(b)).slice(0, LIMITS.volumes);
  }

  /** Groups that are neither published nor dropped, for a hello. */
  openGroups(): OpenGroup[] {
    return this.#groups.open();
  }

  /** Null: it belongs to no cell. */
  stateOf(container: { id: number }): CellState | null {
    const lineage = this.#lineages.ofContainer(container.id);
    const full = this.#catalog.containers.get(container.id);
    if (!lineage || !full) return null;
    const { record } = lineage;
    const { id, epoch, head, state } = factsOf(record);
    const role = roleOf(record);
    return {
      id,
      state,
      role,
      epoch,
      seq: head?.seq ?? 0,
      served: this.#gate.whyNot(full) === null,
      continuedBy: role === 'replica' ? this.#continuedBy(full) : [],
    };
  }

  /** By name. */
  #continuedBy({ id }: Container): string[] {
    const names = new Set<string>();
    for (const line of this.#catalog.linesOf(id))
      for (const version of this.#catalog.basesIn(line.id))
        for (const child of this.#catalog.childrenOf(line.id, version)) {
          const other = this.#catalog.containers.get(child.container);
          if (other?.state === 'live' && other.id !== id) names.add(other.name);
        }
    return [...names].sort();
  }

  probe(volume: string, seqs: readonly number[]): Promise<HostAnswer> {
    const inFlight = this.performing.inFlight(volume);
    if (inFlight) return this.#facts.answer(volume, inFlight.record, { seqs, inFlight: inFlight.id });
    return this.#serial.run(volume, async () => {
      await this.#catalog.barrier();
      const record = this.#lineages.of(volume)?.record ?? null;
      return this.#facts.answer(volume, record, { seqs, isHeld: this.#groups.isHeld(volume) });
    });
  }

  command(volume: string, command: HostCommand): Promise<SaidOutcome> {
    return this.#commands.run(volume, command);
  }

  perform(asked: Performed): Promise<SaidOutcome> {
    return this.performing.run(asked);
  }

  /** Under the id that it has from an earlier claim, if there was one: whoever claims it may have forgotten that. */
  async claim(volume: string, name: string): Promise<{ volume: string; answer: HostAnswer }> {
    const its = await this.#claiming.claim(volume, name);
    return { volume: its, answer: await this.probe(its, []) };
  }

  describe(volume: string, after: string | null): Promise<VolumeDescription> {
    return this.#serial.run(volume, async () => {
      await this.#catalog.barrier();
      return this.#describing.describe(volume, after);
    });
  }

  async pull(volume: string, pull: Pull): Promise<SaidOutcome> {
    const said = await this.#serial.run(volume, () => this.#receiving.judgePull(volume, pull));
    if (said) return said;
    if (!this.#copies) throw new Error('nobody copies anything');
    await this.#copies.pull(volume, pull);
    return { kind: 'done', head: this.#lineages.of(volume)?.record.head ?? null };
  }

  digest(volume: string, of: { snapshot: string; since: string | null }): Promise<Digest> {
    if (!this.#copies) throw new Error('nobody copies anything');
    return this.#copies.digest(volume, of);
  }

  group(group: string, step: GroupStep): Promise<GroupOutcome> {
    return this.#groups.run(group, step);
  }

  async load(): Promise<VolumeLoad[]> {
    return this.loads.all();
  }

  welcomed(welcome: Welcome): void {
    void this.#standings.welcomed(welcome);
  }

  /** Resolves when what every welcome so far has said is in force. */
  settled(): Promise<void> {
    return this.#standings.settled();
  }

  /** A coordinator that is lost changes nothing: I/O goes on. */
  ended(because: string): void {
    this.#log.info({ because }, 'the session with the coordinator is over');
  }
}

function roleOf({ replica, state: now, faultedFrom }: HostRecord): CellState['role'] {
  const state = faultedFrom ?? now;
  if (replica) return 'replica';
  if (isOwner({ state })) return 'primary';
  return state === 'RECEIVING' || state === 'STAGED' ? 'copy' : 'former';
}
