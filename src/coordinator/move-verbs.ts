// Moves as people ask for them: begun, looked at, turned back.

import { CellblockError } from '../base/errors.js';
import { beginMove } from '../model/cell/move-plan.js';
import { isBefore, type Route } from '../model/cell/route.js';
import type { VolumeDescription } from '../protocol/exchange.js';
import type { Arguments } from '../protocol/verbs.js';
import { type Base, type BasePlan, BasePlanner, emptyPlan } from './base-plan.js';
import type { Bases } from './bases.js';
import { Coming } from './coming.js';
import type { Copies } from './copies.js';
import { describeWhole } from './describing.js';
import { troublesOf } from './faulted.js';
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

/** What becomes of snapshots that continue one of another volume which is not at the destination, nor on its way there. */
export type BasePolicy =
  /** The move is not begun. */
  | 'refuse'
  /** What they continue is brought along. */
  | 'carry'
  /** They arrive whole. */
  | 'unshare';

export interface StartOptions {
  dryRun: boolean;
  bases: BasePolicy;
  askedBy: string;
}

/** What moves that are begun by one call have in common. */
export interface Together {
  /** How many volumes each host has; those that are begun are added. */
  counts: Map<string, number>;
  coming: Coming;
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
    return this.startAt(route, cell, await this.together(), {
      dryRun,
      bases: withBases ? 'carry' : 'unshare',
      askedBy,
    });
  }

  async together(): Promise<Together> {
    return { counts: await countPrimaries(this.#parts.book), coming: new Coming(this.#parts) };
  }

  /** To some host of the cell. */
  async startAt(
    route: Route,
    cell: string,
    { counts, coming }: Together,
    { dryRun, bases, askedBy }: StartOptions,
  ): Promise<MoveStarted> {
    return this.#parts.locks.run(route.volume, async () => {
      const now = await this.#movable(route);
      const there = await this.#described(now);
      const target = await this.#target(now, cell, { counts, sharing: sharingOf(now, there), coming });
      counts.set(target.host, (counts.get(target.host) ?? 0) + 1);
      const planned = await this.#plan(now, target, { there, coming, bases });
      const { preview, plan } = planned;
      if (!dryRun) return { ...preview, move: await this.#begin(now, target, { askedBy, ...planned }) };
      const from = { host: now.active.primary, cell: now.active.cell };
      coming.wouldBegin(now.volume, { from, toHost: target.host, records: plan.records });
      return { ...preview, move: null };
    });
  }

  /** Volumes that its snapshots continue, of those that the host of its primary has. */
  async continued(route: Route): Promise<string[]> {
    const there = await describeWhole(this.#parts, route.active.primary, route.volume).catch(() => null);
    return there ? [...new Set(sharingOf(route, there).map(({ base }) => base.volume))] : [];
  }

  async status({ volume }: Arguments<'move-status'>): Promise<MoveStatus> {
    const { book, store, copies, mover, settings } = this.#parts;
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
      troubles: await troublesOf(this.#parts, route),
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

  async #described({ volume, active }: Route): Promise<VolumeDescription> {
    const described = await describeWhole(this.#parts, active.primary, volume);
    if (!described) throw hostSilent(active.primary, this.#parts.settings);
    return described;
  }

  /**
   * Back where it came from, if a copy is kept there: then only what has changed since is sent. Else where most of what it continues is, or comes:
   * volumes that share data stay together.
   */
  async #target(
    route: Route,
    cell: string,
    { counts, coming, sharing }: Together & { sharing: readonly Sharing[] },
  ): Promise<HostRecord> {
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
          hint: `Wait until its time of grace is over (\`cellblock move status ${route.name}\`), or move it back there. If host ${alternate.primary} never comes back: \`cellblock host forget ${alternate.primary}\`.`,
        },
      );
    }
    const lacks = await Promise.all(fitting.map(({ host }) => this.#lacks(host, sharing, coming)));
    // Of as many, the one with the fewest volumes: they are in that order.
    const target = fitting[lacks.indexOf(Math.min(...lacks))];
    if (!target) throw noHostForCopy(cell, route);
    return target;
  }

  /** How many snapshots continue what is not at the host, and not on its way there. */
  async #lacks(host: string, sharing: readonly Sharing[], coming: Coming): Promise<number> {
    const missing = await this.#missing(host, sharing);
    let lacks = 0;
    for (const { base } of missing) {
      const comes =
        (await coming.withItsVolume(base.volume, host)) !== null ||
        coming.broughtThrough(base.volume, host).length > 0;
      if (!comes) lacks += 1;
    }
    return lacks;
  }

  async #missing(host: string, sharing: readonly Sharing[]): Promise<Sharing[]> {
    const volumes = [...new Set(sharing.map(({ base }) => base.volume))];
    const ids = await Promise.all(volumes.map((volume) => this.#idsAt(host, volume)));
    const there = new Map(volumes.map((volume, at) => [volume, ids[at]!]));
    return sharing.filter(({ base }) => !there.get(base.volume)!.has(base.snapshot));
  }

  async #begin(
    route: Route,
    target: HostRecord,
    { askedBy, present, plan }: { askedBy: string; present: string[]; plan: BasePlan },
  ): Promise<string> {
    const { book, store, bases, freshId, clock, wake } = this.#parts;
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
      bases: [...new Set([...present, ...plan.present, ...carried])],
    };
    const needed = [{ volume: route.volume, move }];
    const to = route.alternate?.primary === target.host ? route.alternate : newPlace(target);
    try {
      // First what is only for people, pins and bases, then what makes it a move.
      await store.put([
        { kind: 'move', key: route.volume, value: record },
        ...bases.begin(
          move,
          plan.records.map((base) => ({ ...base, needed })),
        ),
      ]);
      const { stored, route: now } = await book.replace(beginMove(route, { move, to }));
      if (!stored) throw now ? underWay(now) : deleted(route.name);
    } finally {
      bases.begun(move);
      // Also of a move that has not begun: what was to be brought for it is given back.
      for (const volume of carried) wake(volume);
    }
    wake(route.volume);
    return move;
  }

  /** What is to be sent, and which of the snapshots go on sharing with others at the destination. `move-bases-missing`, `move-bases-not-carried`. */
  async #plan(
    route: Route,
    target: HostRecord,
    { there, coming, bases }: { there: VolumeDescription; coming: Coming; bases: BasePolicy },
  ): Promise<{ preview: MovePreview; present: string[]; plan: BasePlan }> {
    const has = await this.#idsAt(target.host, route.volume);
    const sent = there.snapshots.filter(({ id }) => !has.has(id));
    const sharing = sharingOf(route, { ...there, snapshots: sent });
    const missing = await this.#missing(target.host, sharing);
    const from = { host: route.active.primary, cell: route.active.cell };
    const of = { volume: route.volume, from, to: target, coming, carry: bases !== 'unshare' };
    const plan =
      missing.length === 0
        ? emptyPlan()
        : await new BasePlanner(this.#parts, of).plan(missing.map(({ base }) => base));
    const unshared = missing.filter(({ base }) => !plan.brought.has(base.snapshot));
    if (bases === 'refuse') await this.#requireComing(route, target, { missing, plan });
    if (bases === 'carry' && plan.impossible.length > 0) throw basesNotCarried(route, plan);
    const preview: MovePreview = {
      volume: route.name,
      from: route.active.cell,
      fromHost: route.active.primary,
      to: target.cell,
      toHost: target.host,
      sizeBytes: there.sizeBytes,
      snapshots: sent.length,
      present: there.snapshots.length - sent.length,
      shared: sharing.length - unshared.length,
      unshared: unshared.map(({ name, base, sizeBytes }) => ({
        snapshot: name,
        base: base.volume,
        sizeBytes,
      })),
      carried: plan.carried,
      awaited: plan.awaited,
    };
    const present = sharing.filter((one) => !missing.includes(one)).map(({ base }) => base.volume);
    return { preview, present, plan };
  }

  /** Nothing more has to be brought along than what is on its way by itself. `move-bases-missing`. */
  async #requireComing(
    route: Route,
    { host }: HostRecord,
    { missing, plan }: { missing: readonly Sharing[]; plan: BasePlan },
  ): Promise<void> {
    if (plan.carried.length === 0 && plan.impossible.length === 0) return;
    const ids = [...new Set(missing.map(({ base }) => base.volume))];
    const routes = await Promise.all(ids.map((id) => this.#parts.book.route(id)));
    const names = ids.map((id, at) => routes[at]?.name ?? id);
    throw basesMissing(route, host, { names, because: plan.impossible[0]?.because ?? null });
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

function basesNotCarried({ name }: Route, { impossible }: BasePlan): CellblockError {
  return new CellblockError(
    'move-bases-not-carried',
    `What ${impossible.length} snapshots of volume ${name} continue cannot be brought along: ${impossible[0]!.because}.`,
    {
      hint: 'Let it move without sharing, as `--dry-run` shows: leave `--with-bases` away, or give `--unshare` to a split or a drain.',
      facts: { volume: name, unshared: impossible.length },
    },
  );
}

/** `because`: why it cannot be brought along; null: it can. */
function basesMissing(
  { name }: Route,
  host: string,
  { names, because }: { names: readonly string[]; because: string | null },
): CellblockError {
  const bases = `snapshots of ${names.length === 1 ? 'volume' : 'volumes'} ${names.join(', ')}`;
  return new CellblockError(
    'move-bases-missing',
    `Volume ${name} continues ${bases}, which host ${host} does not have${because === null ? '' : `, and which cannot be brought along: ${because}`}.`,
    {
      hint:
        because === null
          ? 'Bring them along with `--with-bases`, or let it arrive without sharing with `--unshare`.'
          : 'Let it arrive without sharing with `--unshare`.',
      facts: { volume: name, host },
    },
  );
}

/** A snapshot that continues one of another volume. */
interface Sharing {
  name: string;
  base: Base;
  sizeBytes: string;
}

/** Of the snapshots, and of what is written now as one more: a clone may have none yet that says what it continues. */
function sharingOf(
  { volume }: Route,
  { snapshots, base, sizeBytes }: Pick<VolumeDescription, 'snapshots' | 'base' | 'sizeBytes'>,
): Sharing[] {
  return [...snapshots, { name: '(as it is now)', base, sizeBytes }].flatMap((one) =>
    one.base !== null && one.base.volume !== volume
      ? [{ name: one.name, base: one.base, sizeBytes: one.sizeBytes }]
      : [],
  );
}
