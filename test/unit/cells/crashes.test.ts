// The process dies, or power is lost, at every batch and every step of the data plane while a command or an operation is carried out. Afterwards
// the record and the data say the same, either before or after; what was answered counts; and asked again it is done.

import t, { type Test } from 'tap';
import type { HostCommand } from '../../../src/model/cell/host-record.js';
import { hiddenName, isHiddenName } from '../../../src/model/names.js';
import type { SaidOutcome } from '../../../src/protocol/client.js';
import { CellHost, idOf, MOVE, VOLUME } from '../../support/cell-host.js';
import { metadataErrors } from '../../support/checked.js';

t.setTimeout(600_000);
const [S1, S2, SEAL, FORK] = [idOf(1), idOf(2), idOf(0x5ea1), idOf(0xf0)];
const CARRIED = [idOf(0xc0), idOf(0xc1), idOf(0xc2)] as const;

interface Case {
  name: string;
  /** What comes before, without a crash. */
  before: (host: CellHost) => Promise<unknown>;
  act: (host: CellHost) => Promise<SaidOutcome>;
  /** States that may be found, by the head's seq or by the state; in the end the one after it. */
  found: string[];
  after: string;
  /** Instead of the state and the head's seq. */
  stateOf?: (host: CellHost) => Promise<string>;
}

const command = (value: HostCommand) => (host: CellHost) => host.command(value);

const carry = (number: number) =>
  command({
    do: 'carry',
    epoch: 1,
    move: MOVE,
    id: CARRIED[number]!,
    after: CARRIED[number - 1] ?? null,
  });

const outgoing = command({ do: 'outgoing', epoch: 1, move: MOVE, peerCell: 'west' });

const CASES: Case[] = [
  {
    name: 'snapshot',
    before: async () => undefined,
    act: (host) =>
      host.cells.perform({
        volume: VOLUME,
        epoch: 1,
        parent: { id: S1, seq: 1 },
        operation: { kind: 'snapshot', id: S2, name: 'two' },
      }),
    found: ['ACTIVE 1', 'ACTIVE 2'],
    after: 'ACTIVE 2',
  },
  {
    name: 'seal',
    before: outgoing,
    act: command({ do: 'seal', epoch: 1, id: SEAL }),
    found: ['OUTGOING 1', 'SEALED 1'],
    after: 'SEALED 1',
  },
  {
    name: 'fence',
    before: async () => undefined,
    act: command({ do: 'fence', releasedTo: 2 }),
    found: ['ACTIVE 1', 'SEALED 1'],
    after: 'SEALED 1',
  },
  {
    name: 'activate',
    before: (host) => host.seal(SEAL),
    act: command({ do: 'activate', epoch: 2, from: { id: SEAL, seq: 1 } }),
    found: ['SEALED 1', 'ACTIVE 1'],
    after: 'ACTIVE 1',
  },
  {
    name: 'carry',
    before: async (host) => {
      await outgoing(host);
      await carry(0)(host);
      await carry(1)(host);
    },
    act: carry(2),
    found: ['OUTGOING at 1', 'OUTGOING at 2'],
    after: 'OUTGOING at 2',
    stateOf: async (host) => {
      const { state, move } = await host.cells.probe(VOLUME, []);
      return `${state} at ${CARRIED.findIndex((id) => id === move?.completeThrough?.id)}`;
    },
  },
  {
    name: 'keep-fork',
    before: async (host) => {
      await host.seal(SEAL);
      await host.command({ do: 'release', releasedTo: 2 });
    },
    act: command({ do: 'keep-fork', volume: FORK, name: 'fork' }),
    found: ['SEALED 1, NONE 0', 'NONE 0, ACTIVE 1'],
    after: 'NONE 0, ACTIVE 1',
    stateOf: async (host) => `${await stateOf(host)}, ${await stateOf(host, FORK)}`,
  },
  {
    name: 'snapshot-delete',
    before: async (host) => {
      await host.snapshot('two', idOf(2));
    },
    act: (host) =>
      host.cells.perform({
        volume: VOLUME,
        epoch: 1,
        parent: null,
        operation: { kind: 'snapshot-delete', id: S1, name: 'one' },
      }),
    found: ['one two', 'two'],
    after: 'two',
    stateOf: async (host) => visibleOf(host),
  },
  {
    name: 'forget-snapshot',
    before: async (host) => {
      await host.snapshot('two', idOf(2));
      await host.seal(SEAL);
      await host.command({ do: 'release', releasedTo: 2 });
    },
    act: command({ do: 'forget-snapshot', id: S1 }),
    found: ['one two', 'two'],
    after: 'two',
    stateOf: async (host) => visibleOf(host),
  },
  {
    name: 'delete',
    before: async () => undefined,
    act: command({ do: 'delete', epoch: 1 }),
    found: ['ACTIVE 1', 'NONE 0'],
    after: 'NONE 0',
  },
];

/** A volume with a snapshot and something written since, by a client that stays. */
async function furnished({ before }: Case): Promise<CellHost> {
  const host = await CellHost.make();
  await host.claimed();
  const session = await host.store.plane.connect('v');
  await session.write(0, [10, 11]);
  await host.snapshot('one', S1);
  await session.write(1, [12]);
  session.flush();
  await before(host);
  return host;
}

function visibleOf(host: CellHost): string {
  return host.store.operations
    .listSnapshots('v')
    .map(({ name }) => name)
    .join(' ');
}

async function stateOf(host: CellHost, volume = VOLUME): Promise<string> {
  const { state, lineageHead } = await host.cells.probe(volume, []);
  return `${state} ${lineageHead?.seq ?? 0}`;
}

for (const one of CASES)
  for (const how of ['process-death', 'power-loss'] as const)
    t.test(`${one.name}: ${how} at every point`, async (t) => {
      let points = 0;
      const seen = new Set<string>();
      for (let point = 1; ; point++) {
        const host = await furnished(one);
        let left = point;
        const dieHere = () => {
          if (--left === 0) host.store.die(how);
        };
        host.store.plane.onStep = dieHere;
        host.store.level.onBatch = dieHere;
        let said: SaidOutcome | null = null;
        const end = await host.store.survive(async () => {
          said = await one.act(host);
        });
        host.store.plane.onStep = () => undefined;
        host.store.level.onBatch = () => undefined;
        await host.restart(how);
        const found = await (one.stateOf ?? stateOf)(host);
        seen.add(found);
        if (said !== null) t.equal(found, one.after, `point ${point}: what was answered counts`);
        t.ok(one.found.includes(found), `point ${point}: ${found}`);
        t.strictSame(await metadataErrors(host.store), [], `point ${point}`);
        const again = await one.act(host);
        t.equal(again.kind, 'done', `point ${point}: ${JSON.stringify(again)}`);
        t.equal(await (one.stateOf ?? stateOf)(host), one.after, `point ${point}: asked again`);
        await checkBytes(t, host, one, point);
        await host.store.end();
        if (end === 'ended') break;
        points = point;
      }
      t.ok(points > 1, `${points} points`);
      t.comment(`${points} points, found ${[...seen].join(', ')}`);
      t.strictSame([...seen].sort(), [...one.found].sort(), 'before and after were both met');
    });

async function checkBytes(t: Test, host: CellHost, { name }: Case, point: number): Promise<void> {
  if (name === 'delete') return;
  const read = async (what: string) => (await host.store.readAll(what)).slice(0, 2);
  if (name === 'keep-fork') {
    t.strictSame(await read('fork@one'), [10, 11], `point ${point}: the snapshot of the fork`);
    t.strictSame(await read('fork'), [10, 12], `point ${point}: the fork`);
    const { lineage } = await host.cells.probe(FORK, []);
    t.strictSame(Object.keys(lineage), ['1'], `point ${point}: its lineage`);
    t.not(lineage[1], S1, `point ${point}: under ids of its own`);
    t.strictSame(hiddenOf(host), [], `point ${point}: nothing hidden is left`);
    return;
  }
  if (name === 'carry') {
    t.strictSame(hiddenOf(host), [CARRIED[1], CARRIED[2]], `point ${point}: the last two are kept`);
    t.strictSame(await read(`v@${hiddenName(CARRIED[2])}`), [10, 12], `point ${point}: the delta`);
  }
  if (name === 'snapshot-delete' || name === 'forget-snapshot') {
    t.strictSame(await read('v@two'), [10, 12], `point ${point}: the snapshot behind it`);
    return;
  }
  t.strictSame(await read('v@one'), [10, 11], `point ${point}: the first snapshot`);
  if (name === 'snapshot') t.strictSame(await read('v@two'), [10, 12], `point ${point}: the second one`);
  if (name === 'seal' || name === 'activate')
    t.strictSame(await read(`v@.carry-${SEAL.slice(0, 16)}`), [10, 12], `point ${point}: the seal`);
  if (name === 'activate' || name === 'snapshot')
    t.strictSame(await read('v'), [10, 12], `point ${point}: the volume`);
}

function hiddenOf(host: CellHost): string[] {
  const { snapshots } = host.store.operations.parts.catalog;
  return [...snapshots.values()].filter(({ name }) => isHiddenName(name)).map(({ id }) => id);
}

t.test(
  'metadata that cannot be written for a while: the answer waits, and says what became of it',
  async (t) => {
    for (const one of CASES)
      for (const failures of [1, 9]) {
        const host = await furnished(one);
        host.store.level.failures = Array.from({ length: failures }, (_, index) => ({
          applied: index % 2 === 0,
        }));
        const said = await one.act(host);
        t.equal(said.kind, 'done', `${one.name}, ${failures} failures: ${JSON.stringify(said)}`);
        t.equal(await (one.stateOf ?? stateOf)(host), one.after);
        await host.restart('power-loss');
        t.equal(await (one.stateOf ?? stateOf)(host), one.after, 'and it is durable');
        await checkBytes(t, host, one, failures);
        t.strictSame(await metadataErrors(host.store), []);
        await host.store.end();
      }
  },
);
