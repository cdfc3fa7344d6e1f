// The command line of cells against real agents and a real coordinator on loopback: volumes claimed, snapshotted, resized and deleted through the
// coordinator, why it decides as it does, and what every wrong word gets.

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { PAGE_COLUMNS } from '../../src/commands/paragraph.js';
import { CellAgent, CoordinatorProcess } from '../support/coordinator-process.js';
import { MIB } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

t.setTimeout(600_000);

const ID = '[0-9a-f]{32}';

function place(t: Test): string {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-cells-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Scene {
  coordinator: CoordinatorProcess;
  east: CellAgent;
}

async function scene(t: Test, hosts: Record<string, string> = { h1: 'east' }): Promise<Scene> {
  const coordinator = await CoordinatorProcess.start(t, { directory: place(t), hosts });
  const east = await CellAgent.start(t, coordinator, { host: 'h1', cell: 'east' });
  return { coordinator, east };
}

async function claimed({ east }: Scene, name = 'v'): Promise<void> {
  await east.daemon.api.createVolume(name, 4 * MIB);
  await east.said('route', 'claim', name, '--host', 'h1');
}

async function write(t: Test, { daemon }: CellAgent, byte: number): Promise<void> {
  const { client } = await RawNbd.open(daemon.nbdPath, 'v');
  t.equal((await client.command({ type: 1, offset: 0, length: 4096 }, Buffer.alloc(4096, byte))).error, 0);
  client.close();
}

async function read({ daemon }: CellAgent): Promise<Buffer> {
  const { client } = await RawNbd.open(daemon.nbdPath, 'v');
  const { data } = await client.command({ type: 0, offset: 0, length: 4096 });
  client.close();
  return data;
}

t.test('a volume of a cell through its life, by the coordinator', async (t) => {
  const at = await scene(t);
  const { east } = at;
  t.match(await east.said('route', 'list'), /^No volume has a route\. .*route claim/);
  await east.daemon.api.createVolume('v', 4 * MIB);
  await east.said('snapshot', 'create', 'v@before');
  t.equal(
    await east.said('route', 'claim', 'v', '--host', 'h1'),
    'Volume v belongs to cell east, at host h1, with 1 snapshot.\n',
  );
  t.match(await east.said('route', 'list'), /^VOLUME +CELL +HOST .*\nv +east +h1 +open +1 +1 *\n$/);

  t.equal(
    await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator'),
    'Snapshot v@one taken at east/h1: number 2 of its lineage (stay).\n',
  );
  t.equal(await east.said('snapshot', 'create', 'v@two', '--local'), 'Snapshot v@two taken.\n');
  t.match(
    await east.said('snapshot', 'create', 'v@three', '--via', 'coordinator'),
    /number 4 of its lineage/,
    'a local one counts',
  );
  t.match(await east.said('snapshot', 'list', 'v'), /v@before.*\nv@one.*\nv@two.*\nv@three/);

  t.equal(
    await east.said('snapshot', 'delete', 'v@one', 'v@two', '--via', 'coordinator'),
    'Snapshot v@one deleted at east/h1.\nSnapshot v@two deleted at east/h1.\n',
  );
  t.notMatch(await east.said('snapshot', 'list', 'v'), /v@one|v@two/);
  const pinned = await east.cli('snapshot', 'delete', 'v@three', '--via', 'coordinator');
  t.match(pinned, { code: 5, stderr: /v@three is the last one of its lineage/ });

  t.match(
    await east.said('volume', 'resize', 'v', '--size', '8M', '--via', 'coordinator'),
    'Volume v has 8M now, at east/h1;',
  );
  t.match(await east.said('volume', 'show', 'v'), /Size +8M .*[\s\S]*Cell +primary, ACTIVE, epoch 1, 4 snap/);

  t.match(await east.said('cell', 'list'), /^CELL +VOLUMES +HOSTS\neast +1 +h1\n$/);
  t.match(await east.said('cell', 'show', 'east'), /Volumes +v\nArriving +-/);
  t.match(await east.said('host', 'list'), /\nh1 +east +connected +1 +0 +.*tcp:127\.0\.0\.1:\d+/);
  t.match(await east.said('host', 'show', 'h1'), new RegExp(`\\nv +primary +1 +${ID}\\n`));
  t.match(await east.said('status'), 'connected to c1');

  t.equal(await east.said('volume', 'delete', 'v', '--via', 'coordinator'), 'Volume v deleted.\n');
  t.match(await east.said('volume', 'list'), 'No volumes.');
});

t.test('several volumes in one instant, by the coordinator', async (t) => {
  const at = await scene(t);
  await claimed(at, 'a');
  await claimed(at, 'b');
  t.match(
    await at.east.said('snapshot', 'create', 'a@x', 'b@x', '--via', 'coordinator'),
    /^Snapshot a@x taken at host h1: number 1 .*\nSnapshot b@x .*\nIn one instant; clients were held: h1 \d+\.\d ms\.\n$/,
  );
});

t.test(
  'route show --explain: what is known, both answers, the rules with their sentences, what was done',
  async (t) => {
    const at = await scene(t);
    await claimed(at);
    const { east } = at;
    t.match(
      await east.said('route', 'show', 'v'),
      /^ROUTE\nVolume +v\nId +[0-9a-f]{32}\nState +open\nEpoch +1 /,
    );
    await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator');
    const { client } = await RawNbd.open(east.daemon.nbdPath, 'v');
    t.equal((await client.command({ type: 1, offset: 0, length: 4096 }, Buffer.alloc(4096, 7))).error, 0);
    client.close();
    const page = await east.said('route', 'show', 'v', '--explain');
    t.comment(page);
    t.match(
      page,
      /\nANSWERS +x: east\/h1 +y: none\nstate +ACTIVE +-\nepoch +1 +-\nlast snapshot +1 \([0-9a-f]{8}\)/,
    );
    t.match(page, /\nwritten to since +yes/);
    t.match(page, /\nRules, in the order they were looked at:\n {2}stay +yes {2}\S/, 'the rule, and why');
    t.match(
      page,
      /\nA snapshot asked for now would be taken, by the rule stay:\n {2}1\. do what is asked at x\n/,
    );
    t.match(page, /\n {2}#1 \d{4}-.* {2}snapshot.*: x was ACTIVE \(epoch 1, 0 snapshots\), y NONE, so stay/);
    t.match(page, /\n +result: .+/);
    const longest = Math.max(...page.split('\n').map((line) => line.length));
    t.ok(longest <= PAGE_COLUMNS, `${longest} columns`);
    const { explained } = await east.json<{ explained: { rule: string; decisions: unknown[] } }>(
      'route',
      'show',
      'v',
      '--explain',
    );
    t.match(explained, { rule: 'stay', decisions: [{ rule: 'stay' }] }, 'the same for programs');
  },
);

t.test('wrong words: one sentence, what to do, an exit code, and nothing is done', async (t) => {
  const at = await scene(t);
  await claimed(at);
  const { east } = at;
  await east.said('volume', 'create', 'unclaimed', '--size', '1M');
  const before = [await east.said('route', 'list'), await east.said('snapshot', 'list')];
  const wrong: [words: string, code: number, says: RegExp][] = [
    ['snapshot create v@x', 7, /belongs to a cell\. .*--via coordinator/],
    [
      'snapshot create v@x --local --via coordinator',
      2,
      /--local and --via coordinator do not go together\./,
    ],
    ['snapshot create v@x --via pigeon', 2, /Nothing goes via "pigeon"\. Write --via coordinator/],
    ['snapshot create v@x --via coordinator --for 1h', 2, /--for and --via coordinator do not go together/],
    ['snapshot create v@x --again 12', 2, /--again is of what was asked via the coordinator/],
    ['snapshot create v@x --via coordinator --again 12', 2, /"12" is no id of a call/],
    ['snapshot create unclaimed@x --via coordinator', 3, /unclaimed.*cellblock route claim/],
    ['snapshot create v@x v@y --via coordinator', 2, /named twice/],
    ['volume delete v', 7, /belongs to a cell\. .*--via coordinator/],
    ['volume delete v --via coordinator --wait', 2, /--wait and --via coordinator do not go together/],
    ['volume resize v --size 8M', 7, /belongs to a cell\./],
    ['volume resize v --size 1M --via coordinator', 7, /would shrink|shrink/],
    ['volume resize v --size 8M --force --via coordinator', 2, /--force and --via coordinator/],
    ['cell show nowhere', 3, /There is no cell nowhere\. Run `cellblock cell list`/],
    ['cell show not/a/name', 2, /"not\/a\/name" cannot be the name of a cell\./],
    ['cell create east', 4, /There is a cell east already\./],
    ['cell split east', 2, /'--into <cell>' is missing\. Say which cell/],
    ['cell split east --into east', 2, /split into another one/],
    ['cell split east --into nowhere', 3, /There is no cell nowhere/],
    ['cell split east --into west --with-bases --unshare', 2, /--with-bases and --unshare are opposites\./],
    ['cell split east --into west --dry-run --wait', 2, /--dry-run begins nothing/],
    ['host drain h1 --with-bases --unshare', 2, /--with-bases and --unshare are opposites\./],
    ['replica remove v --host h1', 3, /Host h1 is no replica of volume v\./],
    ['quarantine adopt v --cell nowhere', 7, /Nothing of volume v waits/],
    ['cell split east --int west', 2, /unknown option '--int'|Did you mean --into/],
    ['cell promote v --host h9', 3, /Host h9 is no replica of volume v\./],
    ['cell promote v', 2, /'--host <host>' is missing/],
    ['cell rollback nowhere', 3, /There is no cell nowhere/],
    ['replica add v --host h9', 6, /Host h9 is not connected/],
    ['host show h9', 3, /No host h9 has ever joined\./],
    ['host drain h9', 3, /No host h9 has ever joined\./],
    ['host drain h1', 7, /Cell east has no other host that takes copies\./],
    ['host readmit h1', 7, /h1/],
    ['move v', 2, /'--to <cell>' is missing/],
    ['move v --to east', 2, /Volume v is in cell east already\./],
    ['move v --to nowhere', 3, /There is no cell nowhere/],
    ['move v@x --to east', 2, /is a snapshot, not a volume\. Snapshots move with their volume/],
    ['move v --to east --dry-run --wait', 2, /--dry-run begins nothing/],
    ['move status v', 3, /Volume v is not on the move\./],
    ['move cancel v', 3, /Volume v is not on the move\./],
    ['route show ghost', 3, /ghost.*/],
    ['route show v@x', 2, /is a snapshot, not a volume/],
    ['route claim ghost --host h1', 3, /h1: .*ghost/],
    ['route claim unclaimed', 2, /'--host <host>' is missing/],
    ['route claim v --host h1', 4, /A volume v has a route already\./],
    ['route claim unclaimed --host h9', 6, /Host h9 is not connected/],
    ['route forget v', 5, /The route of volume v is open\./],
    ['quarantine adopt v --cell east', 7, /Nothing of volume v waits for an operator\./],
    ['quarantine adopt v', 2, /'--cell <cell>' is missing/],
    ['quarantine keep-fork v', 2, /'--as <name>' is missing/],
    ['quarantine keep-fork v --as w', 7, /Nothing of volume v waits/],
    ['quarantine discard v', 7, /Nothing of volume v waits/],
    ['cell', 2, /A command is missing\./],
    ['quarantine lst', 2, /[Uu]nknown command 'lst'/],
  ];
  for (const [words, code, says] of wrong) {
    const outcome = await east.cli(...words.split(' '));
    t.match({ code: outcome.code, stderr: outcome.stderr }, { code, stderr: says }, words);
    t.equal(outcome.stdout, '', `${words}: nothing on stdout`);
    t.notMatch(outcome.stderr, /inside cellblock/, `${words}: no defect`);
  }
  t.same([await east.said('route', 'list'), await east.said('snapshot', 'list')], before, 'nothing was done');
  t.equal(await east.said('quarantine', 'list'), 'No volume is in quarantine.\n');
});

t.test('a coordinator that is not there: nothing is done, and local work goes on', async (t) => {
  const at = await scene(t);
  await claimed(at);
  const { coordinator, east } = at;
  t.equal(await coordinator.stop(), 0);
  const outcome = await east.cli('snapshot', 'create', 'v@x', '--via', 'coordinator');
  t.match(outcome, {
    code: 6,
    stderr: /Host h1 is connected to no coordinator; the last one was c1\. Nothing was done/,
  });
  t.equal(await east.said('snapshot', 'create', 'v@local', '--local'), 'Snapshot v@local taken.\n');
  t.match(JSON.parse((await east.cli('--json', 'route', 'list')).stderr), {
    error: { kind: 'busy', code: 'coordinator-unreachable' },
  });
  await coordinator.run();
  await east.connected();
  t.match(await east.said('route', 'list'), /\nv +east +h1 +open/, 'its state is there again');
});

t.test('a move that is begun, looked at and turned back; what several moves would be', async (t) => {
  const at = await scene(t, { h1: 'east', h2: 'west' });
  const { coordinator, east } = at;
  const west = await CellAgent.start(t, coordinator, { host: 'h2', cell: 'west' });
  await claimed(at);
  await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator');
  t.equal(
    await west.said('move', 'v', '--to', 'west', '--dry-run'),
    'Volume v (4M) would move from east/h1 to west/h2.\nTo be sent: 1 snapshot, then what is written meanwhile.\n',
    'asked anywhere',
  );
  t.match(
    await east.said('cell', 'split', 'east', '--into', 'west', '--volumes', 'v', '--dry-run'),
    /^VOLUME +TO +SEND +THERE +MOVE\nv +west\/h2 +1 snapshot +0 +would begin\n$/,
  );
  t.match(await east.cli('cell', 'split', 'east', '--into', 'west', '--volumes', 'v,ghost'), { code: 3 });
  t.match(
    await east.said('cell', 'split', 'east', '--into', 'west', '--dry-run'),
    /^Nothing was moved: nothing is being written to volumes of cell east\./,
  );

  // Its destination is stopped, so that it cannot end before it is turned back.
  process.kill(west.daemon.pid, 'SIGSTOP');
  t.match(
    await east.said('move', 'v', '--to', 'west'),
    /is on the move from east\/h1 to west\/h2\.[\s\S]*See `cellblock move status v`/,
  );
  t.match(await east.cli('move', 'v', '--to', 'west'), {
    code: 5,
    stderr: /Volume v is on the move to cell west\./,
  });
  t.match(
    await east.said('move', 'status', 'v'),
    /^MOVE\nVolume +v\nFrom +east\/h1\nTo +west\/h2\nState +(PREPARED|COPYING)\n/,
  );
  t.match(await east.said('cell', 'show', 'west'), /Arriving +v\n/);
  const page = await east.said('route', 'show', 'v', '--explain');
  t.comment(page);
  t.match(page, /\nMove +east\/h1 to west\/h2: (PREPARED|COPYING)\n/);
  t.match(page, /\nANSWERS +x: east\/h1 +y: west\/h2\nstate +\S+ +UNKNOWN \(no answer\)\nepoch +1 +-\n/);
  t.match(page, /\nA snapshot asked for now would be taken, by the rule stay-alone:/);
  t.match(await east.said('cell', 'rollback', 'west'), /^VOLUME +TURNED BACK +WHY\nv +yes +it was at /);
  const turnedBack = () =>
    until('the move to be turned back, without its destination', async () =>
      (await east.said('move', 'status', 'v')).includes('over: turned back, the volume is where it was'),
    );
  await turnedBack();
  t.match(await east.cli('move', 'cancel', 'v'), { code: 3, stderr: /Volume v is not on the move/ });
  process.kill(west.daemon.pid, 'SIGCONT');
  await until(
    'the copy to be given back',
    async () => !(await east.said('route', 'show', 'v')).includes('west/h2'),
  );
  process.kill(west.daemon.pid, 'SIGSTOP');
  await east.said('move', 'v', '--to', 'west');
  t.match(await east.said('move', 'cancel', 'v'), 'The move of volume v is being turned back.');
  await turnedBack();
  process.kill(west.daemon.pid, 'SIGCONT');
  t.match(
    await east.said('snapshot', 'create', 'v@two', '--via', 'coordinator'),
    'taken at east/h1: number 2',
  );
});

t.test('a move through to its end and back: only what the other cell lacks is sent', async (t) => {
  const at = await scene(t, { h1: 'east', h2: 'west' });
  const { coordinator, east } = at;
  const west = await CellAgent.start(t, coordinator, { host: 'h2', cell: 'west' });
  await claimed(at);
  await write(t, east, 7);
  await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator');
  await write(t, east, 8);
  t.match(
    await east.said('move', 'v', '--to', 'west', '--wait'),
    /\nVolume v is in cell west, at host h2\.\n$/,
  );
  t.match(await east.said('move', 'status', 'v'), 'over: the volume is at its destination');
  t.same(await read(west), Buffer.alloc(4096, 8), 'what was written since the snapshot came along');
  t.match(
    await east.said('snapshot', 'create', 'v@two', '--via', 'coordinator'),
    /taken at west\/h2: number 2 /,
  );
  const page = await east.said('route', 'show', 'v', '--explain');
  t.comment(page);
  t.match(page, /\nANSWERS +x: west\/h2 +y: east\/h1\nstate +ACTIVE +SEALED\nepoch +2 +1\n/);
  t.match(page, /\nreleased to epoch +- +2\n/);
  t.match(
    await east.said('move', 'v', '--to', 'east', '--wait'),
    /are there already[\s\S]*\nVolume v is in cell east, at host h1\.\n$/,
  );
  t.same(await read(east), Buffer.alloc(4096, 8));
  t.match(await east.said('snapshot', 'list', 'v'), /v@one.*\nv@two/);
  t.match(await east.said('route', 'list'), /\nv +east +h1 +open +3 +2 +h2 *\n$/);
});

t.test(
  'a coordinator that has lost its state: volumes get their routes again, remains are deleted',
  async (t) => {
    const at = await scene(t, { h1: 'east', h2: 'west' });
    const { coordinator, east } = at;
    const west = await CellAgent.start(t, coordinator, { host: 'h2', cell: 'west' });
    await claimed(at);
    await write(t, east, 7);
    await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator');
    await write(t, east, 8);
    await east.said('move', 'v', '--to', 'west', '--wait');
    const [, id] = /"volume": *"([0-9a-f]{32})"/.exec(await east.said('route', 'show', 'v', '--json'))!;
    await coordinator.kill();
    rmSync(coordinator.state, { recursive: true });
    await coordinator.run();
    for (const agent of [east, west]) {
      await until(`${agent.host} at the new one`, async () =>
        new RegExp(`\\n${agent.host} +\\S+ +connected`).test(await east.said('host', 'list').catch(() => '')),
      );
    }
    t.match(await east.said('route', 'list'), /^No volume has a route\./);
    t.same(await read(west), Buffer.alloc(4096, 8), 'it is served all the time');
    t.match(await east.said('host', 'show', 'h2'), new RegExp(`\\n- +ACTIVE +2 +${id}\\n`));
    t.match(await east.cli('route', 'claim', 'v', '--host', 'h1'), {
      code: 7,
      stdout: '',
      stderr: /Volume v belongs to a cell already, and host h1, where it is SEALED, does not own it\./,
    });
    t.equal(
      await east.said('route', 'claim', 'v', '--host', 'h2'),
      'Volume v belongs to cell west, at host h2, with 1 snapshot.\n',
    );
    t.match(await east.said('route', 'list'), /\nv +west +h2 +open +2 +1 *\n/);
    t.match(
      await east.said('snapshot', 'create', 'v@two', '--via', 'coordinator'),
      /taken at west\/h2: number 2 /,
    );
    t.equal(
      await east.said('host', 'purge', 'h1', 'v'),
      'Host h1 has nothing of volume v any more.\n',
      'the owner has all of it',
    );
    t.match(await east.said('volume', 'list'), 'No volumes.');
    t.match(
      await east.said('move', 'v', '--to', 'east', '--wait'),
      /\nVolume v is in cell east, at host h1\.\n$/,
    );
    t.same(await read(east), Buffer.alloc(4096, 8));
    t.equal((await east.cli('host', 'purge', 'h2', id!)).code, 5, 'its route names it');
  },
);

t.test('a split of clones: the base is named, then brought along once, shown, and removed', async (t) => {
  const at = await scene(t, { h1: 'east', h2: 'west' });
  const { coordinator, east } = at;
  const west = await CellAgent.start(t, coordinator, { host: 'h2', cell: 'west' });
  await claimed(at);
  await write(t, east, 7);
  await east.said('snapshot', 'create', 'v@golden', '--via', 'coordinator');
  for (const clone of ['c1', 'c2']) {
    await east.said('clone', 'v@golden', clone);
    await east.said('route', 'claim', clone, '--host', 'h1');
  }
  const words = ['cell', 'split', 'east', '--into', 'west', '--volumes', 'c1,c2'];
  const refused = await east.cli(...words);
  t.match(refused, {
    code: 7,
    stdout:
      /\nc1 .*not begun: Volume c1 continues snapshots of volume v, which host h2 does not have\. .*--with-bases/,
    stderr: /2 of 2 moves could not be begun\./,
  });
  t.match(
    await east.said(...words, '--with-bases', '--dry-run'),
    /\nc1 +west\/h2 .*would begin\nc2 .*would begin\nBefore c1, to host h2: 1 snapshot of volume v \(4M\), which it continues\.\nc2 waits for volume v, which it continues\.\n$/,
  );
  t.match(await east.said('host', 'show', 'h2'), /^(?![\s\S]*FOR OTHERS)/, 'nothing was begun');
  t.match(
    await east.said(...words, '--with-bases', '--wait'),
    /\nVolume c1 is in cell west, at host h2\.\nVolume c2 is in cell west, at host h2\.\n$/,
  );
  for (const clone of ['c1', 'c2'])
    t.match(await west.said('volume', 'list'), new RegExp(`\\n${clone} +4M .* ok `));
  t.match(await west.said('volume', 'list'), /\nv +4M .* replica \(for c1 and 1 more\) /);
  t.match(
    await west.said('volume', 'show', 'v'),
    /\nCell +replica, .*not served here, continued here by c1, c2 /,
  );
  const host = await east.said('host', 'show', 'h2');
  t.match(host, /\nFOR OTHERS +THROUGH +CONTINUED BY +KEPT +ID\nv +snapshot 1 +c1, c2 +until \d{4}-/);
  t.notMatch(host, 'WITHOUT A ROUTE');
  t.equal(await east.said('replica', 'remove', 'v', '--host', 'h2'), 'Replicas of volume v: none.\n');
  t.notMatch(await west.said('volume', 'list'), /\nv /);
  const { client } = await RawNbd.open(west.daemon.nbdPath, 'c2');
  const { data } = await client.command({ type: 0, offset: 0, length: 4096 });
  client.close();
  t.same(data, Buffer.alloc(4096, 7), 'what continues it keeps its data');
});

t.test('a lost primary: what would be lost is said before anything is done', async (t) => {
  const at = await scene(t, { h1: 'east', h3: 'east' });
  const { coordinator, east } = at;
  const other = await CellAgent.start(t, coordinator, { host: 'h3', cell: 'east' });
  await claimed(at);
  await east.said('snapshot', 'create', 'v@one', '--via', 'coordinator');
  t.equal(await east.said('replica', 'add', 'v', '--host', 'h3'), 'Replicas of volume v: h3.\n');
  // A replica that has nothing is not promoted.
  await until('the replica to be complete', async () =>
    /\nReplica h3 +complete through 1/.test(await east.said('route', 'show', 'v')),
  );
  t.match(await other.cli('cell', 'promote', 'v', '--host', 'h3', '--accept-loss'), {
    code: 7,
    stderr: /Host h1 owns volume v and answers\./,
  });
  await write(t, east, 7);
  await east.daemon.kill();
  const asked = await until('the replica to be asked', async () => {
    const outcome = await other.cli('cell', 'promote', 'v', '--host', 'h3');
    return outcome.stderr.includes('would be lost') ? outcome : null;
  });
  t.match(asked, {
    code: 7,
    stdout: '',
    stderr: /Everything written to volume v since .* would be lost.*--accept-loss/,
  });
  t.match(await other.said('route', 'list'), /\nv +east +h1 /, 'nothing was done');
  const done = await other.cli('cell', 'promote', 'v', '--host', 'h3', '--accept-loss');
  t.match(done, {
    code: 0,
    stderr: /^Everything written to volume v since .* would be lost/,
    stdout: /^Volume v is at host h3 under epoch 2\. Lost: what was written since /,
  });
  t.match(
    await other.said('route', 'show', 'v'),
    /\nActive \(x\) +east\/h3, epoch 2\nAlternate \(y\) +east\/h1, epoch 1; has to be sealed below epoch 2; somebody has to look after it\n/,
  );

  await other.said('host', 'forget', 'h1', '--yes');
  await east.daemon.run();
  await until('its return', async () =>
    /\nState +connected, regressed\n/.test(await other.said('host', 'show', 'h1').catch(() => '')),
  );
  t.match(await other.cli('host', 'purge', 'h1', 'v', '--accept-loss', '--yes'), {
    code: 7,
    stdout: '',
    stderr: /Host h1 .* is held back\.[\s\S]*cellblock host readmit h1/,
  });
  await other.said('host', 'readmit', 'h1', '--yes');
  t.match(await other.said('host', 'show', 'h1'), /\nWITHOUT A ROUTE +STATE +EPOCH +ID\nv +SEALED /);
  t.match(await other.cli('host', 'purge', 'h1', 'v'), {
    code: 7,
    stdout: '',
    stderr:
      /Host h1 has of volume v what host h3 is not known to have: what was written since snapshot 1\.[\s\S]*--accept-loss/,
  });
  t.match(await other.cli('host', 'purge', 'h1', 'v', '--accept-loss'), {
    code: 0,
    stderr: /^Host h1 has of volume v what host h3 is not known to have: /,
    stdout: 'Host h1 has nothing of volume v any more.\n',
  });
  t.notMatch(await other.said('host', 'show', 'h1'), 'WITHOUT A ROUTE');
  t.match(await other.cli('host', 'purge', 'h1', 'v'), {
    code: 3,
    stderr: /Host h1 has nothing of volume v\./,
  });
  t.match(await other.cli('host', 'purge', 'h1'), { code: 2, stderr: /Missing required argument 'name'/ });
  t.match(await other.cli('host', 'purge', 'h1', 'v@one'), {
    code: 2,
    stderr: /all its snapshots go with it/,
  });
});
