// Routes in memory: found by volume and by name, in the order of bytes, whatever is done to them.

import t from 'tap';
import { compareNames, RouteTable } from '../../../src/coordinator/route-table.js';
import { randomOf } from '../../support/random.js';
import { routeOf } from '../../support/store-contract.js';

t.test('names are compared by their bytes of UTF-8', async (t) => {
  const random = randomOf(3);
  const characters = ['', 'a', 'b', 'ä', '\u{d7ff}', '\u{e000}', '\u{ffff}', '\u{10000}', '\u{10ffff}'];
  for (let tried = 0; tried < 3000; tried++) {
    const [a, b] = [0, 1].map(() =>
      Array.from({ length: 3 }, () => characters[Math.floor(random() * characters.length)]).join(''),
    ) as [string, string];
    const wanted = Buffer.compare(Buffer.from(a), Buffer.from(b));
    if (Math.sign(compareNames(a, b)) !== wanted) t.fail(`${JSON.stringify([a, b])}: ${wanted}`);
  }
});

t.test('a table of routes agrees with a list, whatever is done to it', async (t) => {
  const random = randomOf(11);
  const table = new RouteTable();
  let list: { volume: string; name: string; gen: number }[] = [];
  for (let step = 1; step <= 3000; step++) {
    const route = routeOf(Math.floor(random() * 40), { name: `n${Math.floor(random() * 60)}`, gen: step });
    const other = list.find(({ name, volume }) => name === route.name && volume !== route.volume);
    if (random() < 0.3) {
      table.delete(route.volume);
      list = list.filter(({ volume }) => volume !== route.volume);
    } else {
      const isSet = table.set(route);
      if (isSet !== (other === undefined)) t.fail(`step ${step}`);
      if (isSet) list = [...list.filter(({ volume }) => volume !== route.volume), route];
    }
    if (step % 10 !== 0) continue;
    const sorted = [...list].sort((a, b) => compareNames(a.name, b.name));
    const after = random() < 0.5 ? null : `n${Math.floor(random() * 60)}`;
    const wanted = sorted.filter(({ name }) => after === null || compareNames(name, after) > 0).slice(0, 7);
    t.same(
      table.page(after, 7).map(({ gen }) => gen),
      wanted.map(({ gen }) => gen),
    );
    t.equal(table.size, list.length);
    for (const { name, gen } of sorted) if (table.named(name)?.gen !== gen) t.fail(`step ${step}: ${name}`);
  }
});
