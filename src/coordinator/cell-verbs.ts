// Cells as people look at them: made, split when they carry too much, turned back; and the replicas of volumes within one.

import { CellblockError } from '../base/errors.js';
import type { CellAnswer } from '../model/cell/answer.js';
import { highestEpoch } from '../model/cell/guards.js';
import type { Head, Place, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import type { Arguments } from '../protocol/verbs.js';
import { askBoth, askHost } from './asking.js';
import type { Bases } from './bases.js';
import { allCells, allHosts, connected, existingCell, requireReadmitted } from './hosts-view.js';
import { busiest, measureLoad } from './load.js';
import type { Locks } from './locks.js';
import { startMoves } from './many-moves.js';
import { givenUp, type MoveVerbs } from './move-verbs.js';
import { type Ports, timeOf } from './ports.js';
import { deleted, hostSilent } from './refusals.js';
import type {
  CellDetails,
  CellSummary,
  Loss,
  PromoteResult,
  RollbackResult,
  SplitResult,
} from './results.js';
import { hostsOf, type RouteBook } from './route-book.js';
import type { BaseRecord } from './store.js';
import type { Term } from './term.js';
import type { UnfinishedGroups } from './unfinished-groups.js';

export type CellVerbsParts = Ports & {
  book: RouteBook;
  locks: Locks;
  term: Term;
  bases: Bases;
  unfinished: UnfinishedGroups;
  moves: MoveVerbs;
  wake: (volume: string) => void;
};

export class CellVerbs {
  readonly #parts: CellVerbsParts;

  constructor(parts: CellVerbsParts) {
    this.#parts = parts;
  }

  async list(): Promise<{ cells: CellSummary[] }> {
    const counts = new Map<string, number>();
    for await (const { active } of this.#parts.book.all())
      counts.set(active.cell, (counts.get(active.cell) ?? 0) + 1);
    const cells = await allCells(this.#parts);
    return {
      cells: await Promise.all(cells.map((cell) => this.#summary(cell, counts.get(cell) ?? 0))),
    };
  }

  async show({ cell }: Arguments<'cell-show'>): Promise<CellDetails> {
    await existingCell(this.#parts, cell);
    const names: string[] = [];
    const arriving: string[] = [];
    const leaving: string[] = [];
    for await (const { name, active, journal } of this.#parts.book.all()) {
      if (active.cell === cell) names.push(name);
      if (journal?.to === cell && active.cell !== cell) arriving.push(name);
      if (journal?.from === cell && journal.to !== cell) leaving.push(name);
    }
    return { ...(await this.#summary(cell, names.length)), names, arriving, leaving };
  }

  async create({ cell }: Arguments<'cell-create'>): Promise<CellSummary> {
    const { store, clock } = this.#parts;
    if ((await allCells(this.#parts)).includes(cell))
      throw new CellblockError('cell-exists', `There is a cell ${cell} already.`, {
        hint: 'Run `cellblock cell list`.',
        facts: { cell },
      });
    await store.put([{ kind: 'cell', key: cell, value: { cell, created: timeOf(clock) } }]);
    return this.#summary(cell, 0);
  }

  /** These volumes, or the busiest ones until half of what is written in the cell is written elsewhere. */
  async split(
    { cell, into, volumes, dryRun, bases = 'refuse' }: Arguments<'cell-split'>,
    askedBy: string,
  ): Promise<SplitResult> {
    await existingCell(this.#parts, cell);
    await existingCell(this.#parts, into);
    if (cell === into)
      throw new CellblockError('option-invalid', 'A cell is split into another one.', {
        hint: 'Name two cells.',
      });
    const { book, moves } = this.#parts;
    const rates = volumes ? null : busiest(await measureLoad(this.#parts, cell));
    const names = volumes ?? rates!.map(({ volume }) => volume);
    const routes = await Promise.all(names.map((name) => book.named(name)));
    const foreign = routes.find(({ active }) => active.cell !== cell);
    if (foreign)
      throw new CellblockError(
        'option-invalid',
        `Volume ${foreign.name} is in cell ${foreign.active.cell}.`,
        {
          hint: `Name volumes of cell ${cell}.`,
        },
      );
    const together = await moves.together();
    const asked = routes.map((route) => ({ route, cell: into }));
    return {
      cell,
      into,
      rates,
      moves: await startMoves(moves, asked, { dryRun, bases, askedBy, together }),
    };
  }

  /** What is on its way into the cell goes back, as far as it can. */
  async rollback({ cell }: Arguments<'cell-rollback'>): Promise<RollbackResult> {
    await existingCell(this.#parts, cell);
    const { book, moves } = this.#parts;
    const volumes: RollbackResult['volumes'] = [];
    for await (const route of book.all())
      if (route.journal?.to === cell) volumes.push({ volume: route.name, ...(await moves.turnBack(route)) });
    return { volumes };
  }

  async addReplica({
    volume: name,
    host,
  }: Arguments<'replica-add'>): Promise<{ volume: string; replicas: string[] }> {
    const { cell } = connected(this.#parts, host);
    return this.#changeReplicas(name, (route) => {
      const { active, alternate } = route;
      if (active.cell !== cell)
        throw new CellblockError(
          'option-invalid',
          `Host ${host} is in cell ${cell}, volume ${name} in ${active.cell}.`,
          {
            hint: 'A replica is in the cell of its primary.',
          },
        );
      const isPart =
        active.primary === host || alternate?.primary === host || alternate?.replicas.includes(host);
      if (active.replicas.includes(host) || isPart)
        throw new CellblockError('replica-exists', `Host ${host} has a part of volume ${name} already.`, {
          hint: `Look at \`cellblock route show ${name}\`.`,
        });
      return [...active.replicas, host];
    });
  }

  /** What it has of the volume is purged. */
  async removeReplica({
    volume: name,
    host,
  }: Arguments<'replica-remove'>): Promise<{ volume: string; replicas: string[] }> {
    const { book, locks } = this.#parts;
    const before = await book.named(name);
    const { volume } = before;
    if (!before.active.replicas.includes(host)) return this.#removeBeginning(before, host);
    // Held, or a copy that is begun again meanwhile would be nobody's.
    return locks.run(volume, async () => {
      const { active } = await book.named(name);
      if (!active.replicas.includes(host)) throw noReplica(name, host);
      // Purged first: what the route names no more nobody would purge.
      await this.#purge(host, volume);
      return this.#storeReplicas(volume, name, ({ active: now }) =>
        now.replicas.filter((each) => each !== host),
      );
    });
  }

  async #purge(host: string, volume: string): Promise<void> {
    const { hosts, settings } = this.#parts;
    if (!hosts.isConnected(host)) throw hostSilent(host, settings);
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (answer?.state === 'NONE') return;
    const outcome = await hosts.command(host, { volume, command: { do: 'purge' } }, settings.commandMs);
    if (outcome.kind !== 'done') throw hostSilent(host, settings);
  }

  /** What a host has of the volume for others, or has kept of it without anybody knowing: no route names it, and it serves nobody. */
  async #removeBeginning(
    { volume, name }: Route,
    host: string,
  ): Promise<{ volume: string; replicas: string[] }> {
    const { book, locks, store, bases, settings, log } = this.#parts;
    return locks.run(volume, async () => {
      const route = await book.route(volume);
      if (!route || hostsOf(route).includes(host)) throw noReplica(name, host);
      for (const record of bases.of(volume))
        if (record.host === host && (await bases.need(record)).isUnderWay)
          throw beginningNeeded(route, record);
      connected(this.#parts, host);
      const answer = await askHost(this.#parts, host, { volume, seqs: [] });
      if (!answer) throw hostSilent(host, settings);
      if (answer.replica) await this.#purge(host, volume);
      else if (!bases.hostsOf(volume).includes(host)) throw noReplica(name, host);
      const changes = bases.forgetAt(volume, host);
      if (changes.length > 0) await store.put(changes);
      log.info({ event: 'base-removed', volume, host }, 'what a host had of a volume for others is purged');
      return { volume: name, replicas: route.active.replicas };
    });
  }

  /**
   * A replica takes the place of its primary, which has been lost, under the next epoch. What was written after the replica's last complete
   * snapshot is lost; the old primary is sealed when it comes back, and kept.
   */
  async promote({ volume: name, host, acceptLoss }: Arguments<'cell-promote'>): Promise<PromoteResult> {
    const { book, locks, wake, log } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, async () => {
      const route = await book.route(volume);
      if (!route || route.status === 'gone') throw deleted(name);
      const { active } = route;
      if (!active.replicas.includes(host)) throw noReplica(name, host);
      const [x, y] = await this.#askAgain(route);
      if (owns(x.state)) throw primaryAnswers(route, active);
      if (owns(y.state)) throw primaryAnswers(route, route.alternate!);
      await requireReadmitted(this.#parts, host);
      const through = await this.#replicaThrough(route, host);
      // Nobody would own the volume, and its primary could never come back as what it was.
      if (through === null) throw replicaEmpty(name, host);
      const loss: Loss = {
        completeThrough: through,
        // One that is decided, and that its host has not been heard of, somebody was told of.
        snapshots:
          (route.lineageHead?.seq ?? 0) -
          through.seq +
          (this.#parts.unfinished.whyAwaited(volume, active.primary) ? 1 : 0),
      };
      if (!acceptLoss) throw lossNotAccepted(route, host, loss);
      const { storeId } = connected(this.#parts, host);
      const epoch = Math.max(highestEpoch({ route, x, y }), x.released ?? 0, y.released ?? 0) + 1;
      const promoted = promotedRoute(route, { host, storeId, epoch, through });
      const replaced = await book.replace(promoted);
      if (!replaced.stored) throw hostSilent(host, this.#parts.settings);
      const ended = await givenUp(this.#parts, volume);
      if (ended.length > 0) await this.#parts.store.put(ended);
      log.warn(
        { event: 'replica-promoted', volume, name, host, epoch, loss },
        'a replica takes the place of its primary',
      );
      wake(volume);
      return { volume: name, host, epoch, loss };
    });
  }

  /** A host that came back while it was asked by its session of before has not been heard: what it goes on writing would be lost. */
  async #askAgain(route: Route): Promise<[x: CellAnswer, y: CellAnswer]> {
    const [x, y] = await askBoth(this.#parts, route, []);
    const { hosts } = this.#parts;
    const isThere = (answer: CellAnswer, place: Place | null) =>
      answer.state === 'UNKNOWN' && place !== null && hosts.isConnected(place.primary);
    return isThere(x, route.active) || isThere(y, route.alternate) ? askBoth(this.#parts, route, []) : [x, y];
  }

  /** Null: it has no snapshot. */
  async #replicaThrough({ volume, name }: Route, host: string): Promise<Head | null> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) throw hostSilent(host, this.#parts.settings);
    if (!answer.replica) throw noReplica(name, host);
    return answer.replica.completeThrough;
  }

  async #changeReplicas(
    name: string,
    change: (route: Route) => string[],
  ): Promise<{ volume: string; replicas: string[] }> {
    const { book, locks } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, () => this.#storeReplicas(volume, name, change));
  }

  /** By whoever holds the volume. */
  async #storeReplicas(
    volume: string,
    name: string,
    change: (route: Route) => string[],
  ): Promise<{ volume: string; replicas: string[] }> {
    const { book, wake } = this.#parts;
    const route = await book.change(volume, (now) => ({
      ...now,
      active: { ...now.active, replicas: change(now) },
    }));
    wake(volume);
    return { volume: name, replicas: route?.active.replicas ?? [] };
  }

  async #summary(cell: string, volumes: number): Promise<CellSummary> {
    const hosts = (await allHosts(this.#parts)).filter((host) => host.cell === cell);
    return {
      cell,
      volumes,
      hosts: hosts.map(({ host, draining, regressed }) => ({
        host,
        connected: this.#parts.hosts.isConnected(host),
        draining,
        regressed,
      })),
    };
  }
}

function promotedRoute(
  route: Route,
  { host, storeId, epoch, through }: { host: string; storeId: string; epoch: number; through: Head | null },
): Route {
  const { active } = route;
  const before: Place = { ...active, replicas: [], mustSeal: epoch, needsRepair: true };
  return {
    ...route,
    status: 'open',
    epoch,
    lineageHead: through,
    active: {
      ...active,
      primary: host,
      storeId,
      epoch,
      replicas: active.replicas.filter((each) => each !== host),
      unheardPromotion: epoch,
    },
    alternate: before,
    // A move away from what was lost is given up; what it has copied shows as a stray of its host.
    journal: null,
  };
}

function noReplica(name: string, host: string): CellblockError {
  return new CellblockError('replica-not-found', `Host ${host} is no replica of volume ${name}.`, {
    hint: `Look at \`cellblock route show ${name}\`.`,
    facts: { volume: name, host },
  });
}

function beginningNeeded({ name }: Route, { host, needed }: BaseRecord): CellblockError {
  return new CellblockError(
    'volume-pinned',
    `What host ${host} has of volume ${name} is continued by ${needed.length === 1 ? 'a volume that is' : 'volumes that are'} on the move there.`,
    {
      hint: `See \`cellblock host show ${host}\` for which; it goes by itself when they are there.`,
      facts: { volume: name, host },
    },
  );
}

function replicaEmpty(name: string, host: string): CellblockError {
  return new CellblockError('replica-empty', `Host ${host} has no complete snapshot of volume ${name}.`, {
    hint: 'Promote another replica, or wait for the primary.',
    facts: { volume: name, host },
  });
}

function primaryAnswers({ name }: Route, { primary }: Place): CellblockError {
  return new CellblockError('primary-answers', `Host ${primary} owns volume ${name} and answers.`, {
    hint: `Empty it with \`cellblock host drain ${primary}\`: then nothing is lost.`,
    facts: { volume: name, host: primary },
  });
}

function lossNotAccepted(
  { name }: Route,
  host: string,
  { completeThrough, snapshots }: Loss,
): CellblockError {
  const since = completeThrough ? `snapshot ${completeThrough.seq}` : 'it was made';
  const taken = snapshots > 0 ? `, ${snapshots} ${snapshots === 1 ? 'snapshot' : 'snapshots'} among it` : '';
  return new CellblockError(
    'loss-not-accepted',
    `Everything written to volume ${name} since ${since} would be lost${taken}.`,
    {
      hint: `Wait for the primary, or accept that with \`cellblock cell promote ${name} --host ${host} --accept-loss\`.`,
      facts: { volume: name, host, completeThrough: completeThrough?.seq ?? 0, lostSnapshots: snapshots },
    },
  );
}
