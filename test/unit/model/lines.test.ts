import t from 'tap';

import { chainOf, dependentsOf, nextLive, previousLive } from '../../../src/model/chain.js';
import { ChainRegions } from '../../../src/model/chain-regions.js';
import { addCutOff, inheritCutOffs, newestCutOff, renumberCutOffs } from '../../../src/model/cut-offs.js';
import type { Line } from '../../../src/model/entities.js';
import { decodeLine, encodeLine } from '../../../src/model/entities.js';
import { ALL_WINDOWS, parseWindowKey, windowBound, windowKey } from '../../../src/model/keys.js';
import { LayerTable } from '../../../src/model/layers.js';
import { mayHaveRecords, RegionSet, regionOf } from '../../../src/model/region-set.js';

function line(id: number, versions: number[], base: Line['base'] = null): Line {
  return {
    id,
    container: id,
    base,
    cutOffs: [],
    regions: new RegionSet(),
    versions: versions.map((version) => ({ version, state: 'listed', snapshot: `${version}` })),
  };
}

t.test('window keys sort by line, window, then newest version first', async (t) => {
  const keys = [windowKey(1, 5n, 9), windowKey(1, 5n, 2), windowKey(1, 6n, 300), windowKey(2, 0n, 1)];
  t.strictSame([...keys].reverse().sort(Buffer.compare), keys);
  t.strictSame(parseWindowKey(keys[2]!), { line: 1, window: 6n, version: 300 });
  t.ok(Buffer.compare(windowBound(1, 5n), keys[0]!) < 0 && Buffer.compare(windowBound(1, 6n), keys[1]!) > 0);
  t.ok(
    keys.every((key) => Buffer.compare(ALL_WINDOWS.gte, key) < 0 && Buffer.compare(ALL_WINDOWS.lt, key) > 0),
  );
});

t.test('layers: oldest first over all lines, a cut adds one, dead versions have none', async (t) => {
  const lines = new Map(
    [line(1, [2, 4, 7]), line(2, [1, 3], { line: 1, version: 4 })].map((one) => [one.id, one]),
  );
  const table = new LayerTable(chainOf(lines, { line: 2, version: 3 }));
  t.strictSame(table.initial(), [1, 2, 3, 4]);
  t.strictSame(
    [table.layerOf(1, 2), table.layerOf(1, 4), table.layerOf(2, 1), table.layerOf(2, 3)],
    [1, 2, 3, 4],
  );
  t.strictSame(
    [table.layerOf(1, 3), table.layerOf(1, 7), table.layerOf(3, 1)],
    [undefined, undefined, undefined],
  );
  table.raise(4);
  t.equal(table.layerOf(2, 4), 5);
  t.equal(table.current, 5);
});

t.test('dependents: the next live version and every line based on it', async (t) => {
  const l = line(1, [2, 4, 7]);
  const clone = line(2, [5], { line: 1, version: 4 });
  t.strictSame(dependentsOf(l, 4, [clone]), [
    { line: 1, version: 7 },
    { line: 2, version: 5 },
  ]);
  t.strictSame(dependentsOf(l, 7, [clone]), []);
  t.strictSame([previousLive(l, 4), previousLive(l, 2), nextLive(l, 4), nextLive(l, 7)], [2, null, 7, null]);
});

t.test('J2: cut-offs hide what is older than their version, for readers at it or later', async (t) => {
  let cutOffs = addCutOff([], { first: 4n, end: 8n, version: 3 });
  cutOffs = addCutOff(cutOffs, { first: 8n, end: 12n, version: 3 });
  t.strictSame(cutOffs, [{ first: 4n, end: 12n, version: 3 }], 'adjacent ones join');
  cutOffs = addCutOff(cutOffs, { first: 10n, end: null, version: 5 });
  t.strictSame(
    [3, 2, 9].map((upTo) => newestCutOff(cutOffs, 11n, upTo)),
    [3, 0, 5],
  );
  t.equal(newestCutOff(cutOffs, 11n, 4, 3), 0, 'only those above');
  t.equal(newestCutOff(cutOffs, 3n, 9), 0);
  t.strictSame(renumberCutOffs(cutOffs, 3, 5), [{ first: 4n, end: null, version: 5 }]);
  t.strictSame(inheritCutOffs(cutOffs, { above: 3, upTo: 5 }, 1), [{ first: 10n, end: null, version: 1 }]);
});

t.test('regions never hide a window that was noted', async (t) => {
  const regions = new RegionSet([regionOf(100n), regionOf(1_000_000n)]);
  t.ok(mayHaveRecords(regions, 64n, 64));
  t.notOk(mayHaveRecords(regions, 128n, 64));
  t.ok(mayHaveRecords(regions, 90n, 200));
  t.ok(mayHaveRecords(regions, 999_990n, 64));
  t.ok(mayHaveRecords(regions, 0n, Number.MAX_SAFE_INTEGER));
});

t.test('the table of a chain finds the lines that say something of a region, in their order', async (t) => {
  const links = Array.from({ length: 70 }, (_, at) => {
    const regions = new RegionSet(at === 5 ? [] : [at % 3, 4095 - at]);
    const cutOffs = at === 5 || at === 69 ? [{ first: 1n, end: null, version: 1 }] : [];
    return { line: { ...line(at + 1, [], null), regions, cutOffs }, upTo: 1 };
  });
  const table = new ChainRegions(links);
  for (const buckets of [[0], [1, 2], [4095, 4095 - 31, 4095 - 32, 4095 - 63, 4095 - 64], [2000], []]) {
    const wanted = links.filter(({ line }) => line.cutOffs.length > 0 || line.regions.hasAnyOf(buckets));
    t.strictSame(
      table.linksOf(buckets).map(({ line }) => line.id),
      wanted.map(({ line }) => line.id),
    );
  }
});

t.test('lines are stored without their listed versions, however many regions they have', async (t) => {
  for (const count of [3, 4096]) {
    const regions = new RegionSet(Array.from({ length: count }, (_, index) => index));
    const cutOffs = [{ first: 1n, end: null, version: 2 }];
    const versions: Line['versions'] = [
      { version: 1, state: 'deleted', snapshot: null },
      { version: 3, state: 'current', snapshot: null },
    ];
    const stored = { ...line(1, [], { line: 9, version: 8 }), regions, cutOffs, versions };
    const listed = { version: 2, state: 'listed', snapshot: 'x' } as const;
    const found = decodeLine(encodeLine({ ...stored, versions: [versions[0]!, listed, versions[1]!] }));
    t.strictSame(found, stored);
    t.strictSame(found.regions.all(), regions.all());
    t.ok(encodeLine(stored).length < 1000);
  }
});
