// Moves as people ask for them: begun, looked at, turned back.

import { CellblockError } from '../base/errors.js';
import { beginMove } from '../model/cell/move-plan.js';
import { isBefore, type Route } from '../model/cell/route.js';
import type { SnapshotFacts, VolumeDescription } from '../protocol/exchange.js';
import type { Arguments } from '../protocol/verbs.js';
import { type Base, type BasePlan, BasePlanner } from './base-plan.js';
import type { Bases } from './bases.js';
import type { Copies } from './copies.js';
import { describeWhole } from './describing.js';
import { countPrimaries, existingCell, hostsForCopy, newPlace, noHostForCopy } from './hosts-view.js';
import type { Locks } from './locks.js';
import type { Mover } from './mover.js';
import type { Operations } from './operations.js';
import { type Ports, timeOf } from './ports.js';
import { deleted, hostSilent, quarantined } from './refusals.js';
import type { MovePreview, MoveStarted, MoveStatus } from './results.js';
import type { RouteBook } from './route-book.js';
import type { Change, HostRecord, MoveRecord } from './store.js';
import type { Troubles } from './troubles.js';

export type MoveVerbsParts = Ports & {
  book: RouteBook;
  locks: Locks;
  operations: Operations;
  mover: Mover;
  copies: Copies;
  bases: Bases;
  troubles: Troubles;
  wake: (volume: string) => void;
};

export interface StartOptions {
  dryRun: boolean;
  withBases: boolean;
  askedBy: string;
}

export class MoveVerbs {
  readonly #parts: MoveVerbsParts;

  constructor(parts: MoveVerbsParts) {
    this.#parts = parts;
  }

  async start(
    { volume, cell, withBases, dryRun }: Arguments<'move-start'>,
    askedBy: string,
  ): Promise<MoveStarted> {
    await existingCell(this.#parts, cell);
    const route = await this.#parts.book.named(volume);
    if (route.active.cell === cell && !route.journal)
      throw new CellblockError('option-invalid', `Volume ${volume} is in cell ${cell} already.`, {
        hint: 'Give another cell, or empty a host with `cellblock host drain HOST`.',
      });
    const counts = await countPrimaries(this.#parts.book);
    return this.startAt(route, { cell, counts }, { dryRun, withBases, askedBy });
  }

  /** To some host of the cell; `counts`: how many volumes each host has, which this one is added to. */
  async startAt(
    route: Route,
    { cell, counts }: { cell: string; counts: Map<string, number> },
    options: StartOptions,
  ): Promise<MoveStarted> {
    return this.#parts.locks.run(route.volume, async () => {
      const now = await this.#movable(route);
      const target = await this.#target(now, cell, counts);
      counts.set(target.host, (counts.get(target.host) ?? 0) + 1);
      const { preview, bases, missing } = await this.#preview(now, target);
      const plan =
        options.withBases && missing.length > 0 ? await this.#basePlan(now, target, missing) : NO_PLAN;
      if (plan.impossible.length > 0) throw basesNotCarried(preview, plan);
      const { carried, records } = plan;
      const shown: MovePreview =
        records.length === 0
          ? preview
          : { ...preview, carried, unshared: [], shared: preview.shared + preview.unshared.length };
      if (options.dryRun) return { ...shown, move: null };
      const needs = { askedBy: options.askedBy, bases, plan };
      return { ...shown, move: await this.#begin(now, target, needs) };
    });
  }

  async status({ volume }: Arguments<'move-status'>): Promise<MoveStatus> {
    const { book, store, copies, mover, settings, troubles } = this.#parts;
    const route = await book.named(volume);
    const { journal } = route;
    const record = await store.get('move', route.volume);
    if (!record) throw notMoving(volume);
    const isUnderWay = journal?.move === record.move;
    const kept = record.ended !== null && route.alternate && !route.alternate.needsRepair;
    return {
      volume,
      move: record.move,
      from: record.from,
      fromHost: record.fromHost,
      to: record.to,
      toHost: record.toHost,
      direction: isUnderWay ? journal.direction : 'forward',
      phase: isUnderWay ? journal.phase : null,
      begun: record.begun,
      ended: record.ended,
      result: record.result,
      copy: isUnderWay ? copies.state(route.volume, record.toHost) : null,
      deltas: isUnderWay ? (mover.round(route.volume)?.number ?? 0) : 0,
      keptUntil: kept ? new Date(Date.parse(record.ended!) + settings.graceMs).toISOString() : null,
      troubles: troubles.of(route.volume),
    };
  }

  /** Before the source is sealed it simply goes on; after that it is reopened, as long as it has not released the volume. */
  async cancel({ volume }: Arguments<'move-cancel'>): Promise<MoveStatus> {
    const { book } = this.#parts;
    const route = await book.named(volume);
    if (!route.journal) throw notMoving(volume);
    const { turned, because } = await this.turnBack(route);
    if (!turned)
      throw new CellblockError('move-too-late', `Volume ${volume} cannot be turned back: ${because}.`, {
        hint: `Let the move end, and move it back with \`cellblock move ${volume} --to ${route.journal.from}\`.`,
      });
    return this.status({ volume });
  }

  async turnBack({ volume }: Route): Promise<{ turned: boolean; because: string }> {
    const { book, locks, wake } = this.#parts;
    return locks.run(volume, async () => {
      const now = await book.change(volume, (route) =>
        route.journal?.direction === 'forward' && isBefore(route.journal, 'RELEASING')
          ? { ...route, journal: { ...route.journal, direction: 'rollback' } }
          : null,
      );
      wake(volume);
      if (!now?.journal) return { turned: false, because: 'it is not on the move' };
      if (now.journal.direction === 'rollback')
        return { turned: true, because: `it was at ${now.journal.phase}` };
      return { turned: false, because: `its source has released it (${now.journal.phase})` };
    });
  }

  /** As it is now, if nothing speaks against moving it. */
  async #movable({ volume, name }: Route): Promise<Route> {
    const route = await this.#parts.book.route(volume);
    if (!route || route.status === 'gone') throw deleted(name);
    if (route.status === 'quarantined') throw quarantined(name, 'an operator has to decide');
    if (route.journal) throw underWay(route);
    if (route.alternate?.mustSeal != null || route.alternate?.needsRepair)
      throw new CellblockError(
        'move-under-way',
        `Volume ${name} has a copy at ${route.alternate.primary} that is not settled.`,
        {
          hint: `Look at \`cellblock route show ${name} --explain\`.`,
        },
      );
    return route;
  }

  /** Back where it came from, if a copy is kept there: then only what has changed since is sent. */
  async #target(route: Route, cell: string, counts: ReadonlyMap<string, number>): Promise<HostRecord> {
    const { alternate } = route;
    const fitting = await hostsForCopy(this.#parts, cell, counts, [
      route.active.primary,
      ...route.active.replicas,
    ]);
    const before = fitting.find(
      ({ host, storeId }) => host === alternate?.primary && storeId === alternate.storeId,
    );
    if (before) return before;
    if (alternate && fitting.length > 0) {
      throw new CellblockError(
        'move-under-way',
        `Volume ${route.name} still has a copy at ${alternate.primary}, from its last move.`,
        {
          hint: `Wait until its time of grace is over (\`cellblock move status ${route.name}\`), or move it back there.`,
        },
      );
    }
    const target = fitting[0];
    if (!target) throw noHostForCopy(cell, route);
    return target;
  }

  async #begin(
    route: Route,
    target: HostRecord,
    { askedBy, bases, plan }: { askedBy: string; bases: string[]; plan: BasePlan },
  ): Promise<string> {
    const { book, store, freshId, clock, wake } = this.#parts;
    const carried = plan.records.map(({ volume }) => volume);
    const move = freshId();
    const record: MoveRecord = {
      volume: route.volume,
      move,
      from: route.active.cell,
      fromHost: route.active.primary,
      to: target.cell,
      toHost: target.host,
      askedBy,
      begun: timeOf(clock),
      ended: null,
      result: null,
      bases: [...new Set([...bases, ...carried])],
    };
    const needed = [{ volume: route.volume, move }];
    // First what is only for people, pins and bases, then what makes it a move.
    await store.put([
      { kind: 'move', key: route.volume, value: record },
      ...this.#parts.bases.begin(plan.records.map((base) => ({ ...base, needed }))),
    ]);
    const to = route.alternate?.primary === target.host ? route.alternate : newPlace(target);
    const { stored, route: now } = await book.replace(beginMove(route, { move, to }));
    // Also of a move that has not begun: what was to be brought for it is given back.
    for (const volume of carried) wake(volume);
    if (!stored) throw now ? underWay(now) : deleted(route.name);
    wake(route.volume);
    return move;
  }

  #basePlan({ active }: Route, to: HostRecord, missing: readonly Base[]): Promise<BasePlan> {
    const from = { host: active.primary, cell: active.cell };
    return new BasePlanner(this.#parts, { from, to }).plan(missing);
  }

  async #preview(
    route: Route,
    target: HostRecord,
  ): Promise<{ preview: MovePreview; bases: string[]; missing: Base[] }> {
    const there = await describeWhole(this.#parts, route.active.primary, route.volume);
    if (!there) throw hostSilent(route.active.primary, this.#parts.settings);
    const has = await this.#idsAt(target.host, route.volume);
    const sent = there.snapshots.filter(({ id }) => !has.has(id));
    const sharing = await this.#sharing(target.host, ofOthers(route, [...sent, ...currentOf(there)]));
    const { shared, unshared, bases, missing } = sharing;
    const preview: MovePreview = {
      volume: route.name,
      from: route.active.cell,
      fromHost: route.active.primary,
      to: target.cell,
      toHost: target.host,
      sizeBytes: there.sizeBytes,
      snapshots: sent.length,
      present: there.snapshots.length - sent.length,
      shared,
      unshared,
      carried: [],
    };
    return { preview, bases, missing };
  }

  /** Which of the snapshots go on sharing with others at the destination. */
  async #sharing(
    host: string,
    ofOthers: readonly Sharing[],
  ): Promise<{ shared: number; unshared: MovePreview['unshared']; bases: string[]; missing: Base[] }> {
    const volumes = [...new Set(ofOthers.map(({ base }) => base.volume))];
    const there = new Map(
      await Promise.all(
        volumes.map(
          async (volume): Promise<[string, Set<string>]> => [volume, await this.#idsAt(host, volume)],
        ),
      ),
    );
    const unshared: MovePreview['unshared'] = [];
    const bases = new Set<string>();
    const missing: Base[] = [];
    for (const { name, base, sizeBytes } of ofOthers) {
      if (there.get(base.volume)!.has(base.snapshot)) bases.add(base.volume);
      else {
        unshared.push({ snapshot: name, base: base.volume, sizeBytes });
        missing.push(base);
      }
    }
    return { shared: ofOthers.length - unshared.length, unshared, bases: [...bases], missing };
  }

  async #idsAt(host: string, volume: string): Promise<Set<string>> {
    const described = await describeWhole(this.#parts, host, volume).catch(() => null);
    return new Set(described?.snapshots.map(({ id }) => id));
  }
}

/** The volume whose move needs this one: its copy continues snapshots of it. Null: none does. */
export async function pinnedBy(store: Ports['store'], volume: string): Promise<string | null> {
  for (const { volume: by, move, bases } of await store.list('move')) {
    if (!bases.includes(volume)) continue;
    // The journal says whether it is under way; the record may not have heard of its end.
    const route = await store.route(by);
    if (route?.journal?.move === move) return by;
  }
  return null;
}

/** What has to be stored when an operator's word ends a move. */
export async function givenUp(
  { store, clock }: Pick<Ports, 'store' | 'clock'>,
  volume: string,
): Promise<Change[]> {
  const record = await store.get('move', volume);
  if (!record || record.ended !== null) return [];
  return [{ kind: 'move', key: volume, value: { ...record, ended: timeOf(clock), result: 'given-up' } }];
}

function underWay({ name, journal }: Route): CellblockError {
  return new CellblockError(
    'move-under-way',
    `Volume ${name} is on the move to cell ${journal?.to ?? '?'}.`,
    {
      hint: `Look at \`cellblock move status ${name}\`.`,
      facts: { volume: name },
    },
  );
}

function notMoving(name: string): CellblockError {
  return new CellblockError('move-not-found', `Volume ${name} is not on the move.`, {
    hint: 'Run `cellblock route list`.',
    facts: { volume: name },
  });
}

function basesNotCarried({ volume, unshared }: MovePreview, { impossible }: BasePlan): CellblockError {
  return new CellblockError(
    'move-bases-not-carried',
    `What ${unshared.length} snapshots of volume ${volume} continue cannot be brought along: ${impossible[0]!.because}.`,
    {
      hint: 'Leave `--with-bases` away: the volume moves without sharing, as `--dry-run` shows.',
      facts: { volume, unshared: unshared.length },
    },
  );
}

const NO_PLAN: BasePlan = { records: [], carried: [], impossible: [] };

/** A snapshot that continues one of another volume. */
interface Sharing {
  name: string;
  base: Base;
  sizeBytes: string;
}

function ofOthers(
  { volume }: Route,
  snapshots: readonly Pick<SnapshotFacts, 'name' | 'base' | 'sizeBytes'>[],
): Sharing[] {
  return snapshots.flatMap(({ name, base, sizeBytes }) =>
    base !== null && base.volume !== volume ? [{ name, base, sizeBytes }] : [],
  );
}

/** What is written now, as one more snapshot: a clone may have none yet that says what it continues. */
function currentOf({
  base,
  sizeBytes,
}: VolumeDescription): Pick<SnapshotFacts, 'name' | 'base' | 'sizeBytes'>[] {
  return [{ name: '(as it is now)', base, sizeBytes }];
}
