// What an operator decides of volumes that the rules do not decide: which cell goes on, and what becomes of the other one's fork.
//
// Invariant: the route says which cell goes on, under an epoch nobody has, before any host hears of it.

import { createHash } from 'node:crypto';
import { CellblockError } from '../base/errors.js';
import { type CellAnswer, type HostAnswer, hasNothing } from '../model/cell/answer.js';
import { highestEpoch } from '../model/cell/guards.js';
import type { Place, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import type { Arguments } from '../protocol/verbs.js';
import { askBoth, askHost, orderHost } from './asking.js';
import { heldElsewhere, ownersElsewhere, requireTrueOwner } from './elsewhere.js';
import { isForOperator } from './faulted.js';
import type { Highest } from './highest.js';
import { newPlace, newRoute, requireReadmitted } from './hosts-view.js';
import type { Locks } from './locks.js';
import { givenUp as movesEnd } from './move-verbs.js';
import type { Operations } from './operations.js';
import type { Ports } from './ports.js';
import { hostSilent } from './refusals.js';
import type { AdoptResult, ClaimResult, Quarantined } from './results.js';
import type { RouteBook } from './route-book.js';
import type { UnfinishedGroups } from './unfinished-groups.js';

export type QuarantineVerbsParts = Ports & {
  book: RouteBook;
  unfinished: UnfinishedGroups;
  locks: Locks;
  operations: Operations;
  highest: Highest;
  wake: (volume: string) => void;
};

export class QuarantineVerbs {
  readonly #parts: QuarantineVerbsParts;

  constructor(parts: QuarantineVerbsParts) {
    this.#parts = parts;
  }

  async list(): Promise<{ volumes: Quarantined[] }> {
    const { store, book } = this.#parts;
    const volumes: Quarantined[] = [];
    for (const evidence of await store.list('evidence')) {
      const route = await book.route(evidence.volume);
      if (route?.status === 'quarantined')
        volumes.push({
          ...evidence,
          name: route.name,
          elsewhere: await heldElsewhere(this.#parts, route),
        });
    }
    return { volumes };
  }

  async adopt({ volume: name, cell, host }: Arguments<'quarantine-adopt'>): Promise<AdoptResult> {
    const { book, locks } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, async () => {
      const route = await this.#undecided(volume, name, cell);
      const isThis = (one: { cell: string; host: string }) =>
        one.cell === cell && (host === undefined || one.host === host);
      const { active } = route;
      const others =
        isDecided(route) && isThis({ cell: active.cell, host: active.primary })
          ? []
          : await ownersElsewhere(this.#parts, route);
      const owner = others.find(isThis);
      if (owner) return this.#takeIn(route, owner, others);
      if (route.status === 'lost' || !placeOf(route, cell)) throw noCell(route, cell, others);
      // Nobody would tell that one that it is the owner no more.
      if (others[0]) throw ownedElsewhere(route, others[0]);
      return this.#adopt(route, cell, host);
    });
  }

  /** Of what came from a backup nothing may have been asked yet: it is. What the table waits for in vain is for an operator too. */
  async #undecided(volume: string, name: string, cell: string): Promise<Route> {
    const { book, operations } = this.#parts;
    let route = await book.route(volume);
    if (route?.status === 'open') {
      await operations.runHeld(volume, { kind: 'settle' }, 'coordinator').catch(() => undefined);
      route = await book.route(volume);
    }
    if (route?.status === 'open' && isForOperator(route, cell, await askBoth(this.#parts, route, [])))
      return route;
    if (route?.status !== 'quarantined' && route?.status !== 'lost') throw notQuarantined(name);
    return route;
  }

  /** The route did not know the owner: it gets a place in it, and the table says what follows; an operator's word, where that cannot say it. */
  async #takeIn(route: Route, owner: HostAnswer, others: readonly HostAnswer[]): Promise<AdoptResult> {
    const { book, store, operations, wake, log } = this.#parts;
    const { volume, alternate } = route;
    const [x, y] = await askBoth(this.#parts, route, []);
    // Their last snapshots may lie far back in its lineage.
    const seqs = [route.lineageHead, x.lineageHead, y.lineageHead].flatMap((head) =>
      head ? [head.seq] : [],
    );
    const asked = await askHost(this.#parts, owner.host, { volume, seqs });
    if (!asked) throw hostSilent(owner.host, this.#parts.settings);
    requireTrueOwner({ route, x, y }, { ...owner, lineage: asked.lineage }, others);
    // What the route would not name any more must not be able to go on.
    if (
      alternate &&
      (owns(y.state) || y.state === 'UNKNOWN' || (y.state === 'SEALED' && y.released === null))
    )
      throw stillNamed(route, alternate);
    const { host, cell, storeId, epoch, lineageHead } = owner;
    const named = await book.replace({
      ...route,
      status: 'open',
      alternate: { ...newPlace({ host, cell, storeId }), epoch },
      lineageHead,
      journal: null,
    });
    if (!named.stored) throw changedMeanwhile(route.name);
    await operations.runHeld(volume, { kind: 'settle' }, 'coordinator').catch(() => undefined);
    const now = await book.route(volume);
    if (now?.active.primary !== host) return this.#adopt(now ?? named.route, cell);
    await store.put([
      { kind: 'evidence', key: volume, value: null },
      ...(await movesEnd(this.#parts, volume)),
    ]);
    log.warn(
      { event: 'owner-taken-in', volume, host, epoch, before: route.active.primary },
      'an operator has named the host that owns a volume, of which its route knew nothing',
    );
    wake(volume);
    return { volume: now.name, cell, host, epoch: now.active.epoch, left: null };
  }

  async #adopt(route: Route, cell: string, host?: string): Promise<AdoptResult> {
    const { store, book, unfinished, highest, wake, log } = this.#parts;
    const answers = await askBoth(this.#parts, route, []);
    const chosen = chosenOf(route, { cell, host, x: answers[0] });
    // Nothing is decided for one that may never hear of it, where another part of the cell could go on.
    if (!this.#parts.hosts.isConnected(chosen.primary)) throw chosenSilent(route, chosen, this.#parts);
    // Its host would refuse, and the route would have been decided for nothing.
    if (hasNothing(answers[chosen === route.active ? 0 : 1])) throw nothingThere(route, chosen);
    await requireReadmitted(this.#parts, chosen.primary);
    // What is provisional there goes with the word, and may be decided.
    const awaited = unfinished.whyAwaited(route.volume, chosen.primary);
    if (awaited) throw awaited;
    const isDecidedSo = chosen === route.active && isDecided(route);
    const decided = isDecidedSo ? route : await this.#decide(route, chosen, answers);
    const { volume, active, alternate } = decided;
    await orderHost(this.#parts, active.primary, { volume, command: { do: 'adopt', epoch: active.epoch } });
    const answer = await askHost(this.#parts, active.primary, { volume, seqs: [] });
    if (!answer) throw hostSilent(active.primary, this.#parts.settings);
    await book.change(volume, (now) => ({
      ...now,
      status: 'open',
      lineageHead: answer.lineageHead,
      active: { ...now.active, needsRepair: false },
    }));
    await store.put([
      { kind: 'evidence', key: volume, value: null },
      ...highest.raise(active.primary, [
        { id: volume, epoch: active.epoch, head: answer.lineageHead, state: 'ACTIVE' },
      ]),
      ...(await movesEnd(this.#parts, volume)),
    ]);
    log.warn(
      { event: 'volume-adopted', volume, host: active.primary, epoch: active.epoch },
      'an operator has decided which cell goes on with a volume',
    );
    wake(volume);
    return {
      volume: decided.name,
      cell,
      host: active.primary,
      epoch: active.epoch,
      left: alternate?.primary ?? null,
    };
  }

  /** Stored before the host is told: it stays in quarantine until that one has taken it. */
  async #decide(route: Route, chosen: Place, [x, y]: readonly [CellAnswer, CellAnswer]): Promise<Route> {
    const { active, alternate } = route;
    const epoch = Math.max(highestEpoch({ route, x, y }), x.released ?? 0, y.released ?? 0) + 1;
    const other: Place | null = chosen === active ? alternate : active;
    const decided: Route = {
      ...route,
      status: 'quarantined',
      epoch,
      active: { ...chosen, epoch, mustSeal: null, needsRepair: true },
      // What it has is no part of the lineage any more: it is sealed when it answers, and kept.
      alternate: other && { ...other, mustSeal: epoch, needsRepair: true },
      journal: null,
    };
    const replaced = await this.#parts.book.replace(decided);
    if (!replaced.stored) throw changedMeanwhile(route.name);
    return replaced.route;
  }

  /** What an adopted volume has left in the other cell becomes a volume of its own. */
  async keepFork({ volume: name, as }: Arguments<'quarantine-keep-fork'>): Promise<ClaimResult> {
    const { book, locks } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, async () => {
      const fork = givenUp(await book.route(volume), name);
      if (fork.mustSeal !== null) throw hostSilent(fork.primary, this.#parts.settings);
      const kept = await this.#forkRoute(fork, as, forkId({ volume, epoch: fork.epoch, name: as }));
      await orderHost(this.#parts, fork.primary, {
        volume,
        command: { do: 'keep-fork', volume: kept.volume, name: as },
      });
      const answer = await askHost(this.#parts, fork.primary, { volume: kept.volume, seqs: [] });
      // It was done; the same again goes on from here.
      if (!answer) throw hostSilent(fork.primary, this.#parts.settings);
      await book.change(kept.volume, (now) => ({ ...now, lineageHead: answer.lineageHead }));
      await this.#drop(volume, fork);
      const { primary: host, cell } = fork;
      const { state, lineageHead } = answer;
      return { volume: kept.volume, name: as, host, cell, state, snapshots: lineageHead?.seq ?? 0 };
    });
  }

  /** What an operator has given up of a volume is thrown away, with what only it has. */
  async discard({
    volume: name,
  }: Arguments<'quarantine-discard'>): Promise<{ volume: string; host: string }> {
    const { book, locks } = this.#parts;
    const { volume } = await book.named(name);
    return locks.run(volume, async () => {
      const fork = givenUp(await book.route(volume), name);
      if (fork.mustSeal !== null) throw hostSilent(fork.primary, this.#parts.settings);
      await this.#purge(fork.primary, volume);
      await this.#drop(volume, fork);
      return { volume: name, host: fork.primary };
    });
  }

  async #purge(host: string, volume: string): Promise<void> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) throw hostSilent(host, this.#parts.settings);
    if (answer.state !== 'NONE') await orderHost(this.#parts, host, { volume, command: { do: 'purge' } });
  }

  /** With what its replicas have, which would be nobody's. */
  async #drop(volume: string, fork: Place): Promise<void> {
    for (const host of fork.replicas) await this.#purge(host, volume);
    await this.#parts.book.change(volume, (now) =>
      now.alternate?.primary === fork.primary ? { ...now, alternate: null } : null,
    );
  }

  /** Stored before the host is told; after a crash the same again finds it by its id. */
  async #forkRoute(fork: Place, name: string, volume: string): Promise<Route> {
    const { store } = this.#parts;
    const { primary: host, cell, storeId } = fork;
    const fresh = newRoute({ volume, name }, { host, cell, storeId });
    const existing = await store.routeNamed(name);
    if (existing?.volume === volume) return existing;
    if (existing || (await store.createRoute(fresh)) === 'exists')
      throw new CellblockError('route-exists', `A volume ${name} has a route already.`, {
        hint: 'Choose another name for the fork.',
      });
    return fresh;
  }
}

/** The same whenever it is asked again. */
function forkId({ volume, epoch, name }: { volume: string; epoch: number; name: string }): string {
  return createHash('sha256').update(`fork ${volume} ${epoch} ${name}`).digest('hex').slice(0, 32);
}

/** It was decided so before, and the host may not have heard. */
function isDecided({ active, alternate }: Route): boolean {
  return active.needsRepair && alternate?.mustSeal !== null;
}

/** Of two parts in one cell the one an operator names; else the active one, unless that says itself that it has nothing to go on with. `x`: its answer. */
function chosenOf(
  route: Route,
  { cell, host, x }: { cell: string; host: string | undefined; x: CellAnswer },
): Place {
  const { active, alternate } = route;
  const found = [active, alternate].filter((place): place is Place => place?.cell === cell);
  if (found.length === 0) throw noCell(route, cell, []);
  if (host !== undefined) {
    const named = found.find(({ primary }) => primary === host);
    if (named) return named;
    throw noPart(route, { cell, host, hosts: found.map(({ primary }) => primary) });
  }
  return found.length > 1 && hasNothing(x) ? found[1]! : found[0]!;
}

/** The part of a volume that an operator has decided against. */
function givenUp(route: Route | null, name: string): Place {
  if (route?.status === 'quarantined')
    throw new CellblockError(
      'volume-quarantined',
      `Nobody has decided yet which cell goes on with volume ${name}.`,
      {
        hint: `Decide with \`cellblock quarantine adopt ${name} --cell CELL\`; the other one is the fork.`,
      },
    );
  if (!route?.alternate?.needsRepair) throw notQuarantined(name);
  return route.alternate;
}

function placeOf({ active, alternate }: Route, cell: string): Place | null {
  return [active, alternate].find((place) => place?.cell === cell) ?? null;
}

function noCell(
  { name, active, alternate, status }: Route,
  cell: string,
  others: readonly HostAnswer[],
): CellblockError {
  const named = status === 'lost' ? [] : [active.cell, ...(alternate ? [alternate.cell] : [])];
  const cells = [...new Set([...named, ...others.map((owner) => owner.cell)])];
  return new CellblockError('cell-not-found', `Cell ${cell} has no part of volume ${name}.`, {
    hint:
      cells.length === 0
        ? 'No host that is connected owns it: bring the one back that has it.'
        : `These have: ${cells.join(', ')}.`,
    facts: { volume: name, cell },
  });
}

function noPart(
  { name }: Route,
  { cell, host, hosts }: { cell: string; host: string; hosts: readonly string[] },
): CellblockError {
  return new CellblockError(
    'replica-not-found',
    `Host ${host} has no part of volume ${name} to go on with.`,
    {
      hint: `In cell ${cell} these have: ${hosts.join(', ')}.`,
      facts: { volume: name, host },
    },
  );
}

/** The other part may be older: that it goes on instead has to be said. */
function chosenSilent(
  { name, active, alternate }: Route,
  { primary, cell }: Place,
  { settings }: Pick<Ports, 'settings'>,
): CellblockError {
  const other = [active, alternate].find((place) => place?.cell === cell && place.primary !== primary);
  const silent = hostSilent(primary, settings);
  if (!other) return silent;
  return new CellblockError('host-not-connected', silent.message, {
    hint: `Bring it back, or go on with what host ${other.primary} has, which may be older: \`cellblock quarantine adopt ${name} --cell ${cell} --host ${other.primary}\`.`,
    facts: { volume: name, host: primary },
  });
}

function nothingThere({ name }: Route, { primary, cell }: Place): CellblockError {
  return new CellblockError(
    'replica-empty',
    `Host ${primary} of cell ${cell} has no complete snapshot of volume ${name}.`,
    {
      hint: `Adopt the part of another cell, or bring back a host that has it; if nobody has, \`cellblock route forget ${name}\` drops the route.`,
      facts: { volume: name, host: primary },
    },
  );
}

function ownedElsewhere({ name }: Route, { host, cell, epoch }: HostAnswer): CellblockError {
  return new CellblockError(
    'owned-elsewhere',
    `Host ${host} of cell ${cell} owns volume ${name} under epoch ${epoch}, and its route does not know it: there would be two owners.`,
    {
      hint: `Go on with that one: \`cellblock quarantine adopt ${name} --cell ${cell}\`.`,
      facts: { volume: name, host, cell },
    },
  );
}

function stillNamed({ name }: Route, { primary, cell }: Place): CellblockError {
  return new CellblockError(
    'volume-unavailable',
    `The route of volume ${name} names host ${primary} of cell ${cell} too, which may be its owner or does not answer.`,
    { hint: 'Look whether its agent runs and reaches the coordinator, then try again.' },
  );
}

function notQuarantined(name: string): CellblockError {
  return new CellblockError('volume-not-quarantined', `Nothing of volume ${name} waits for an operator.`, {
    hint: 'Run `cellblock quarantine list`.',
    facts: { volume: name },
  });
}

function changedMeanwhile(name: string): CellblockError {
  return new CellblockError('volume-unavailable', `The route of volume ${name} was changed meanwhile.`, {
    hint: 'Look at it again, then try again.',
  });
}
