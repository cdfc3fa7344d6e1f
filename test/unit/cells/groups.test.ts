// This host's part of a snapshot of several volumes in one instant over several hosts (HAZARDS 26): held, cut, published or dropped, with its
// own deadline, over restarts.

import t from 'tap';
import type { HostCommand } from '../../../src/model/cell/host-record.js';
import type { GroupOutcome, GroupStep } from '../../../src/protocol/exchange.js';
import { CellHost, idOf, MOVE, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';

const OTHER = idOf(0xbee);
const GROUP = idOf(0x9);
const [A, B, C] = [idOf(1), idOf(2), idOf(3)];
// What ends in the middle of a hold leaves its timer, which this process waits for.
const LONG = 20_000;

/** The last one is at another host. */
const PARTS = [
  { volume: VOLUME, host: 'h1', epoch: 1, snapshot: A, name: 'both' },
  { volume: OTHER, host: 'h1', epoch: 1, snapshot: B, name: 'both' },
  { volume: idOf(0xfa), host: 'h2', epoch: 3, snapshot: C, name: 'both' },
];
const CUT = {
  do: 'cut',
  members: [
    { volume: VOLUME, epoch: 1, parent: null, id: A, name: 'both' },
    { volume: OTHER, epoch: 1, parent: null, id: B, name: 'both' },
  ],
  parts: PARTS,
} satisfies GroupStep;
const HEADS = [
  { volume: VOLUME, head: { id: A, seq: 1 } },
  { volume: OTHER, head: { id: B, seq: 1 } },
];

async function two(options = {}): Promise<CellHost> {
  const host = await CellHost.make({ holdLimitMs: LONG, ...options });
  await host.claimed();
  await host.claimed('w', { id: OTHER });
  return host;
}

const quiesce = (limitMs = LONG): GroupStep => ({ do: 'quiesce', volumes: [VOLUME, OTHER, VOLUME], limitMs });

t.test('held from quiesce to resume; published, both are heads with the bytes of one instant', async (t) => {
  const host = await two();
  const { plane, operations } = host.store;
  const [v, w] = [await plane.connect('v'), await plane.connect('w')];
  await v.write(0, [1]);
  await w.write(0, [1]);
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  t.match(await ask(quiesce()), { kind: 'done', held: 'held', heads: [] });
  let wrote = 0;
  const writes = [v, w].map((session) => session.write(0, [2]).then(() => void wrote++));
  t.match(await ask(CUT), { kind: 'done', held: 'held', heads: HEADS });
  t.match(await ask(CUT), { kind: 'done', held: 'held', heads: HEADS }, 'the same again');
  t.equal(wrote, 0, 'the cut has let nobody go');
  t.strictSame(operations.listSnapshots(), [], 'what is provisional is in no list');
  t.match(await host.cells.probe(VOLUME, []), { lineageHead: null }, 'nor in the lineage');
  t.strictSame(
    await ask({ do: 'publish' }).then(({ kind }) => kind),
    'done',
    'publishing lets them go first',
  );
  t.match(await ask({ do: 'resume' }), { held: 'held' }, 'and what is asked late hears that it was held');
  await Promise.all(writes);
  t.match(await ask({ do: 'publish' }), { kind: 'done', heads: HEADS }, 'idempotent');
  t.match(
    await ask({ do: 'drop' }),
    { kind: 'failed', code: 'group-published-already' },
    'what is published is not dropped',
  );
  for (const [name, volume, id] of [
    ['v', VOLUME, A],
    ['w', OTHER, B],
  ] as const) {
    t.match(await host.cells.probe(volume, []), { lineageHead: { id, seq: 1 }, lineage: { 1: id } });
    t.equal((await host.store.readAll(`${name}@both`))[0], 1, 'of before the hold');
    t.equal((await host.store.readAll(name))[0], 2);
  }
  await host.restart('power-loss');
  t.match(await ask({ do: 'publish' }), { kind: 'done', heads: HEADS }, 'idempotent over restarts');
  t.equal((await host.store.readAll('v@both'))[0], 1);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('the deadline is its own: clients go on, and it says so', async (t) => {
  const host = await two();
  const session = await host.store.plane.connect('v');
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  t.match(await ask(quiesce(30)), { held: 'held' });
  await session.write(0, [2]);
  t.match(await ask(CUT), { kind: 'failed', code: 'hold-expired' }, 'no cut after it');
  t.match(await ask({ do: 'resume' }), { kind: 'done', held: 'expired' });
  t.match(await ask({ do: 'drop' }), { kind: 'done', held: 'expired', heads: [] });
  t.match(await host.cells.group(idOf(0x77), { do: 'resume' }), { kind: 'done', held: 'none', heads: [] });
  await host.store.end();
});

t.test('cut, and expired before resume: it is told, and the drop takes everything back', async (t) => {
  const host = await two({ holdLimitMs: 200 });
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  const session = await host.store.plane.connect('v');
  await session.write(0, [1]);
  t.match(await ask(quiesce()), { held: 'held' }, 'the limit of this host is the smaller one');
  t.match(await ask(CUT), { held: 'held' });
  await session.write(0, [2]);
  t.match(await ask({ do: 'resume' }), { held: 'expired' });
  t.match(await ask({ do: 'drop' }), { kind: 'done' });
  t.match(await ask({ do: 'drop' }), { kind: 'done' }, 'idempotent');
  t.match(await ask({ do: 'publish' }), { kind: 'failed', code: 'group-dropped-already' });
  t.equal(host.store.operations.parts.catalog.snapshots.size, 0);
  t.equal((await host.snapshot('one', C)).kind, 'done', 'and another snapshot can be taken');
  session.close();
  await host.store.settle();
  t.equal((await host.store.readAll('v'))[0], 2);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('killed after the cut: the next run publishes it, or drops it', async (t) => {
  for (const end of ['publish', 'drop'] as const) {
    const host = await two();
    const ask = (step: GroupStep) => host.cells.group(GROUP, step);
    const session = await host.store.plane.connect('v');
    await session.write(0, [1]);
    await ask(quiesce());
    await ask(CUT);
    await host.restart('process-death');
    t.match(await ask({ do: 'resume' }), { held: 'expired' }, 'clients went on when the agent died');
    t.match(await ask({ do: end }), { kind: 'done', heads: HEADS });
    t.strictSame(
      host.store.operations.listSnapshots().map(({ fullName }) => fullName),
      end === 'publish' ? ['v@both', 'w@both'] : [],
    );
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  }
});

t.test('killed between the cut and its record: nobody has heard of it, and nothing is left', async (t) => {
  const host = await two();
  const session = await host.store.plane.connect('v');
  await session.write(0, [1]);
  await host.cells.group(GROUP, quiesce());
  host.store.plane.onStep = (step) => {
    if (step === 'cut durable') host.store.die('process-death');
  };
  t.equal(await host.store.survive(() => host.cells.group(GROUP, CUT)), 'died');
  await host.restart('process-death');
  t.equal(host.store.operations.parts.catalog.snapshots.size, 0);
  t.match(
    await host.cells.group(GROUP, { do: 'publish' }),
    { kind: 'done', held: 'none', heads: [] },
    'honestly',
  );
  t.equal((await host.store.readAll('v'))[0], 1);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('while it is provisional the volume gets no other snapshot and is not sealed', async (t) => {
  const host = await two();
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  await ask(quiesce());
  await ask(CUT);
  await ask({ do: 'resume' });
  await t.rejects(host.snapshot('one', C), { code: 'volume-busy' });
  await t.rejects(host.store.operations.createSnapshots([{ volume: 'v', snapshot: 's' }], { local: true }), {
    code: 'volume-busy',
  });
  await t.rejects(host.seal(idOf(0x5ea1)), { code: 'volume-busy' });
  await t.rejects(host.store.operations.parts.cells.describe(VOLUME, idOf(0x44)), {
    code: 'snapshot-not-found',
  });
  t.strictSame((await host.cells.describe(VOLUME, null)).snapshots, [], 'nor is it copied');
  t.match(await ask({ do: 'publish' }), { kind: 'done', heads: HEADS });
  t.equal((await host.snapshot('one', C)).kind, 'done');
  await host.store.end();
});

const meanwhile: Record<string, (host: CellHost) => Promise<unknown>> = {
  'a local snapshot': (host) =>
    host.store.operations.createSnapshots([{ volume: 'v', snapshot: 's' }], { local: true }),
  'a snapshot of the coordinator': (host) => host.snapshot('one', C),
  'a delta of a move': (host) => host.command({ do: 'carry', epoch: 1, move: MOVE, id: C, after: null }),
  'a seal': (host) => host.command({ do: 'seal', epoch: 1, id: C }),
};

for (const [what, begin] of Object.entries(meanwhile))
  t.test(`${what} that was begun before the cut, and waits for the hold, is refused`, async (t) => {
    const host = await two();
    const ask = (step: GroupStep) => host.cells.group(GROUP, step);
    await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
    await ask(quiesce());
    const begun = t.rejects(begin(host), { code: 'volume-busy' });
    await host.store.settle();
    t.match(await ask(CUT), { kind: 'done', heads: HEADS });
    await ask({ do: 'resume' });
    await begun;
    t.match(
      await ask({ do: 'publish' }),
      { kind: 'done', heads: HEADS },
      'nothing keeps it from being published',
    );
    t.match(await host.cells.probe(VOLUME, []), { state: 'OUTGOING', lineageHead: { id: A, seq: 1 } });
    t.equal((await host.snapshot('one', C)).kind, 'done');
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  });

t.test('one member that cannot be held, or cut, is named, and no client stays held', async (t) => {
  const host = await two();
  const session = await host.store.plane.connect('v');
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  await host.command({ do: 'fault' }, OTHER);
  t.match(await ask(quiesce()), { kind: 'failed', code: 'volume-not-served', volume: OTHER });
  await session.write(0, [1]);
  await host.command({ do: 'readmit' }, OTHER);
  t.match(await ask(quiesce()), { kind: 'done', held: 'held' });
  const stale: GroupStep = { ...CUT, members: [{ ...CUT.members[0]!, epoch: 7 }, CUT.members[1]!] };
  t.match(await ask(stale), { kind: 'failed', code: 'group-failed', volume: VOLUME, message: /STALE_EPOCH/ });
  t.match(await ask({ do: 'drop' }), { kind: 'done' });
  await session.write(0, [2]);
  t.match(await host.cells.group(idOf(0x10), { ...quiesce(), volumes: [idOf(0x99)] } as GroupStep), {
    kind: 'failed',
    volume: idOf(0x99),
  });
  await host.store.end();
});

/** Both cut and let go, with the bytes of one instant; to be published or dropped. */
async function provisional(): Promise<{ host: CellHost; ask: (step: GroupStep) => Promise<GroupOutcome> }> {
  const host = await two();
  await host.write(0, [1]);
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  await ask(quiesce());
  await ask(CUT);
  await ask({ do: 'resume' });
  await host.write(0, [2]);
  return { host, ask };
}

const listed = (host: CellHost) => host.store.operations.listSnapshots().map(({ fullName }) => fullName);

const commands: Record<string, HostCommand[]> = {
  fenced: [{ do: 'fence', releasedTo: 2 }],
  faulted: [{ do: 'fault' }],
  'faulted, and fenced': [{ do: 'fault' }, { do: 'fence', releasedTo: 2 }],
};

for (const [what, since] of Object.entries(commands))
  t.test(`one that was ${what} since the cut is published in what is here of it`, async (t) => {
    const { host, ask } = await provisional();
    for (const command of since) t.equal((await host.command(command)).kind, 'done');
    const { state } = await host.cells.probe(VOLUME, []);
    t.match(await ask({ do: 'publish' }), { kind: 'done', heads: HEADS });
    await host.restart('power-loss');
    t.match(await ask({ do: 'publish' }), { kind: 'done', heads: HEADS }, 'idempotent over restarts');
    t.match(await host.cells.probe(VOLUME, []), { state, lineageHead: { id: A, seq: 1 }, lineage: { 1: A } });
    t.strictSame(listed(host), ['v@both', 'w@both']);
    t.equal((await host.store.readAll('v@both'))[0], 1, 'the bytes of then');
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  });

t.test('what was held back is readmitted with the snapshot that was published meanwhile', async (t) => {
  const { host, ask } = await provisional();
  await host.command({ do: 'fault' });
  await ask({ do: 'publish' });
  await host.command({ do: 'readmit' });
  t.match(await host.snapshot('one', C), { kind: 'done', head: { id: C, seq: 2 } });
  await host.store.end();
});

const anew: Record<string, HostCommand[]> = {
  readmitted: [{ do: 'readmit' }],
  'readmitted twice': [{ do: 'readmit' }, { do: 'readmit' }],
  adopted: [{ do: 'adopt', epoch: 2 }],
};
for (const [what, all] of Object.entries(anew))
  t.test(`${what}, it has no part of a group that nobody knows any more: a backup of then`, async (t) => {
    const { host } = await provisional();
    await host.command({ do: 'fault' });
    for (const command of all) t.equal((await host.command(command)).kind, 'done');
    t.match(await host.snapshot('one', C, { epoch: what === 'adopted' ? 2 : 1 }), {
      kind: 'done',
      head: { id: C, seq: 1 },
    });
    await host.restart('power-loss');
    t.strictSame(listed(host), ['v@one'], 'what was cut is gone, and of another volume it is not');
    t.equal((await host.store.readAll('v'))[0], 2);
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  });

t.test('a former owner is kept as a fork with the snapshot that was published there', async (t) => {
  const { host, ask } = await provisional();
  await host.command({ do: 'fence', releasedTo: 2 });
  const keep: HostCommand = { do: 'keep-fork', volume: idOf(0xf0), name: 'fork' };
  await t.rejects(host.command(keep), { code: 'volume-busy' }, 'not before it is decided');
  await ask({ do: 'publish' });
  t.match(await host.cells.probe(VOLUME, []), { sealedHead: { id: A, seq: 1 } });
  t.equal((await host.command(keep)).kind, 'done');
  t.match(await host.cells.probe(idOf(0xf0), []), { state: 'ACTIVE', lineageHead: { seq: 1 } });
  t.strictSame(listed(host), ['fork@both', 'w@both']);
  t.equal((await host.store.readAll('fork@both'))[0], 1);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

const gone: Record<string, HostCommand> = {
  purged: { do: 'purge' },
  deleted: { do: 'delete', epoch: 2 },
  'made a replica': { do: 'replicate', epoch: 2 },
  'made a copy': { do: 'receive', move: MOVE, peerCell: 'west' },
};

for (const [what, command] of Object.entries(gone))
  for (const end of ['publish', 'drop'] as const)
    t.test(`one that was ${what} since the cut has left the group: ${end} is for the other`, async (t) => {
      const { host, ask } = await provisional();
      await host.command({ do: 'fence', releasedTo: 2 });
      t.equal((await host.command(command)).kind, 'done');
      t.notOk(host.store.operations.parts.catalog.snapshots.has(A), 'its snapshot is gone with it');
      t.strictSame(await metadataErrors(host.store), []);
      await host.restart('power-loss');
      t.strictSame(await ask({ do: end }).then((said) => said.kind === 'done' && said.heads), [HEADS[1]]);
      t.strictSame(listed(host), end === 'publish' ? ['w@both'] : []);
      t.match(await host.cells.probe(OTHER, []), { lineageHead: end === 'publish' ? HEADS[1]!.head : null });
      t.equal((await host.snapshot('one', C, { volume: OTHER })).kind, 'done', 'nothing waits for it');
      t.strictSame(await metadataErrors(host.store), []);
      await host.store.end();
    });

t.test('one that was damaged since the cut keeps nobody waiting', async (t) => {
  const { host, ask } = await provisional();
  const { catalog } = host.store.operations.parts;
  await host.store.operations.parts.snapshots.remove([catalog.snapshots.get(A)!]);
  t.strictSame(await ask({ do: 'publish' }).then((said) => said.kind === 'done' && said.heads), [HEADS[1]]);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('a stop lets held clients go', async (t) => {
  const host = await two();
  await host.cells.group(GROUP, quiesce());
  const session = await host.store.plane.connect('v@x').catch(() => null);
  t.equal(session, null);
  await host.store.operations.close();
  t.pass('it has ended');
  await host.store.start();
  await host.store.end();
});

t.test('what is open is told with all its parts, after a restart too, and not when it is over', async (t) => {
  const host = await two();
  const ask = (step: GroupStep) => host.cells.group(GROUP, step);
  t.strictSame(host.cells.openGroups(), []);
  await ask(quiesce());
  t.strictSame(host.cells.openGroups(), [], 'nothing is cut');
  await ask(CUT);
  const open = [{ group: GROUP, parts: PARTS }];
  t.strictSame(host.cells.openGroups(), open);
  await ask({ do: 'resume' });
  await host.restart('power-loss');
  t.strictSame(host.cells.openGroups(), open);
  await ask({ do: 'publish' });
  t.strictSame(host.cells.openGroups(), []);
  await host.store.end();
});
