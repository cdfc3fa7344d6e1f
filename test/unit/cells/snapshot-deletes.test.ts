// A snapshot of a volume of a cell is deleted by its owner, and then wherever else it is; what this host knows to be needed stays.

import t from 'tap';

import type { SaidOutcome } from '../../../src/protocol/client.js';
import { CellHost, idOf, MOVE, refusalOf, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';

const [S1, S2, S3] = [idOf(1), idOf(2), idOf(3)] as [string, string, string];
const SEAL = idOf(0x5ea1);

/** Three snapshots, each with a block of its own, and something written since. */
async function owner(): Promise<CellHost> {
  const host = await CellHost.make();
  await host.claimed();
  for (const [index, id] of [S1, S2, S3].entries()) {
    await host.write(index, [10 + index]);
    await host.snapshot(`s${index + 1}`, id);
  }
  await host.write(3, [13]);
  return host;
}

function names(host: CellHost): string {
  return host.store.operations
    .listSnapshots('v')
    .map(({ name }) => name)
    .join();
}

function remove(host: CellHost, id: string, { epoch = 1, volume = VOLUME } = {}): Promise<SaidOutcome> {
  const operation = { kind: 'snapshot-delete', id, name: 's' } as const;
  return host.cells.perform({ volume, epoch, parent: null, operation });
}

t.test('by the owner: the others and the volume read as before, its id stays in the lineage', async (t) => {
  const host = await owner();
  t.match(await remove(host, S2), { kind: 'done', head: { id: S3, seq: 3 } });
  t.equal(names(host), 's1,s3');
  t.match(await remove(host, S2), { kind: 'done' }, 'asked again it is the same');
  t.match(await host.cells.probe(VOLUME, [2]), { lineage: { 1: S1, 2: S2, 3: S3 } });
  const described = await host.cells.describe(VOLUME, null);
  t.strictSame(
    described.snapshots.map(({ id, seq }) => [id, seq]),
    [
      [S1, 1],
      [S3, 3],
    ],
    'a copy gets what is left, under the seqs it has',
  );
  await host.restart('power-loss');
  t.equal(names(host), 's1,s3');
  t.strictSame((await host.store.readAll('v')).slice(0, 4), [10, 11, 12, 13]);
  t.strictSame((await host.store.readAll('v@s3')).slice(0, 4), [10, 11, 12, 0]);
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('not the last one, not under another epoch, not while the volume is on the move', async (t) => {
  const host = await owner();
  await t.rejects(remove(host, S3), { code: 'snapshot-pinned', message: /the last one of its lineage/ });
  t.equal(refusalOf(await remove(host, S1, { epoch: 2 })), 'STALE_EPOCH');
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  await t.rejects(remove(host, S1), { code: 'snapshot-pinned', message: /OUTGOING/ });
  await host.command({ do: 'stay-here', epoch: 1, move: MOVE });
  await host.command({ do: 'fence', releasedTo: 2 });
  t.equal(refusalOf(await remove(host, S1)), 'WRONG_STATE', 'by a former owner');
  t.equal(names(host), 's1,s2,s3');
  await host.store.end();
});

t.test('hidden snapshots and those of other volumes are not deleted so', async (t) => {
  const host = await owner();
  await host.claimed('w', { id: idOf(0xbee) });
  await host.snapshot('s1', idOf(7), { volume: idOf(0xbee) });
  await t.rejects(remove(host, idOf(7)), { code: 'snapshot-not-found' });
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  await host.command({ do: 'carry', epoch: 1, move: MOVE, id: SEAL, after: null });
  await host.command({ do: 'seal', epoch: 1, id: idOf(0x5ea2) });
  await host.command({ do: 'release', releasedTo: 2 });
  await t.rejects(host.command({ do: 'forget-snapshot', id: idOf(0x5ea2) }), { code: 'snapshot-not-found' });
  await host.store.end();
});

t.test('what the owner has deleted goes at a former owner, once it has released the volume', async (t) => {
  const host = await owner();
  const forget = (id: string) => host.command({ do: 'forget-snapshot', id });
  await host.command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });
  t.equal(refusalOf(await forget(S1)), 'OTHER_MOVE');
  await host.command({ do: 'seal', epoch: 1, id: SEAL });
  t.equal(refusalOf(await forget(S1)), 'OTHER_MOVE');
  await host.command({ do: 'release', releasedTo: 2 });
  t.equal((await forget(S1)).kind, 'done');
  t.equal((await forget(S1)).kind, 'done', 'asked again it is the same');
  t.equal((await forget(S3)).kind, 'done', 'its last one too: the owner has others by now');
  t.equal((await forget(idOf(99))).kind, 'done', 'one it never had');
  t.equal(
    (await host.command({ do: 'forget-snapshot', id: S1 }, idOf(0xdead))).kind,
    'done',
    'of a volume it never had',
  );
  t.equal(names(host), 's2');
  await host.restart('power-loss');
  t.match(await host.cells.probe(VOLUME, []), { state: 'SEALED', released: 2, move: null });
  t.equal(names(host), 's2');
  t.strictSame(await metadataErrors(host.store), []);
  await host.store.end();
});

t.test('what a copy to this host continues stays until the copy has it', async (t) => {
  const host = await owner();
  await host.seal(SEAL);
  await host.command({ do: 'release', releasedTo: 2 });
  const { catalog } = host.store.operations.parts;
  const container = catalog.containerNamed('v')!;
  const { version } = catalog.lines.get(container.line)!.versions.at(-1)!;
  const record = {
    volume: VOLUME,
    container: container.id,
    line: container.line,
    version,
    snapshot: idOf(9),
    since: S1,
  };
  await catalog.change().copy(record).commit();
  t.equal(refusalOf(await host.command({ do: 'forget-snapshot', id: S1 })), 'WRONG_STATE');
  t.equal((await host.command({ do: 'forget-snapshot', id: S2 })).kind, 'done');
  await catalog.change().removeCopy(VOLUME).commit();
  t.equal((await host.command({ do: 'forget-snapshot', id: S1 })).kind, 'done');
  t.equal(names(host), 's3');
  await host.store.end();
});
