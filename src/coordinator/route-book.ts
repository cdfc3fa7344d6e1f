// The routes, as whoever decides reads and replaces them.
//
// Invariant: a route is only ever replaced on the `gen` it was read with; whoever changes it for a reason looks again at what another has
// stored meanwhile, and whether the reason still holds.

import { CellblockError } from '../base/errors.js';
import type { Route } from '../model/cell/route.js';
import { mayBeStored } from './state-errors.js';
import type { CoordinatorStore, Replaced } from './store.js';

const PAGE = 1_000;

export class RouteBook {
  readonly #store: CoordinatorStore;
  readonly #onStored: (route: Route) => void;

  /** `onStored`: told of every route that was stored, or may have been. */
  constructor(store: CoordinatorStore, onStored: (route: Route) => void) {
    this.#store = store;
    this.#onStored = onStored;
  }

  route(volume: string): Promise<Route | null> {
    return this.#store.route(volume);
  }

  async named(name: string): Promise<Route> {
    const route = await this.#store.routeNamed(name);
    if (route) return route;
    throw new CellblockError('volume-not-found', `No volume ${name} has a route.`, {
      hint: 'Run `cellblock route list`, or give a volume a route with `cellblock route claim NAME --host HOST`.',
      facts: { volume: name },
    });
  }

  async replace(route: Route): Promise<Replaced> {
    try {
      const replaced = await this.#store.replaceRoute(route);
      if (replaced.stored) this.#onStored(replaced.route);
      return replaced;
    } catch (error) {
      if (mayBeStored(error)) this.#onStored(route);
      throw error;
    }
  }

  /** `change` gives null when nothing is to be changed (any more). Returns the route as it is then; null: it is gone. */
  async change(volume: string, change: (route: Route) => Route | null): Promise<Route | null> {
    let route = await this.#store.route(volume);
    while (route) {
      const next = change(route);
      if (!next) return route;
      const replaced = await this.replace(next);
      if (replaced.stored) return replaced.route;
      route = replaced.route;
    }
    return null;
  }

  /** By name. */
  async *all(): AsyncGenerator<Route> {
    let after: string | null = null;
    for (;;) {
      const page: Route[] = await this.#store.routes(after, PAGE);
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1)!.name;
    }
  }
}

/** Every host that has, or has had, a part of it. */
export function hostsOf({ active, alternate }: Pick<Route, 'active' | 'alternate'>): string[] {
  const places = alternate ? [active, alternate] : [active];
  return [...new Set(places.flatMap(({ primary, replicas }) => [primary, ...replicas]))];
}
