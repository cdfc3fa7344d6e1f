// The store as one term of leading writes to it.
//
// Invariant: nothing that was begun in a term is written after it, though this coordinator leads again: to the store that is another leader's write, and whoever
// leads now has read what there was without it.

import type { CoordinatorStore } from './store.js';
import type { Term } from './term.js';

export function storeOfTerm(store: CoordinatorStore, term: Term): CoordinatorStore {
  const within = async <T>(write: () => Promise<T>): Promise<T> => {
    term.check();
    return write();
  };
  return {
    route: (volume) => store.route(volume),
    routeNamed: (name) => store.routeNamed(name),
    routes: (after, limit) => store.routes(after, limit),
    get: (kind, key) => store.get(kind, key),
    list: (kind, prefix) => store.list(kind, prefix),
    createRoute: (route) => within(() => store.createRoute(route)),
    replaceRoute: (route) => within(() => store.replaceRoute(route)),
    removeRoute: (volume, gen) => within(() => store.removeRoute(volume, gen)),
    put: (changes) => within(() => store.put(changes)),
    close: () => store.close(),
  };
}
