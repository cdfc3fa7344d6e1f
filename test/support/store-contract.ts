// What every store of a coordinator promises (src/coordinator/store.ts), as cases that run over each of them.

import type { Test } from 'tap';
import {
  type Change,
  type CoordinatorStore,
  MOST_BYTES,
  MOST_CHANGES,
  type OperationRecord,
} from '../../src/coordinator/store.js';
import type { Place, Route } from '../../src/model/cell/route.js';
import { idOf } from './protocol-samples.js';

/** A state of its own for one case. */
export interface StoreScene {
  /** Of the coordinator that leads. */
  store: CoordinatorStore;
  /** The same state after this coordinator has ended and a new one leads. */
  reopen(): Promise<CoordinatorStore>;
  /** Another coordinator takes over, while the first goes on. Null: there can be no other. */
  rival: (() => Promise<CoordinatorStore>) | null;
}

export function placeOf(host: string): Place {
  return {
    cell: 'east',
    epoch: 1,
    primary: host,
    storeId: idOf(0x57),
    replicas: [],
    mustSeal: null,
    needsRepair: false,
  };
}

export function routeOf(number: number, more: Partial<Route> = {}): Route {
  return {
    volume: idOf(number),
    name: `v${number}`,
    status: 'open',
    active: placeOf('web-1'),
    alternate: null,
    gen: 0,
    epoch: 1,
    lineageHead: null,
    journal: null,
    ...more,
  };
}

export function operationOf(number: number, more: Partial<OperationRecord> = {}): OperationRecord {
  return {
    id: idOf(number),
    volume: idOf(number),
    operation: { kind: 'locate' },
    begun: '2026-01-01T00:00:00Z',
    askedBy: 'web-1',
    ...more,
  };
}

const put = (number: number, more: Partial<OperationRecord> = {}): Change => ({
  kind: 'operation',
  key: idOf(number),
  value: operationOf(number, more),
});

/** Of which the order of bytes and that of UTF-16 are not the same. */
const NAMES = ['a', 'a b/c', 'z', 'ä', 'ア', '\u{e000}', '\u{ffee}', '\u{1f984}', '\u{1f984}b'];

const CASES: Record<string, (t: Test, scene: StoreScene) => Promise<void>> = {
  'a route is found by its volume and by its name, and nobody changes it by changing what was read or written':
    async (t, { store }) => {
      t.equal(await store.route(idOf(1)), null);
      t.equal(await store.routeNamed('v1'), null);
      const made = routeOf(1, { gen: 77 });
      t.equal(await store.createRoute(made), 'stored');
      made.active.primary = 'another';
      t.same(await store.route(idOf(1)), routeOf(1, { gen: 1 }));
      const read = (await store.routeNamed('v1'))!;
      t.same(read, routeOf(1, { gen: 1 }));
      t.throws(() => {
        read.active.primary = 'another';
      }, TypeError);
      t.throws(() => read.active.replicas.push('another'), TypeError);
      t.same(await store.route(idOf(1)), routeOf(1, { gen: 1 }));
    },

  'a volume has one route, and a name one volume': async (t, { store }) => {
    t.equal(await store.createRoute(routeOf(1)), 'stored');
    t.equal(await store.createRoute(routeOf(1, { name: 'other' })), 'exists');
    t.equal(await store.createRoute(routeOf(2, { name: 'v1' })), 'exists');
    t.equal(await store.routeNamed('other'), null);
    t.equal(await store.route(idOf(2)), null);
  },

  'of many that create with one name, one does': async (t, { store }) => {
    const all = [1, 2, 3, 4, 5, 6].map((number) => store.createRoute(routeOf(number, { name: 'db' })));
    const answers = await Promise.all(all);
    t.equal(answers.filter((answer) => answer === 'stored').length, 1);
    const winner = answers.indexOf('stored') + 1;
    t.equal((await store.routeNamed('db'))?.volume, idOf(winner));
    t.same(
      (await store.routes(null, 10)).map(({ volume }) => volume),
      [idOf(winner)],
    );
  },

  'a route is replaced by who knows its gen': async (t, { store }) => {
    await store.createRoute(routeOf(1));
    const next = routeOf(1, { gen: 1, epoch: 5 });
    t.same(await store.replaceRoute(next), { stored: true, route: { ...next, gen: 2 } });
    t.same(await store.replaceRoute(next), { stored: false, route: { ...next, gen: 2 } });
    t.same(await store.replaceRoute({ ...next, gen: 3 }), { stored: false, route: { ...next, gen: 2 } });
    t.same(await store.replaceRoute(routeOf(2, { gen: 1 })), { stored: false, route: null });
    t.same(await store.route(idOf(1)), { ...next, gen: 2 });
  },

  'of many that replace one gen, one does': async (t, { store }) => {
    await store.createRoute(routeOf(1));
    for (let gen = 1; gen <= 5; gen++) {
      const all = [1, 2, 3, 4].map((by) => store.replaceRoute(routeOf(1, { gen, epoch: gen * 10 + by })));
      const answers = await Promise.all(all);
      const winners = answers.filter(({ stored }) => stored);
      t.equal(winners.length, 1, `gen ${gen}`);
      for (const { route } of answers) t.same(route, winners[0]!.route);
    }
    t.equal((await store.route(idOf(1)))?.gen, 6);
  },

  'a name changes when it is free, and the old one is free then': async (t, { store }) => {
    await store.createRoute(routeOf(1));
    await store.createRoute(routeOf(2));
    await t.rejects(store.replaceRoute(routeOf(1, { gen: 1, name: 'v2' })), { code: 'volume-exists' });
    t.equal((await store.routeNamed('v1'))?.volume, idOf(1));
    t.equal((await store.replaceRoute(routeOf(1, { gen: 1, name: 'new' }))).stored, true);
    t.equal(await store.routeNamed('v1'), null);
    t.equal((await store.routeNamed('new'))?.gen, 2);
    t.equal(await store.createRoute(routeOf(3, { name: 'v1' })), 'stored');
    t.same(
      (await store.routes(null, 9)).map(({ name }) => name),
      ['new', 'v1', 'v2'],
    );
  },

  'a name that two want goes to one': async (t, { store }) => {
    await store.createRoute(routeOf(1));
    await store.createRoute(routeOf(2));
    const ends = await Promise.allSettled([
      store.replaceRoute(routeOf(1, { gen: 1, name: 'x' })),
      store.replaceRoute(routeOf(2, { gen: 1, name: 'x' })),
      store.createRoute(routeOf(3, { name: 'x' })),
    ]);
    const holders = (await store.routes(null, 9)).filter(({ name }) => name === 'x');
    t.equal(holders.length, 1);
    t.equal((await store.routeNamed('x'))?.volume, holders[0]!.volume);
    const won = ends.filter(
      (end) => end.status === 'fulfilled' && (end.value === 'stored' || Object(end.value).stored === true),
    );
    t.equal(won.length, 1);
  },

  'a route is removed by who knows its gen': async (t, { store }) => {
    await store.createRoute(routeOf(1));
    t.equal(await store.removeRoute(idOf(1), 2), false);
    t.equal(await store.removeRoute(idOf(2), 1), false);
    t.equal(await store.removeRoute(idOf(1), 1), true);
    t.equal(await store.removeRoute(idOf(1), 1), false);
    t.equal(await store.route(idOf(1)), null);
    t.equal(await store.routeNamed('v1'), null);
    t.same(await store.routes(null, 9), []);
    t.equal(await store.createRoute(routeOf(2, { name: 'v1' })), 'stored');
    t.equal(await store.createRoute(routeOf(1, { name: 'again' })), 'stored');
    t.equal((await store.route(idOf(1)))?.gen, 1);
  },

  'routes come by name, page by page, in the order of bytes': async (t, { store, reopen }) => {
    const mixed = NAMES.map((name, index) => routeOf(index + 1, { name })).reverse();
    for (const route of mixed) await store.createRoute(route);
    const namesOf = async (from: CoordinatorStore, limit: number) => {
      const names: string[] = [];
      for (;;) {
        const page = await from.routes(names.at(-1) ?? null, limit);
        names.push(...page.map(({ name }) => name));
        if (page.length < limit) return names;
      }
    };
    for (const limit of [1, 2, 100]) t.same(await namesOf(store, limit), NAMES, `pages of ${limit}`);
    t.same(
      (await store.routes('b', 2)).map(({ name }) => name),
      ['z', 'ä'],
      'after a name that nobody has',
    );
    for (const name of NAMES) t.equal((await store.routeNamed(name))?.name, name);
    t.same(await namesOf(await reopen(), 2), NAMES);
  },

  'a name that is not whole, or too long, is no name': async (t, { store }) => {
    for (const name of ['\ud800', '', 'x'.repeat(1025)])
      await t.rejects(store.createRoute(routeOf(1, { name })), { code: 'coordinator-state-too-large' });
    t.equal(await store.route(idOf(1)), null);
    t.equal(await store.createRoute(routeOf(1, { name: 'x'.repeat(1024) })), 'stored');
  },

  'records are put, read and deleted by their keys': async (t, { store }) => {
    t.equal(await store.get('operation', idOf(1)), null);
    await store.put([put(1)]);
    t.same(await store.get('operation', idOf(1)), operationOf(1));
    await store.put([put(1, { askedBy: 'later' })]);
    t.same(await store.get('operation', idOf(1)), operationOf(1, { askedBy: 'later' }));
    t.equal(await store.get('group', idOf(1)), null, 'another kind');
    await store.put([{ kind: 'operation', key: idOf(1), value: null }]);
    t.equal(await store.get('operation', idOf(1)), null);
    await store.put([{ kind: 'operation', key: idOf(1), value: null }]);
    await store.put([]);
  },

  'records are listed by the beginning of their keys, in order, and those of other kinds are not': async (
    t,
    { store },
  ) => {
    const highest = (host: string, volume: string): Change => ({
      kind: 'highest',
      key: `${host}/${volume}`,
      value: { host, volume, epoch: 1, seq: 2 },
    });
    const hosts = ['a', 'a-b', 'a/b', 'ab', 'ä', '\u{ff5e}', '\u{1f984}'];
    await store.put([...hosts].reverse().flatMap((host) => [highest(host, 'v2'), highest(host, 'v1')]));
    await store.put([put(1), { kind: 'cell', key: 'a', value: { cell: 'a', created: 'now' } }]);
    const keys = async (prefix?: string) =>
      (await store.list('highest', prefix)).map(({ host, volume }) => `${host}/${volume}`);
    const all = hosts.flatMap((host) => [`${host}/v1`, `${host}/v2`]);
    const inOrder = [...all].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    t.same(await keys(), inOrder);
    t.same(await keys('a/'), ['a/b/v1', 'a/b/v2', 'a/v1', 'a/v2']);
    t.same(await keys('\u{1f984}'), ['\u{1f984}/v1', '\u{1f984}/v2']);
    t.same(await keys('nobody'), []);
    t.same(await store.list('cell'), [{ cell: 'a', created: 'now' }]);
  },

  'what is put together is stored together, the later of one key': async (t, { store }) => {
    const many = Array.from({ length: MOST_CHANGES }, (_, number) => put(number));
    await store.put(many);
    t.equal((await store.list('operation')).length, MOST_CHANGES);
    await store.put([put(1, { askedBy: 'first' }), put(2, { askedBy: 'x' }), put(1, { askedBy: 'second' })]);
    t.equal((await store.get('operation', idOf(1)))?.askedBy, 'second');
    await store.put(many.map(({ key }) => ({ kind: 'operation', key, value: null })));
    t.same(await store.list('operation'), []);
  },

  'what is too large is refused, and nothing of it is stored': async (t, { store }) => {
    const code = { code: 'coordinator-state-too-large' };
    await t.rejects(store.put([put(1), put(2, { askedBy: 'x'.repeat(MOST_BYTES) })]), code);
    await t.rejects(store.put(Array.from({ length: MOST_CHANGES + 1 }, (_, number) => put(number))), code);
    t.same(await store.list('operation'), []);
    await t.rejects(store.createRoute(routeOf(1, { active: placeOf('x'.repeat(MOST_BYTES)) })), code);
    t.equal(await store.routeNamed('v1'), null);
  },

  'large records are stored whole': async (t, { store, reopen }) => {
    const askedBy = 'ä€\u{1f984}"\\\n\0'.repeat(40_000).slice(0, 400_000);
    await store.put([put(1, { askedBy })]);
    const primary = 'p'.repeat(700_000);
    await store.createRoute(routeOf(1, { active: placeOf(primary) }));
    const again = await reopen();
    t.equal((await again.get('operation', idOf(1)))?.askedBy === askedBy, true);
    t.equal((await again.route(idOf(1)))?.active.primary === primary, true);
  },

  'all is there again after a new start': async (t, { store, reopen }) => {
    for (let number = 1; number <= 30; number++) await store.createRoute(routeOf(number));
    await store.replaceRoute(routeOf(3, { gen: 1, name: 'renamed' }));
    await store.removeRoute(idOf(4), 1);
    await store.put([put(1), { kind: 'cell', key: 'east', value: { cell: 'east', created: 'now' } }]);
    const before = await store.routes(null, 100);
    const again = await reopen();
    t.same(await again.routes(null, 100), before);
    t.equal(before.length, 29);
    t.equal((await again.routeNamed('renamed'))?.gen, 2);
    t.equal(await again.routeNamed('v3'), null);
    t.same(await again.get('operation', idOf(1)), operationOf(1));
    t.equal((await again.replaceRoute(routeOf(3, { gen: 2 }))).stored, true);
    t.same(await again.list('cell'), [{ cell: 'east', created: 'now' }]);
  },

  'many writes at once are all stored': async (t, { store, reopen }) => {
    const numbers = Array.from({ length: 200 }, (_, number) => number + 1);
    await Promise.all(
      numbers.map(async (number) => {
        await store.createRoute(routeOf(number));
        await store.put([put(number)]);
        await store.replaceRoute(routeOf(number, { gen: 1, epoch: number }));
      }),
    );
    const again = await reopen();
    const routes = await again.routes(null, 1000);
    t.equal(routes.length, numbers.length);
    t.ok(routes.every(({ gen, volume, epoch }) => gen === 2 && volume === idOf(epoch)));
    t.equal((await again.list('operation')).length, numbers.length);
  },

  'writes of one key are stored in the order of asking': async (t, { store, reopen }) => {
    await Promise.all(
      Array.from({ length: 50 }, (_, number) =>
        store.put([put(1, { askedBy: `${number}` }), put(2 + (number % 3))]),
      ),
    );
    t.equal((await (await reopen()).get('operation', idOf(1)))?.askedBy, '49');
  },

  'who was deposed writes nothing, and who leads sees all': async (t, { store, rival }) => {
    if (!rival) return t.comment('there is no other');
    await store.createRoute(routeOf(1));
    await store.put([put(1)]);
    const other = await rival();
    const code = { code: 'not-leader' };
    await t.rejects(store.createRoute(routeOf(2)), code);
    await t.rejects(store.replaceRoute(routeOf(1, { gen: 1, epoch: 9 })), code);
    await t.rejects(store.removeRoute(idOf(1), 1), code);
    await t.rejects(store.put([put(1, { askedBy: 'the old one' })]), code);
    t.same(await other.route(idOf(1)), routeOf(1, { gen: 1 }));
    t.equal(await other.routeNamed('v2'), null);
    t.same(await other.get('operation', idOf(1)), operationOf(1));
    t.equal((await other.replaceRoute(routeOf(1, { gen: 1, name: 'renamed' }))).stored, true);
    t.equal((await store.route(idOf(1)))?.gen, 2, 'the deposed one reads what the other has written');
    t.equal((await store.routeNamed('renamed'))?.gen, 2);
    t.equal(await store.routeNamed('v1'), null);
    t.same(
      (await store.routes(null, 9)).map(({ name }) => name),
      ['renamed'],
    );
  },
};

/** `begin` makes a scene and has it ended with the test. */
export async function storeContract(t: Test, begin: (t: Test) => Promise<StoreScene>): Promise<void> {
  for (const [name, run] of Object.entries(CASES)) await t.test(name, async (t) => run(t, await begin(t)));
}
