// A host of a cell without sockets: a store on the fake data plane, welcomed by a coordinator that has seen nothing, and what the other end
// of the protocol would ask of it, in short.

import type { HostCommand } from '../../src/model/cell/host-record.js';
import type { Head } from '../../src/model/cell/route.js';
import type { Cells } from '../../src/operations/cells/cells.js';
import type { LocalEvent } from '../../src/operations/cells/coordinator-link.js';
import type { OperationsOptions } from '../../src/operations/types.js';
import type { SaidOutcome } from '../../src/protocol/client.js';
import type { Welcome } from '../../src/protocol/messages.js';
import { blocksBytes, Store } from './store-harness.js';

/** 32 digits that say the number twice: names of hidden snapshots have the first half. */
export function idOf(number: number): string {
  return number.toString(16).padStart(16, '0').repeat(2);
}

export const VOLUME = idOf(0xf00d);
export const MOVE = idOf(0xabc);

type Said = Pick<Welcome, 'regressed' | 'highest'>;

export const NOTHING_SEEN: Said = { regressed: false, highest: [] };

export class CellHost {
  readonly store: Store;
  readonly events: Pick<LocalEvent, 'name' | 'move' | 'through' | 'message'>[] = [];

  private constructor(store: Store) {
    this.store = store;
  }

  static async make(options: Partial<OperationsOptions> = {}): Promise<CellHost> {
    const host = new CellHost(
      await Store.make({ cells: { host: 'h1', cell: 'east', serveAloneAfterMs: null }, ...options }),
    );
    host.#listen();
    await host.welcome();
    return host;
  }

  get cells(): Cells {
    return this.store.operations.parts.cells;
  }

  #listen(): void {
    this.cells.link.client = {
      isConnected: true,
      event: ({ name, move, through, message }) => void this.events.push({ name, move, through, message }),
      progress: () => undefined,
      call: async () => ({ kind: 'silent' }),
    };
  }

  async welcome(said: Said = NOTHING_SEEN): Promise<void> {
    this.cells.welcomed(said as Welcome);
    await this.cells.settled();
  }

  async restart(
    how: 'clean' | 'process-death' | 'power-loss',
    said: Said | null = NOTHING_SEEN,
  ): Promise<void> {
    await this.store.restart(how);
    this.#listen();
    if (said) await this.welcome(said);
  }

  /** A volume of some blocks that is one of the cell from now on. */
  async claimed(name = 'v', { id = VOLUME, blocks = 16 } = {}): Promise<void> {
    await this.store.operations.createVolume(name, { sizeBytes: blocksBytes(blocks) });
    await this.cells.claim(id, name);
  }

  command(command: HostCommand, volume = VOLUME): Promise<SaidOutcome> {
    return this.cells.command(volume, command);
  }

  /** Of the owner under its epoch, behind its head, if nothing else is said. */
  async snapshot(
    name: string,
    id: string,
    { volume = VOLUME, parent, epoch }: { volume?: string; parent?: Head | null; epoch?: number } = {},
  ): Promise<SaidOutcome> {
    const now = await this.cells.probe(volume, []);
    return this.cells.perform({
      volume,
      epoch: epoch ?? now.epoch,
      parent: parent === undefined ? now.lineageHead : parent,
      operation: { kind: 'snapshot', id, name },
    });
  }

  async write(block: number, values: number[], name = 'v'): Promise<void> {
    const session = await this.store.plane.connect(name);
    await session.write(block, values);
    session.close();
  }

  /** Sealed at a hidden snapshot of this id. */
  async seal(id: string): Promise<SaidOutcome> {
    await this.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
    return this.command({ do: 'seal', epoch: 1, id });
  }
}

/** The code it was refused with; empty: it was not. */
export function refusalOf(outcome: SaidOutcome): string {
  return outcome.kind === 'refused' ? outcome.refusal : '';
}
