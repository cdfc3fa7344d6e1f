// When volumes of cells are served after a start, and when they are not any more: what the coordinator's welcome says, or its silence.
//
// Invariants: at a cold start nothing of a cell is served before the first welcome, or before the time of silence is over: this host may be
// older than it was (HAZARDS 23). What the welcome shows to be older here than the coordinator has seen is FAULTED, durably, before the others
// are served. Once served, a coordinator that goes away changes nothing.

import type { Catalog } from '../../catalog/catalog.js';
import type { HostRecord } from '../../model/cell/host-record.js';
import type { Welcome } from '../../protocol/messages.js';
import type { Logger } from '../types.js';
import type { Commands } from './commands.js';
import type { Gate } from './gate.js';
import type { Lineages } from './lineages.js';
import { untilKnown } from './until-known.js';

export class Standings {
  readonly #catalog: Catalog;
  readonly #lineages: Lineages;
  readonly #gate: Gate;
  readonly #commands: Commands;
  readonly #log: Logger;
  readonly #serveAloneAfterMs: number | null;
  #timer: NodeJS.Timeout | null = null;
  #welcomes: Promise<void> = Promise.resolve();
  onFaulted: (record: HostRecord, because: string) => void = () => undefined;
  /** Called once, when volumes are served. */
  onOpen: () => void = () => undefined;

  constructor(
    collaborators: { catalog: Catalog; lineages: Lineages; gate: Gate; commands: Commands; log: Logger },
    options: { serveAloneAfterMs: number | null },
  ) {
    this.#catalog = collaborators.catalog;
    this.#lineages = collaborators.lineages;
    this.#gate = collaborators.gate;
    this.#commands = collaborators.commands;
    this.#log = collaborators.log;
    this.#serveAloneAfterMs = options.serveAloneAfterMs;
  }

  /** The cold start begins. */
  start(): void {
    if (this.#serveAloneAfterMs === null || this.#gate.isOpen) return;
    this.#timer = setTimeout(() => this.serveAlone(), this.#serveAloneAfterMs);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }

  serveAlone(): void {
    if (this.#gate.isOpen) return;
    if (this.#lineages.all().length > 0)
      this.#log.warn(
        { afterMs: this.#serveAloneAfterMs },
        'no coordinator has answered since the start: volumes of cells are served without one',
      );
    this.#open();
  }

  #open(): void {
    this.stop();
    if (this.#gate.isOpen) return;
    this.#gate.open();
    this.onOpen();
  }

  /** Resolves when what it says is in force. */
  welcomed(welcome: Pick<Welcome, 'regressed' | 'highest'>): Promise<void> {
    this.#welcomes = this.#welcomes.then(() => this.#take(welcome));
    return this.#welcomes;
  }

  settled(): Promise<void> {
    return this.#welcomes;
  }

  async #take({ regressed, highest }: Pick<Welcome, 'regressed' | 'highest'>): Promise<void> {
    try {
      for (const { record } of this.#lineages.all()) {
        if (record.state === 'GONE' || record.state === 'FAULTED') continue;
        const seen = highest.find(({ id }) => id === record.volume);
        const because = regressed
          ? 'this host is older than the coordinator has seen it'
          : seen && olderThan(record, seen);
        if (because) await this.#fault(record.volume, because);
      }
      this.#open();
    } catch (error) {
      // They stay shut: nothing is served of which it is not known.
      this.#log.error({ err: error }, 'the welcome of the coordinator could not be put in force');
    }
  }

  async #fault(volume: string, because: string): Promise<void> {
    const outcome = await untilKnown(this.#catalog, () => this.#commands.fault(volume));
    const record = this.#lineages.of(volume)?.record;
    if (outcome.kind !== 'done' || !record) return;
    this.#log.error({ volume, because }, 'a volume is faulted until an operator readmits its host');
    this.onFaulted(record, because);
  }
}

/** A copy on its way may have fewer snapshots than the owner this host once was; never a lower epoch. */
function olderThan({ epoch, head, state }: HostRecord, seen: { epoch: number; seq: number }): string | null {
  const seq = head?.seq ?? 0;
  if (epoch < seen.epoch) return `its epoch here is ${epoch}, ${seen.epoch} was seen`;
  if (state === 'RECEIVING' || state === 'STAGED') return null;
  if (epoch === seen.epoch && seq < seen.seq)
    return `its last snapshot here has seq ${seq}, ${seen.seq} was seen`;
  return null;
}
