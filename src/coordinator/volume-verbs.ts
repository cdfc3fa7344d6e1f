// Snapshots, resizes and deletes of volumes wherever they are: all of them through the resolver.

import { CellblockError } from '../base/errors.js';
import type { Route } from '../model/cell/route.js';
import type { Arguments } from '../protocol/verbs.js';
import type { Deletion } from './deletion.js';
import type { Groups } from './groups.js';
import type { Locks } from './locks.js';
import { pinnedBy } from './move-verbs.js';
import type { Operations, Performed } from './operations.js';
import type { Ports } from './ports.js';
import type { DeleteResult, GroupResult, OperationResult, SnapshotResult } from './results.js';
import type { RouteBook } from './route-book.js';

export type VolumeVerbsParts = Pick<Ports, 'store' | 'freshId'> & {
  book: RouteBook;
  operations: Operations;
  groups: Groups;
  deletion: Deletion;
  locks: Locks;
};

export class VolumeVerbs {
  readonly #parts: VolumeVerbsParts;

  constructor(parts: VolumeVerbsParts) {
    this.#parts = parts;
  }

  async snapshot(
    { snapshots }: Arguments<'snapshot-create'>,
    askedBy: string,
  ): Promise<SnapshotResult | GroupResult> {
    const { book, operations, groups, freshId } = this.#parts;
    const asked = await Promise.all(
      snapshots.map(async ({ volume, name }) => ({ route: await book.named(volume), name })),
    );
    const [one, ...others] = asked as [(typeof asked)[number]];
    if (others.length > 0) {
      if (new Set(asked.map(({ route }) => route.volume)).size < asked.length)
        throw new CellblockError('option-invalid', 'A volume is named twice.', {
          hint: 'Name each volume once.',
        });
      return groups.create(asked, askedBy);
    }
    const operation = { kind: 'snapshot', id: freshId(), name: one.name } as const;
    const done = await operations.run(one.route, operation, askedBy);
    const { host, cell, rule, afterwards } = resultOf(one.route, done);
    return {
      volume: one.route.name,
      name: one.name,
      id: done.head!.id,
      seq: done.head!.seq,
      cell,
      host,
      rule,
      afterwards,
    };
  }

  async resize({ volume, sizeBytes }: Arguments<'volume-resize'>, askedBy: string): Promise<OperationResult> {
    const route = await this.#parts.book.named(volume);
    return resultOf(route, await this.#parts.operations.run(route, { kind: 'resize', sizeBytes }, askedBy));
  }

  async delete({ volume }: Arguments<'volume-delete'>, askedBy: string): Promise<DeleteResult> {
    const { book, store, operations, deletion, locks } = this.#parts;
    const route = await book.named(volume);
    const by = await pinnedBy(store, route.volume);
    if (by !== null) throw await this.#pinned(route, by);
    const done = await operations.run(route, { kind: 'delete' }, askedBy);
    // Whoever is there confirms at once; the others are asked until they do.
    await locks.run(route.volume, () => deletion.step(done.route));
    return { ...resultOf(route, done), unconfirmed: deletion.unconfirmed(done.route) };
  }

  async #pinned({ name }: Route, by: string): Promise<CellblockError> {
    const mover = (await this.#parts.book.route(by))?.name ?? by;
    return new CellblockError(
      'volume-pinned',
      `Volume ${name} is needed: the copy of volume ${mover}, which is on the move, continues its snapshots.`,
      { hint: `Try again when \`cellblock move status ${mover}\` says that the move has ended.` },
    );
  }
}

function resultOf({ name }: Route, { at, host, rule, afterwards }: Performed): OperationResult {
  return { volume: name, cell: at, host, rule, afterwards };
}
