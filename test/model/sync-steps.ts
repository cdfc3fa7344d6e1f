// Syncs in sequential histories, done to a store and to the model: to snapshots of others and own ones, undone, with clients that stay
// or are sent away, with a larger source, and failing wherever they can.
import fc from 'fast-check';

import type { SyncInfo, SyncRequest } from '../../src/operations/sync-operations.js';
import type { SyncIdentity } from '../../src/operations/sync-types.js';
import {
  FAILING_STEPS,
  type FailingStep,
  failingIdentity,
  HoldLimit,
  OnPurpose,
} from '../support/failing-identity.js';
import type { Session } from '../support/fake-plane.js';
import { PLAIN_SYNC } from '../support/plain-sync.js';
import type { Store } from '../support/store-harness.js';
import type { ModelVolume, StoreModel } from '../support/store-model.js';
import { testIdentity } from '../support/test-identity.js';
import { until } from '../support/waiting.js';

export interface SyncCommand {
  do: 'sync';
  volume: number;
  /** Whose snapshot; null: an undo. */
  source: number | null;
  which: number;
  clients: 'none' | 'stay' | 'sent away';
  grow: boolean;
  safety: boolean;
  failing: FailingStep | null;
}

export const syncCommand: fc.Arbitrary<SyncCommand> = fc.record({
  do: fc.constant('sync' as const),
  volume: fc.nat(7),
  source: fc.option(fc.nat(7), { freq: 5 }),
  which: fc.nat(9),
  clients: fc.constantFrom('none' as const, 'stay' as const, 'sent away' as const),
  grow: fc.boolean(),
  safety: fc.boolean(),
  failing: fc.option(fc.constantFrom(...FAILING_STEPS), { freq: 2 }),
});

interface From {
  volume: string;
  snapshot: string;
}

/** What a client does while it is held. */
interface Held {
  block: number;
  value: number;
  done: Promise<void>;
}

/** How often syncs ended in which way. */
export const endings = new Map<FailingStep | 'done' | 'refused', number>();

function count(ending: FailingStep | 'done' | 'refused'): void {
  endings.set(ending, (endings.get(ending) ?? 0) + 1);
}

export class SyncSteps {
  readonly limit = new HoldLimit();
  readonly #model: StoreModel;
  readonly #newValue: () => number;
  #store!: Store;
  #next: SyncIdentity | null = null;

  constructor(model: StoreModel, newValue: () => number) {
    this.#model = model;
    this.#newValue = newValue;
  }

  /** For the store's options. */
  readonly identity = (): SyncIdentity => {
    const next = this.#next ?? testIdentity();
    this.#next = null;
    return next;
  };

  async run(store: Store, target: string, source: string | null, command: SyncCommand): Promise<void> {
    this.#store = store;
    const volume = this.#model.volumes.get(target)!;
    const from = source === null ? this.#undoPoint(target) : this.#snapshotOf(source, command.which);
    if (!from) return;
    const content = this.#model.volumes.get(from.volume)!.snapshots.get(from.snapshot)!;
    if (content.length > volume.blocks.length && !command.grow) return this.#refused(target, from, command);
    await this.#allGone();
    const session = command.clients === 'none' ? null : await store.plane.connect(target);
    await this.#sync(target, { from, undo: source === null, session, command });
    session?.close();
    await this.#allGone();
  }

  #undoPoint(target: string): From | null {
    const { undoPoint } = this.#model.volumes.get(target)!;
    return undoPoint === null ? null : { volume: target, snapshot: undoPoint };
  }

  #snapshotOf(volume: string, which: number): From | null {
    const names = [...this.#model.volumes.get(volume)!.snapshots.keys()];
    const snapshot = names[which % names.length];
    return snapshot === undefined ? null : { volume, snapshot };
  }

  async #refused(target: string, from: From, command: SyncCommand): Promise<void> {
    await this.#allGone();
    count('refused');
    await this.#rejects('sync-source-larger', () =>
      this.#store.operations.syncs.sync(target, from, request(command)),
    );
  }

  async #sync(
    target: string,
    what: { from: From; undo: boolean; session: Session | null; command: SyncCommand },
  ): Promise<void> {
    const { syncs } = this.#store.operations;
    const { from, undo, session, command } = what;
    const volume = this.#model.volumes.get(target)!;
    // Nobody waits for a hold without clients, so it has no limit.
    const failing = command.failing === 'expire' && command.clients !== 'stay' ? null : command.failing;
    let held: Held | null = null;
    this.#next = failingIdentity(failing, {
      expire: () => this.limit.pass(),
      atStep: (step) => {
        if (step === 'restore' && session && command.clients === 'stay') held = this.#write(volume, session);
      },
    });
    const ask = () =>
      undo ? syncs.undo(target, request(command)) : syncs.sync(target, from, request(command));
    count(failing ?? 'done');
    if (failing === null) this.#synced(target, { from, command, info: await ask() });
    else await this.#rejects(failing === 'expire' ? 'hold-expired' : OnPurpose, ask);
    await this.#writtenAfter(target, held);
    if (session && command.clients === 'stay') await this.#sees(target, session);
  }

  #synced(
    target: string,
    { from, command, info }: { from: From; command: SyncCommand; info: SyncInfo },
  ): void {
    if (info.phase !== 'done') throw new Error(`a sync of ${target} ended as ${info.phase}`);
    const safety = command.safety ? info.safety[0]!.slice(target.length + 1) : null;
    this.#model.sync(target, from, safety);
  }

  #write(volume: ModelVolume, session: Session): Held {
    const value = this.#newValue();
    // The last block, which is the identity of the smallest volume too.
    const block = volume.blocks.length - 1;
    return { block, value, done: session.write(block, [value]) };
  }

  /** What was asked for while it was held is done to what there is then. */
  async #writtenAfter(target: string, held: Held | null): Promise<void> {
    if (!held) return;
    await held.done;
    this.#model.write(target, held.block, [held.value]);
  }

  /** Who stayed reads what there is now. */
  async #sees(target: string, session: Session): Promise<void> {
    const { blocks } = this.#model.volumes.get(target)!;
    const values = await session.read(0, blocks.length);
    const wrong = blocks.findIndex((value, block) => values[block] !== value);
    if (wrong >= 0)
      throw new Error(`a client of ${target} reads ${values[wrong]} in ${wrong}, not ${blocks[wrong]}`);
  }

  async #rejects(wanted: string | typeof OnPurpose, ask: () => Promise<unknown>): Promise<void> {
    const error = await ask().then(
      () => new Error('it was not refused'),
      (error: Error) => error,
    );
    const { code } = error as { code?: string };
    if (typeof wanted === 'string' ? code !== wanted : !(error instanceof wanted)) throw error;
  }

  /** The agent hears of the end of a connection a little later. */
  async #allGone(): Promise<void> {
    const { devices } = this.#store.operations.parts;
    await until('the end of the connections', () =>
      devices.all().every(({ connections, view }) => view || connections === 0),
    );
  }
}

function request({ clients, grow, safety }: SyncCommand): SyncRequest {
  const [online, force] = [clients === 'stay', clients === 'sent away'];
  return { ...PLAIN_SYNC, online, force, grow, safety };
}
