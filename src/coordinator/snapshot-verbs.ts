// Deletes of snapshots of volumes wherever they are: through the resolver at the owner, then at every other host that has them.
//
// Invariant: nothing is deleted that a copy elsewhere may be built on: of a volume on the move, of a replica that is behind, of another volume on
// the move that continues it at its destination. The last snapshot of a lineage stays: it is what copies are complete through.

import { CellblockError } from '../base/errors.js';
import type { Route } from '../model/cell/route.js';
import type { SnapshotFacts } from '../protocol/exchange.js';
import type { Arguments } from '../protocol/verbs.js';
import { askHost } from './asking.js';
import { describeWhole } from './describing.js';
import type { Locks } from './locks.js';
import { pinnedBy } from './move-verbs.js';
import type { Operations } from './operations.js';
import type { Ports } from './ports.js';
import { deleted, hostSilent } from './refusals.js';
import type { SnapshotDeleteResult } from './results.js';
import type { RouteBook } from './route-book.js';
import type { SnapshotDeletions } from './snapshot-deletions.js';

export type SnapshotVerbsParts = Pick<Ports, 'store' | 'hosts' | 'settings'> & {
  book: RouteBook;
  locks: Locks;
  operations: Operations;
  snapshotDeletions: SnapshotDeletions;
  wake: (volume: string) => void;
};

export class SnapshotVerbs {
  readonly #parts: SnapshotVerbsParts;

  constructor(parts: SnapshotVerbsParts) {
    this.#parts = parts;
  }

  async delete(
    { volume: name, name: snapshot }: Arguments<'snapshot-delete'>,
    askedBy: string,
  ): Promise<SnapshotDeleteResult> {
    const { book, locks } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, async () => {
      const route = await book.route(volume);
      if (!route || route.status === 'gone') throw deleted(name);
      return this.#delete(route, snapshot, askedBy);
    });
  }

  async #delete(route: Route, snapshot: string, askedBy: string): Promise<SnapshotDeleteResult> {
    const { operations, snapshotDeletions, wake } = this.#parts;
    const { volume } = route;
    const id = this.#begunBefore(route, snapshot) ?? (await this.#free(route, snapshot)).id;
    const operation = { kind: 'snapshot-delete', id, name: snapshot } as const;
    const done = await operations.runHeld(volume, operation, askedBy);
    // Whoever is there confirms at once; the others are asked until they do.
    await snapshotDeletions.step(done.route);
    const unconfirmed = snapshotDeletions
      .of(volume)
      .filter((record) => record.snapshot === id)
      .flatMap(({ hosts }) => hosts);
    if (unconfirmed.length > 0) wake(volume);
    const { at: cell, host, rule, afterwards } = done;
    return { volume: route.name, name: snapshot, id, cell, host, rule, afterwards, unconfirmed };
  }

  /** The id of one that was asked to be deleted before: it may be gone at its owner. */
  #begunBefore({ volume }: Route, name: string): string | null {
    const { operations, snapshotDeletions } = this.#parts;
    for (const { operation } of operations.unfinished(volume))
      if (operation.kind === 'snapshot-delete' && operation.name === name) return operation.id;
    return snapshotDeletions.of(volume).find((record) => record.name === name)?.snapshot ?? null;
  }

  /** One that nobody needs. `snapshot-not-found`, `snapshot-pinned`. */
  async #free(route: Route, name: string): Promise<SnapshotFacts> {
    const { store, settings } = this.#parts;
    const { active, journal } = route;
    const reference = `${route.name}@${name}`;
    const described = await describeWhole(this.#parts, active.primary, route.volume);
    if (!described) throw hostSilent(active.primary, settings);
    const visible = described.snapshots.filter(({ hidden }) => !hidden);
    const found = visible.find((facts) => facts.name === name);
    if (!found)
      throw new CellblockError('snapshot-not-found', `Volume ${route.name} has no snapshot ${name}.`, {
        hint: `See \`cellblock snapshot list ${route.name}\` at host ${active.primary}.`,
        facts: { volume: route.name },
      });
    if (found === visible.at(-1))
      throw pinned(
        `Snapshot ${reference} is the last one of its lineage: copies are complete through it.`,
        'Take another snapshot first.',
      );
    if (journal)
      throw pinned(
        `Snapshot ${reference} may be needed: its volume is on the move to cell ${journal.to}.`,
        `Try again when \`cellblock move status ${route.name}\` says that the move has ended.`,
      );
    const by = await pinnedBy(store, route.volume);
    const mover = by && ((await this.#parts.book.route(by))?.name ?? by);
    if (mover)
      throw pinned(
        `Snapshot ${reference} may be needed: the copy of volume ${mover}, which is on the move, continues snapshots of volume ${route.name}.`,
        `Try again when \`cellblock move status ${mover}\` says that the move has ended.`,
      );
    const behind = await this.#replicaBehind(route, visible.at(-1)!);
    if (behind !== null)
      throw pinned(
        `Snapshot ${reference} may be needed: the replica at host ${behind} is not known to have every snapshot.`,
        `Try again when \`cellblock route show ${route.name}\` shows that it has, or remove it with \`cellblock replica remove\`.`,
      );
    return found;
  }

  /** A replica that may be told its next changes since the snapshot; null: none is. */
  async #replicaBehind({ volume, active }: Route, last: SnapshotFacts): Promise<string | null> {
    for (const host of active.replicas) {
      const answer = await askHost(this.#parts, host, { volume, seqs: [] });
      if (answer?.replica?.completeThrough?.id !== last.id) return host;
    }
    return null;
  }
}

function pinned(message: string, hint: string): CellblockError {
  return new CellblockError('snapshot-pinned', message, { hint });
}
