// Who copies volumes: hosts of cells read snapshots of volumes that are not for everybody, and gain nothing else by it.

import { constants } from 'node:os';
import t from 'tap';
import type { Peer } from '../../../src/plane/treaty.js';
import { CellHost, VOLUME } from '../../support/cell-host.js';

const { EACCES } = constants.errno;
const URI = 'cellblock://cell/west/host/db-1';

const peer = (host: string): Peer => ({
  name: 'tcp:192.0.2.1:5',
  uid: -1,
  identity: 'x509:db-1',
  tls: true,
  host,
});

async function openedBy(host: CellHost, who: Peer, name: string): Promise<number> {
  host.store.plane.peer = who;
  try {
    (await host.store.plane.connect(name)).close();
    return 0;
  } catch (error) {
    return (error as { errno: number }).errno;
  }
}

t.test('the snapshots of a volume of a cell are for hosts too, its current map is not', async (t) => {
  const host = await CellHost.make();
  const { operations, plane } = host.store;
  const access = { sizeBytes: 65536n, allow: ['uid:7'] };
  for (const name of ['v', 'local']) {
    await operations.createVolume(name, access);
    await operations.createSnapshots([{ volume: name, snapshot: 's' }]);
  }
  await host.cells.claim(VOLUME, 'v');
  t.equal(await openedBy(host, peer(URI), 'v@s'), 0);
  t.equal(await openedBy(host, peer(URI), 'v'), EACCES);
  t.equal(await openedBy(host, peer(URI), 'local@s'), EACCES, 'a volume of no cell is copied by nobody');
  t.strictSame(await plane.list(), [], 'it is told of none');
  for (const no of ['', 'cellblock://cell/west', 'cellblock://cell/we st/host/db-1', `${URI}/x`, 'db-1'])
    t.equal(await openedBy(host, peer(no), 'v@s'), EACCES, JSON.stringify(no));
  plane.peer = peer('');
  await host.store.end();
});
