// Routes as people look at them: which there are, what is known of one and why it was decided so; and how a volume loses one.

import { CellblockError } from '../base/errors.js';
import { hasNothing } from '../model/cell/answer.js';
import { decide } from '../model/cell/decide.js';
import type { Route } from '../model/cell/route.js';
import type { Arguments } from '../protocol/verbs.js';
import { askBoth } from './asking.js';
import type { Bases } from './bases.js';
import { type DecisionBook, stepText } from './decisions.js';
import { heldElsewhere } from './elsewhere.js';
import type { EvidenceBook } from './evidence.js';
import { isLost, troublesOf } from './faulted.js';
import type { Locks } from './locks.js';
import type { Operations } from './operations.js';
import type { Ports } from './ports.js';
import type { Replication } from './replication.js';
import type { Explained, RouteDetails, RouteList, RouteSummary } from './results.js';
import type { RouteBook } from './route-book.js';
import type { SnapshotDeletions } from './snapshot-deletions.js';
import type { Troubles } from './troubles.js';

export type RouteVerbsParts = Ports & {
  book: RouteBook;
  locks: Locks;
  operations: Operations;
  decisions: DecisionBook;
  evidence: EvidenceBook;
  replication: Replication;
  troubles: Troubles;
  snapshotDeletions: SnapshotDeletions;
  bases: Bases;
};

const PAGE = 500;

export class RouteVerbs {
  readonly #parts: RouteVerbsParts;

  constructor(parts: RouteVerbsParts) {
    this.#parts = parts;
  }

  async list({ after }: Arguments<'route-list'>): Promise<RouteList> {
    const routes = await this.#parts.store.routes(after, PAGE);
    return { routes: routes.map(summaryOf), next: routes.length < PAGE ? null : routes.at(-1)!.name };
  }

  async show({ volume, explain }: Arguments<'route-show'>): Promise<RouteDetails> {
    const { book, operations, replication } = this.#parts;
    const route = await book.named(volume);
    const through = replication.of(route.volume);
    return {
      route,
      completeThrough: replication.completeThrough(route),
      replicas: route.active.replicas.map((host) => ({ host, completeThrough: through.get(host) ?? null })),
      unfinished: [...operations.unfinished(route.volume)],
      troubles: await troublesOf(this.#parts, route),
      explained: explain ? await this.#explain(route) : null,
    };
  }

  /** Asks both cells and decides, and does nothing of it. */
  async #explain(route: Route): Promise<Explained> {
    const { decisions, evidence } = this.#parts;
    let [x, y] = await askBoth(this.#parts, route, []);
    let decision = decide({ route, x, y });
    if (decision.seqs.length > 0) {
      [x, y] = await askBoth(this.#parts, route, decision.seqs);
      decision = decide({ route, x, y });
    }
    return {
      x,
      y,
      rule: decision.rule,
      outcome: decision.outcome,
      trials: decision.trials,
      steps: decision.steps.map(stepText),
      afterwards: decision.afterwards,
      decisions: await decisions.of(route.volume),
      evidence: await evidence.of(route.volume),
      elsewhere: await heldElsewhere(this.#parts, route),
    };
  }

  /** Only of a volume that is lost or deleted, or whose store is gone for good. What hosts have of it they keep. */
  async forget({ volume: name }: Arguments<'route-forget'>): Promise<RouteSummary> {
    const { book, store, locks, decisions, snapshotDeletions, bases, log } = this.#parts;
    const route = await book.named(name);
    return locks.run(route.volume, async () => {
      const now = await store.route(route.volume);
      if (!now) return summaryOf(route);
      if (!(await this.#mayBeForgotten(now))) throw inUse(now);
      if (!(await store.removeRoute(now.volume, now.gen))) throw inUse(now);
      await store.put([
        ...(await decisions.forget(now.volume)),
        ...snapshotDeletions.forget(now.volume),
        ...bases.forget(now.volume),
        { kind: 'move', key: now.volume, value: null },
        { kind: 'evidence', key: now.volume, value: null },
      ]);
      log.warn({ event: 'route-forgotten', volume: now.volume, name }, 'an operator has dropped a route');
      return summaryOf(now);
    });
  }

  async #mayBeForgotten(route: Route): Promise<boolean> {
    if (route.status === 'lost' || route.status === 'gone') return true;
    return (await this.#isElsewhere(route)) || (await this.#isNowhere(route));
  }

  /** It waits for an operator to decide, and neither cell has anything that it could go on with. */
  async #isNowhere(route: Route): Promise<boolean> {
    if (route.status !== 'quarantined' && route.status !== 'open') return false;
    const answers = await askBoth(this.#parts, route, []);
    return isLost(route, answers) || (route.status === 'quarantined' && answers.every(hasNothing));
  }

  /** The host has another store now: the one it was in will not answer again. */
  async #isElsewhere({ active }: Route): Promise<boolean> {
    const known = await this.#parts.store.get('host', active.primary);
    return known !== null && known.storeId !== active.storeId;
  }
}

export function summaryOf({
  name,
  volume,
  status,
  active,
  alternate,
  epoch,
  lineageHead,
  journal,
}: Route): RouteSummary {
  return {
    name,
    volume,
    status,
    cell: active.cell,
    host: active.primary,
    epoch,
    seq: lineageHead?.seq ?? 0,
    alternate: alternate?.primary ?? null,
    phase: journal?.phase ?? null,
  };
}

function inUse({ name, status }: Route): CellblockError {
  return new CellblockError('route-in-use', `The route of volume ${name} is ${status}.`, {
    hint: 'Only the route of a volume that is lost or deleted is dropped; delete the volume first.',
    facts: { volume: name, status },
  });
}
