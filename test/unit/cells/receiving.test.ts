// Copies at this host, with a puller of the test's own in place of the real one: what arrives, what is complete, what is served afterwards.

import t from 'tap';
import type { Head } from '../../../src/model/cell/route.js';
import { hiddenName } from '../../../src/model/names.js';
import type { Copies, CopyHost } from '../../../src/operations/copy/treaty.js';
import { newContainer } from '../../../src/operations/snapshots.js';
import type { Pull, SnapshotFacts } from '../../../src/protocol/exchange.js';
import { CellHost, idOf, MOVE, refusalOf, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';

const [S1, S2, S3, CARRY] = [idOf(1), idOf(2), idOf(3), idOf(0xca)];

const PULL: Pull = {
  move: MOVE,
  from: { host: 'h2', cell: 'west', addresses: ['tcp:127.0.0.1:1'] },
  description: {
    name: 'v',
    kind: 'volume',
    sizeBytes: '65536',
    attributes: null,
    base: null,
    allow: [],
    description: '',
    snapshots: [],
    more: false,
  },
  through: null,
  bytesPerSecond: null,
};

/** Writes what the test says instead of what another host has. */
class HandPuller implements Copies {
  readonly host: CopyHost;
  readonly pulls: Pull[] = [];
  readonly stopped: string[] = [];

  constructor(host: CopyHost) {
    this.host = host;
  }

  async pull(_volume: string, pull: Pull): Promise<void> {
    this.pulls.push(pull);
  }

  async stop(volume: string): Promise<void> {
    this.stopped.push(volume);
  }

  async digest(): Promise<{ sha256: string; bytes: string }> {
    return { sha256: '0'.repeat(64), bytes: '0' };
  }
}

interface Copy {
  host: CellHost;
  puller: HandPuller;
}

async function copying(replica = false): Promise<Copy> {
  let puller: HandPuller | null = null;
  const host = await CellHost.make({
    copies: (copyHost) => {
      puller = new HandPuller(copyHost);
      return puller;
    },
  });
  await host.command(
    replica ? { do: 'replicate', epoch: 1 } : { do: 'receive', move: MOVE, peerCell: 'west' },
  );
  return { host, puller: puller! };
}

async function write({ host }: Copy, block: number, value: number): Promise<void> {
  const { devices, catalog, client } = host.store.operations.parts;
  const device = await devices.acquire(catalog.containerNamed('v')!);
  const data = Buffer.alloc(4096);
  data.writeBigUInt64LE(BigInt(value));
  await client.write(device.handle, BigInt(block * 4096), data);
  devices.release(device);
}

async function bring(
  copy: Copy,
  of: Pick<SnapshotFacts, 'id' | 'seq' | 'name' | 'deletedBefore'> & { hidden?: boolean },
): Promise<void> {
  const { catalog, files, snapshots } = copy.host.store.operations.parts;
  if (!copy.puller.host.containerOf(VOLUME)) {
    const change = catalog.change();
    const container = newContainer({ name: 'v', sizeBytes: 65536n, base: null, clonedFrom: null }, change);
    files.add(container.id, change);
    copy.puller.host.adopt(VOLUME, container, change);
    await change.commit();
  }
  await write(copy, 0, of.seq * 10);
  const facts: SnapshotFacts = {
    ...of,
    hidden: of.hidden ?? false,
    sizeBytes: '65536',
    created: '2024-01-01T00:00:00.000Z',
    expires: null,
    base: null,
  };
  await snapshots.create([{ volume: 'v', snapshot: of.name, id: of.id, created: facts.created }], {
    alongside: (change) => copy.puller.host.arrived(VOLUME, facts, change),
  });
}

const head = (id: string, seq: number): Head => ({ id, seq });

t.test(
  'a copy arrives snapshot by snapshot, is staged when it is complete, and served when it is activated',
  async (t) => {
    const copy = await copying();
    const { host, puller } = copy;
    t.match(await host.cells.probe(VOLUME, []), {
      state: 'RECEIVING',
      move: { id: MOVE, completeThrough: null },
    });
    t.equal((await host.cells.pull(VOLUME, PULL)).kind, 'done');
    t.equal(puller.pulls.length, 1);
    t.equal(refusalOf(await host.cells.pull(VOLUME, { ...PULL, move: idOf(0x77) })), 'OTHER_MOVE');
    t.equal(
      refusalOf(await host.cells.pull(idOf(0x99), PULL)),
      'WRONG_STATE',
      'nothing is received without a record',
    );
    await bring(copy, { id: S1, seq: 1, name: 'one' });
    await bring(copy, { id: CARRY, seq: 1, name: hiddenName(CARRY), hidden: true });
    await bring(copy, { id: S2, seq: 2, name: 'two' });
    t.match(await host.cells.describe(VOLUME, null), {
      snapshots: [
        { id: S1, seq: 1, hidden: false, base: null },
        { id: CARRY, seq: 1, hidden: true, base: { volume: VOLUME, snapshot: S1 } },
        { id: S2, seq: 2, hidden: false, base: { volume: VOLUME, snapshot: CARRY } },
      ],
    });
    await puller.host.complete(VOLUME, { move: MOVE, through: head(S2, 2), lineageHead: head(S2, 2) });
    t.match(host.events, [{ name: 'staged', move: MOVE, through: { id: S2 } }]);
    t.match(await host.cells.probe(VOLUME, []), {
      state: 'STAGED',
      lineageHead: { id: S2, seq: 2 },
      lineage: { 1: S1, 2: S2 },
      move: { completeThrough: { id: S2 } },
      dirtySinceHead: false,
    });
    t.equal((await host.cells.pull(VOLUME, { ...PULL, through: head(S2, 2) })).kind, 'done');
    t.equal(puller.pulls.length, 1, 'what is complete is not copied again');
    await host.restart('power-loss');
    t.equal((await host.command({ do: 'activate', epoch: 2, from: head(S2, 2) })).kind, 'done');
    t.equal((await host.store.readAll('v'))[0], 20);
    t.strictSame(
      host.store.operations.listSnapshots('v').map(({ name }) => name),
      ['one', 'two'],
    );
    t.notOk(
      host.store.operations.parts.catalog.snapshots.has(CARRY),
      'a delta nobody needs any more is gone',
    );
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  },
);

t.test('half a delta is never served: activated, it is as the snapshot it is complete through', async (t) => {
  const copy = await copying();
  const { host, puller } = copy;
  await bring(copy, { id: S1, seq: 1, name: 'one' });
  await puller.host.complete(VOLUME, { move: MOVE, through: head(S1, 1), lineageHead: head(S1, 1) });
  await host.command({ do: 'demote', move: MOVE, through: S1 });
  await write(copy, 0, 99);
  await write(copy, 3, 98);
  t.equal(
    (await host.command({ do: 'staged', move: MOVE, through: head(S1, 1), lineageHead: head(S1, 1) })).kind,
    'done',
  );
  t.match(await host.cells.probe(VOLUME, []), { state: 'STAGED', dirtySinceHead: true });
  t.equal((await host.command({ do: 'activate', epoch: 2, from: head(S1, 1) })).kind, 'done');
  t.ok(puller.stopped.includes(VOLUME), 'the puller has stopped before');
  t.strictSame((await host.store.readAll('v')).slice(0, 4), [10, 0, 0, 0]);
  await host.write(1, [5]);
  await host.restart('process-death');
  t.strictSame((await host.store.readAll('v')).slice(0, 4), [10, 5, 0, 0]);
  await host.store.settle();
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('what is not here is not complete', async (t) => {
  const copy = await copying();
  const { host, puller } = copy;
  await bring(copy, { id: S1, seq: 1, name: 'one' });
  t.equal(
    refusalOf(
      await host.command({ do: 'staged', move: MOVE, through: head(S2, 2), lineageHead: head(S2, 2) }),
    ),
    'INCOMPLETE',
  );
  await t.rejects(puller.host.complete(VOLUME, { move: MOVE, through: head(S2, 2), lineageHead: null }), {
    code: 'copy-refused',
  });
  await t.rejects(
    puller.host.complete(VOLUME, { move: idOf(0x77), through: head(S1, 1), lineageHead: null }),
    { code: 'copy-refused' },
    'of a move that is over',
  );
  t.match(await host.cells.probe(VOLUME, []), { state: 'RECEIVING' });
  t.throws(
    () =>
      puller.host.adopt(
        idOf(0x99),
        puller.host.containerOf(VOLUME)!,
        host.store.operations.parts.catalog.change(),
      ),
    {
      code: 'copy-refused',
    },
  );
  puller.host.failed(VOLUME, { move: MOVE, code: 'copy-mismatch', message: 'It differs.' });
  t.match(host.events, [{ name: 'copy-failed', message: 'copy-mismatch: It differs.' }]);
  await host.store.end();
});

t.test(
  'killed between the cut of a snapshot that was copied and its record: it is not here, and comes again',
  async (t) => {
    const copy = await copying();
    const { host, puller } = copy;
    await bring(copy, { id: S1, seq: 1, name: 'one' });
    host.store.plane.onStep = (step) => {
      if (step === 'cut durable') host.store.die('process-death');
    };
    t.equal(await host.store.survive(() => bring(copy, { id: S2, seq: 2, name: 'two' })), 'died');
    await host.restart('process-death');
    t.strictSame(
      (await host.cells.describe(VOLUME, null)).snapshots.map(({ id }) => id),
      [S1],
    );
    t.equal(puller.stopped.length, 0);
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  },
);

t.test(
  'a replica knows what it is complete through, does not vote, and is promoted without the half it had begun',
  async (t) => {
    const copy = await copying(true);
    const { host, puller } = copy;
    t.equal((await host.cells.pull(VOLUME, { ...PULL, move: null })).kind, 'done');
    await bring(copy, { id: S1, seq: 1, name: 'one' });
    await puller.host.complete(VOLUME, { move: null, through: head(S1, 1), lineageHead: head(S1, 1) });
    await puller.host.complete(VOLUME, { move: null, through: head(S1, 1), lineageHead: head(S1, 1) });
    await bring(copy, { id: S2, seq: 2, name: 'two' });
    await puller.host.complete(VOLUME, { move: null, through: head(S2, 2), lineageHead: head(S2, 2) });
    t.match(await host.cells.probe(VOLUME, []), {
      state: 'RECEIVING',
      replica: { completeThrough: { id: S2, seq: 2 } },
    });
    await write(copy, 0, 77);
    await t.rejects(host.store.plane.connect('v'), /replica/);
    await t.rejects(host.store.operations.deleteSnapshots([{ volume: 'v', snapshot: 'one' }]), {
      code: 'snapshot-pinned',
    });
    t.equal((await host.command({ do: 'promote', epoch: 2 })).kind, 'done');
    t.equal((await host.store.readAll('v'))[0], 20);
    t.equal((await host.snapshot('three', S3)).kind, 'done');
    t.match(await host.cells.probe(VOLUME, []), {
      state: 'ACTIVE',
      epoch: 2,
      lineageHead: { id: S3, seq: 3 },
    });
    await host.store.settle();
    t.strictSame(await metadataErrors(host.store), []);
    await host.store.end();
  },
);

for (const isFaulted of [true, false])
  t.test(
    `an operator goes on with a replica${isFaulted ? ' that is faulted' : ''}, from its last whole snapshot and without the half behind it`,
    async (t) => {
      const copy = await copying(true);
      const { host, puller } = copy;
      const adopt = () => host.command({ do: 'adopt', epoch: 7 });
      await host.cells.pull(VOLUME, { ...PULL, move: null });
      t.equal(refusalOf(await adopt()), 'INCOMPLETE', 'it has none yet');
      await bring(copy, { id: S1, seq: 1, name: 'one' });
      await puller.host.complete(VOLUME, { move: null, through: head(S1, 1), lineageHead: head(S1, 1) });
      await write(copy, 0, 77);
      if (isFaulted) await host.command({ do: 'fault' });
      t.equal((await adopt()).kind, 'done');
      t.equal((await adopt()).kind, 'done', 'the same again');
      t.equal((await host.store.readAll('v'))[0], 10);
      t.match(await host.cells.probe(VOLUME, []), {
        state: 'ACTIVE',
        epoch: 7,
        activatedFrom: { id: S1, seq: 1 },
        replica: null,
      });
      t.match(await host.snapshot('two', S2), { head: { seq: 2 } });
      await host.restart('power-loss');
      t.match(await host.cells.probe(VOLUME, []), { state: 'ACTIVE', lineageHead: { id: S2, seq: 2 } });
      t.strictSame(await metadataErrors(host.store), []);
      await host.store.end();
    },
  );

t.test('ids of what was deleted before the copy come along: no snapshot has one of them again', async (t) => {
  const copy = await copying();
  const { host, puller } = copy;
  await host.cells.pull(VOLUME, PULL);
  const [gone, other] = [idOf(0x90), idOf(0x91)];
  const deletedBefore = [
    { id: gone, seq: 1 },
    { id: other, seq: 2 },
  ];
  await bring(copy, { id: S2, seq: 3, name: 'three', deletedBefore });
  await puller.host.complete(VOLUME, { move: MOVE, through: head(S2, 3), lineageHead: head(S2, 3) });
  await host.command({ do: 'activate', epoch: 2, from: head(S2, 3) });
  t.match((await host.cells.probe(VOLUME, [1])).lineage, { 1: gone, 2: other, 3: S2 });
  // An operation of long ago, of a coordinator whose state came from a backup.
  t.strictSame(await host.snapshot('again', gone), { kind: 'done', head: { id: gone, seq: 1 } });
  t.strictSame((await host.cells.probe(VOLUME, [])).lineageHead, head(S2, 3), 'nothing was taken');
  t.match(await host.cells.describe(VOLUME, null), { snapshots: [{ id: S2, deletedBefore }] });
  await host.store.end();
});
