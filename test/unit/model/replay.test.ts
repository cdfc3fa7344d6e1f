import t from 'tap';
import type { KnownLine, ReplayPlan, SeenEntry } from '../../../src/model/replay.js';
import { planReplay } from '../../../src/model/replay.js';

const own = (position: bigint, version = 1, line = 1): SeenEntry => ({
  kind: 'own',
  position,
  line,
  version,
  window: position,
  start: 0,
  count: 1,
  slot: position,
});
const commit = (position: bigint, upTo: bigint, line = 1): SeenEntry => ({
  kind: 'commit',
  position,
  line,
  upTo,
});
const cut = (position: bigint, version: number, upTo: bigint, line = 1): SeenEntry => ({
  kind: 'cut',
  position,
  members: [{ line, version, upTo, snapshotId: new Uint8Array(16), name: `s${version}` }],
});
const failed = (position: bigint, after: bigint): SeenEntry => ({ kind: 'failed', position, line: 1, after });

function plan(entries: SeenEntry[], sameIncarnation: boolean, known: Partial<KnownLine> = {}): ReplayPlan {
  const line: KnownLine = { current: 1, live: [1], applied: -1n, ...known };
  return planReplay(entries, (id) => (id === 1 || id === 2 ? line : undefined), { sameIncarnation });
}

const positions = (found: ReplayPlan, line = 1): string[] => {
  return (found.changes.get(line) ?? []).map(({ position, version }) => `${position}@${version}`);
};

t.test('D10: after process death everything counts', async (t) => {
  t.strictSame(positions(plan([own(5n), commit(6n, 5n), own(7n)], true)), ['5@1', '7@1']);
});

t.test('D1: after power loss what the last commit record covers counts, and nothing else', async (t) => {
  const found = plan([own(5n), commit(6n, 5n), own(7n)], false);
  t.strictSame(positions(found), ['5@1']);
  t.equal(found.void, 1);
});

t.test('a commit record of one container says nothing of another', async (t) => {
  const found = plan([own(5n, 1, 2), own(6n), commit(7n, 6n)], false);
  t.strictSame(positions(found, 2), []);
  t.strictSame(positions(found), ['6@1']);
});

t.test('J3: what is at or below applied, and lines nobody knows, are skipped', async (t) => {
  const found = plan([own(5n), own(6n), own(7n, 1, 9)], true, { applied: 5n });
  t.strictSame(positions(found), ['6@1']);
  t.notOk(found.changes.has(9));
});

t.test('J3 (c): a cut LevelDB had is not completed again', async (t) => {
  t.equal(plan([cut(5n, 1, 4n)], true, { current: 2, live: [2] }).cuts.length, 0, 'deleted since');
  t.equal(plan([cut(5n, 1, 4n)], true, { applied: 9n }).cuts.length, 0, 'at or below applied');
});

t.test('J10: a cut is the commit of its members up to the noted position', async (t) => {
  const found = plan([own(3n), own(4n, 2), cut(5n, 1, 3n), own(6n, 2)], false);
  t.equal(found.cuts.length, 1);
  t.strictSame(positions(found), ['3@1']);
});

t.test('cuts whose group is missing are completed in order, entries keep their versions', async (t) => {
  const found = plan([own(3n), cut(4n, 1, 3n), own(5n, 2), cut(6n, 2, 5n), own(7n, 3)], true);
  t.strictSame(
    found.cuts.map(({ name }) => name),
    ['s1', 's2'],
  );
  t.strictSame(positions(found), ['3@1', '5@2', '7@3']);
});

t.test('J1 (c): entries of a version whose cut is missing fold into the one before', async (t) => {
  t.strictSame(positions(plan([own(3n), own(4n, 2)], true)), ['3@1', '4@1']);
});

t.test(
  'J9: a FAILED entry voids what came after the last commit, for ever, but not what came after the repair',
  async (t) => {
    for (const sameIncarnation of [true, false]) {
      const found = plan(
        [own(3n), commit(4n, 3n), own(5n), failed(6n, 3n), own(7n), commit(8n, 7n)],
        sameIncarnation,
      );
      t.strictSame(positions(found), ['3@1', '7@1']);
      t.equal(found.failed.get(1), 3n);
    }
  },
);

t.test('J3 (d): an entry of a dead version is never replayed', async (t) => {
  t.strictSame(positions(plan([own(3n, 1)], true, { current: 3, live: [2, 3] })), []);
});

t.test('the container is being deleted: no current version, nothing folds', async (t) => {
  t.strictSame(positions(plan([own(3n, 4), cut(4n, 3, 3n)], true, { current: null, live: [3] })), []);
});
