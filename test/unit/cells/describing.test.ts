// What is told of a volume for a copy of it: in pages, in the order of the lineage, with hidden snapshots at their place.

import t from 'tap';
import { Describing } from '../../../src/operations/cells/describing.js';
import { Lineages } from '../../../src/operations/cells/lineages.js';
import { CellHost, idOf, VOLUME } from '../../support/cell-host.js';

t.test('a page at a time, until there are no more', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  for (let seq = 1; seq <= 7; seq++) await host.snapshot(`s${seq}`, idOf(seq));
  await host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 's3' }]);
  const { catalog } = host.store.operations.parts;
  const describing = new Describing(catalog, new Lineages(catalog), { page: 2 });
  const seen: number[] = [];
  let after: string | null = null;
  for (let pages = 1; ; pages++) {
    const page = describing.describe(VOLUME, after);
    seen.push(...page.snapshots.map(({ seq }) => seq));
    after = page.snapshots.at(-1)?.id ?? after;
    if (!page.more) {
      t.equal(pages, 4, 'the id of what was deleted takes a place');
      break;
    }
  }
  t.strictSame(seen, [1, 2, 4, 5, 6, 7], 'what was deleted is left out, and its seq is not given again');
  const whole = new Describing(catalog, new Lineages(catalog)).describe(VOLUME, null);
  const [, , fourth, fifth] = whole.snapshots;
  t.strictSame(fourth?.deletedBefore, [{ id: idOf(3), seq: 3 }], 'its id goes with the next one');
  t.equal(fifth?.deletedBefore, undefined);
  t.strictSame(describing.describe(VOLUME, idOf(7)), {
    name: 'v',
    kind: 'volume',
    sizeBytes: '65536',
    attributes: null,
    allow: [],
    description: '',
    base: null,
    snapshots: [],
    more: false,
  });
  t.throws(() => describing.describe(VOLUME, idOf(3)), { code: 'snapshot-not-found' });
  t.throws(() => describing.describe(idOf(0x99), null), { code: 'volume-unknown-here' });
  await host.store.end();
});

t.test('a hidden snapshot has the seq of the visible one before it, also when that is gone', async (t) => {
  const host = await CellHost.make();
  await host.claimed();
  await host.snapshot('one', idOf(1));
  await host.snapshot('two', idOf(2));
  await t.rejects(
    async () => host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 'two' }]),
    { code: 'snapshot-pinned' },
    'copies are complete through it',
  );
  await host.write(0, [1]);
  const seal = idOf(0x5ea1);
  await host.seal(seal);
  const { snapshots } = await host.cells.describe(VOLUME, null);
  t.match(snapshots, [
    { id: idOf(1), seq: 1, hidden: false, base: null },
    { id: idOf(2), seq: 2, hidden: false, base: { volume: VOLUME, snapshot: idOf(1) } },
    { id: seal, seq: 2, hidden: true, base: { volume: VOLUME, snapshot: idOf(2) } },
  ]);
  await host.command({ do: 'activate', epoch: 2, from: { id: seal, seq: 2 } });
  await host.snapshot('three', idOf(3));
  await host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 'two' }]);
  t.strictSame(
    (await host.cells.describe(VOLUME, null)).snapshots.map(({ seq, hidden }) => [seq, hidden]),
    [
      [1, false],
      [2, true],
      [3, false],
    ],
  );
  await host.store.end();
});

t.test('a file tells its attributes', async (t) => {
  const host = await CellHost.make();
  await host.store.operations.createFile('f', { sizeBytes: 10n, attributes: { mode: 0o640 } });
  await host.cells.claim(VOLUME, 'f');
  t.match(await host.cells.describe(VOLUME, null), {
    name: 'f',
    kind: 'file',
    sizeBytes: '10',
    attributes: { mode: 0o640 },
  });
  await host.store.end();
});
