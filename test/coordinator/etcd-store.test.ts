// etcd for real, three members: the contract of stores, lost answers, late copies of writes, TLS and users. What members' failures do to all of
// it is in etcd-faults.test.ts.

import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { EtcdClient, EtcdFailure } from '../../src/coordinator/etcd-client.js';
import { EtcdKeys, type RangeAnswer } from '../../src/coordinator/etcd-keys.js';
import { EtcdStore } from '../../src/coordinator/etcd-store.js';
import { Certificates } from '../support/certificates.js';
import { EtcdCluster, noEtcd } from '../support/etcd-cluster.js';
import { HandFence } from '../support/hand-fence.js';
import { idOf } from '../support/protocol-samples.js';
import { operationOf, routeOf, storeContract } from '../support/store-contract.js';

const skip = noEtcd();

/** `unanswered`: it is carried out and nobody hears; `kept`: it is carried out when the test releases it. */
type Fate = 'pass' | 'unanswered' | 'kept';

/** Between a client and a member: does with each request what the test says. */
class Meddler {
  readonly #server;
  readonly #target: string;
  fate: (path: string) => Fate | Promise<Fate> = () => 'pass';
  readonly kept: (() => Promise<void>)[] = [];

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer((request, response) => void this.#meddle(request, response));
  }

  static async begin(t: Test, target: string): Promise<Meddler> {
    const meddler = new Meddler(target);
    await new Promise<void>((resolve) => meddler.#server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      meddler.#server.close();
      meddler.#server.closeAllConnections();
    });
    return meddler;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What was kept comes now, in the order of sending. */
  async release(): Promise<void> {
    for (const send of this.kept.splice(0)) await send();
  }

  async #meddle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const [path, body] = [request.url ?? '', Buffer.concat(parts)];
    const fate = await this.fate(path);
    const send = () => this.#send(path, body);
    if (fate === 'kept') {
      this.kept.push(async () => void (await send()));
      return void request.socket.destroy();
    }
    const reply = await send();
    if (fate === 'unanswered') return void request.socket.destroy();
    response.writeHead(reply.status, { 'content-type': 'application/json' });
    response.end(reply.text);
  }

  #send(path: string, body: Buffer): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const onward = httpRequest(new URL(path, this.#target), { method: 'POST' }, async (response) => {
        const parts: Buffer[] = [];
        for await (const part of response) parts.push(part as Buffer);
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString() });
      });
      onward.on('error', reject);
      onward.end(body);
    });
  }
}

t.test('etcd', { skip }, async (t) => {
  const cluster = await EtcdCluster.begin(t);

  /** A state of its own, whose first store leads. */
  const begin = async (t: Test) => {
    const client = cluster.client(t);
    const keys = new EtcdKeys(cluster.prefix());
    const lead = async () => EtcdStore.open(client, keys, await new HandFence().take(client, keys));
    return { store: await lead(), reopen: lead, rival: lead };
  };

  await t.test('the contract, in etcd', (t) => storeContract(t, begin));

  /** A store whose requests the test meddles with, and one that does not lead. */
  const meddled = async (t: Test) => {
    const direct = cluster.client(t);
    const keys = new EtcdKeys(cluster.prefix());
    const meddler = await Meddler.begin(t, cluster.endpoints[0]!);
    const client = new EtcdClient({ endpoints: [meddler.endpoint], attemptMs: 1_000, deadlineMs: 1_500 });
    t.teardown(() => client.close());
    const fence = await new HandFence().take(direct, keys);
    const store = await EtcdStore.open(client, keys, fence);
    const reader = await EtcdStore.open(direct, keys, new HandFence());
    return { direct, keys, meddler, fence, store, reader };
  };
  const isTxn = (path: string) => path === '/v3/kv/txn';

  await t.test('a write whose answer is lost is answered as what it was', async (t) => {
    const { store, meddler, reader } = await meddled(t);
    let lost = 0;
    const loseOne = () => {
      let left = 1;
      meddler.fate = (path) => {
        if (!isTxn(path) || left === 0) return 'pass';
        left--;
        lost++;
        return 'unanswered';
      };
    };
    loseOne();
    t.equal(await store.createRoute(routeOf(1)), 'stored');
    loseOne();
    t.equal(await store.createRoute(routeOf(1)), 'exists', 'known without asking');
    loseOne();
    t.match(await store.replaceRoute(routeOf(1, { gen: 1, name: 'x' })), { stored: true, route: { gen: 2 } });
    loseOne();
    await store.put([{ kind: 'operation', key: 'a', value: operationOf(1) }]);
    loseOne();
    t.equal(await store.removeRoute(idOf(1), 2), true);
    t.equal(lost, 4);
    t.equal(await reader.routeNamed('x'), null);
    t.ok(await reader.get('operation', 'a'));
  });

  await t.test('a write that never comes through is told as uncertain, and never comes late', async (t) => {
    for (const kind of ['kept', 'unanswered'] as const) {
      const { store, meddler, reader } = await meddled(t);
      await store.createRoute(routeOf(1));
      await store.put([{ kind: 'operation', key: 'a', value: operationOf(1, { askedBy: 'first' }) }]);
      const uncertain = { code: 'coordinator-state-uncertain' };
      meddler.fate = (path) => (isTxn(path) ? kind : 'pass');
      await t.rejects(store.replaceRoute(routeOf(1, { gen: 1, epoch: 5 })), uncertain);
      await t.rejects(
        store.put([{ kind: 'operation', key: 'a', value: operationOf(1, { askedBy: 'second' }) }]),
        {
          code: 'coordinator-state-unreachable',
        },
      );
      await t.rejects(
        store.route(idOf(1)),
        { code: 'coordinator-state-unreachable' },
        'not settled, so not known',
      );
      meddler.fate = () => 'pass';
      const { gen, epoch } = (await store.route(idOf(1)))!;
      t.same([gen, epoch], kind === 'kept' ? [1, 1] : [2, 5], kind);
      await meddler.release();
      t.same((await store.route(idOf(1)))?.gen, gen);
      t.same((await reader.route(idOf(1)))?.gen, gen, 'what was kept back does nothing any more');
      t.equal((await store.get('operation', 'a'))?.askedBy, 'first');
      t.equal((await store.replaceRoute(routeOf(1, { gen }))).stored, true);
    }
  });

  await t.test('an old put that comes late does not undo a newer one', async (t) => {
    const { store, meddler, reader } = await meddled(t);
    const value = (askedBy: string) =>
      [{ kind: 'operation', key: 'a', value: operationOf(1, { askedBy }) }] as const;
    await store.put(value('first'));
    meddler.fate = (path) => (isTxn(path) ? 'kept' : 'pass');
    await t.rejects(store.put(value('second')), { code: 'coordinator-state-uncertain' });
    t.ok(meddler.kept.length > 0);
    meddler.fate = () => 'pass';
    await store.put(value('third'));
    await meddler.release();
    t.equal((await store.get('operation', 'a'))?.askedBy, 'third');
    t.equal((await reader.get('operation', 'a'))?.askedBy, 'third');
  });

  await t.test('copies of a settling that come late do nothing either', async (t) => {
    const { store, meddler, reader } = await meddled(t);
    await store.createRoute(routeOf(1));
    let kept = 0;
    meddler.fate = (path) => {
      if (!isTxn(path)) return 'pass';
      kept++;
      return 'kept';
    };
    await t.rejects(store.replaceRoute(routeOf(1, { gen: 1 })), { code: 'coordinator-state-uncertain' });
    const ofWrite = kept;
    await t.rejects(store.route(idOf(1)), { code: 'coordinator-state-unreachable' });
    t.ok(kept > ofWrite, 'settling was tried');
    // A settling comes first, then the write.
    meddler.kept.reverse();
    meddler.fate = () => 'pass';
    await meddler.release();
    t.equal((await store.route(idOf(1)))?.gen, 1);
    t.equal((await reader.route(idOf(1)))?.gen, 1);
    t.equal((await store.replaceRoute(routeOf(1, { gen: 1 }))).stored, true);
  });

  await t.test('a late copy of a creation does not bring back what was removed', async (t) => {
    const { store, meddler, reader } = await meddled(t);
    let first = true;
    meddler.fate = (path) => {
      if (!isTxn(path) || !first) return 'pass';
      first = false;
      return 'kept';
    };
    t.equal(await store.createRoute(routeOf(1)), 'stored', 'by its second copy');
    t.equal(await store.removeRoute(idOf(1), 1), true);
    await meddler.release();
    t.equal(await reader.routeNamed('v1'), null);
    t.equal(await store.routeNamed('v1'), null);
  });

  await t.test('who is deposed while an answer is lost says that it does not know', async (t) => {
    const { store, meddler, fence, direct, keys } = await meddled(t);
    await store.createRoute(routeOf(1));
    const other = new HandFence();
    const taken = other.take(direct, keys);
    let copies = 0;
    meddler.fate = (path) => (isTxn(path) && copies++ === 0 ? 'kept' : taken.then(() => 'pass' as const));
    await t.rejects(store.replaceRoute(routeOf(1, { gen: 1 })), { code: 'coordinator-state-uncertain' });
    t.equal(copies, 2);
    await t.rejects(store.replaceRoute(routeOf(1, { gen: 1 })), { code: 'not-leader' });
    t.equal(fence.fence, null);
    const next = await EtcdStore.open(direct, keys, other);
    await meddler.release();
    t.equal((await next.route(idOf(1)))?.gen, 1, 'the old one’s copy does nothing under the new leader');
  });

  await t.test('what somebody changed by hand is seen by the next write', async (t) => {
    const { store, direct, keys } = await meddled(t);
    await store.createRoute(routeOf(1));
    const mine = routeOf(1, { gen: 7, name: 'by hand' });
    await direct.ask('/v3/kv/txn', {
      compare: [],
      success: [
        keys.put(`route/${idOf(1)}`, JSON.stringify(mine)),
        keys.put(`route/${idOf(2)}`, JSON.stringify(routeOf(2, { gen: 1 }))),
      ],
      failure: [],
    });
    t.same(await store.replaceRoute(routeOf(1, { gen: 1 })), { stored: false, route: mine });
    t.equal(await store.createRoute(routeOf(2)), 'exists');
    t.equal((await store.routeNamed('v2'))?.gen, 1);
    t.equal((await store.replaceRoute({ ...mine, epoch: 3 })).stored, true);
  });

  await t.test('many routes are loaded in pages, all of one moment', async (t) => {
    const client = cluster.client(t);
    const keys = new EtcdKeys(cluster.prefix());
    const store = await EtcdStore.open(client, keys, await new HandFence().take(client, keys));
    const count = 2_500;
    for (let start = 0; start < count; start += 100) {
      const numbers = Array.from({ length: Math.min(100, count - start) }, (_, index) => start + index + 1);
      await Promise.all(numbers.map((number) => store.createRoute(routeOf(number))));
    }
    const again = await EtcdStore.open(client, keys, await new HandFence().take(client, keys));
    t.equal((await again.routeNamed('v2500'))?.volume, idOf(2500));
    t.equal((await again.routes(null, count + 1)).length, count);
    const follower = await EtcdStore.open(client, keys, new HandFence());
    t.same(
      await follower.routes('v1', 250),
      await again.routes('v1', 250),
      'a follower reads the same from etcd',
    );
    t.same(await follower.list('cell'), []);
  });

  await t.test('a prefix of something else, or of a newer format, is refused', async (t) => {
    const client = cluster.client(t);
    const open = async (path: string, text: string) => {
      const keys = new EtcdKeys(cluster.prefix());
      await client.ask('/v3/kv/txn', { compare: [], success: [keys.put(path, text)], failure: [] });
      return EtcdStore.open(client, keys, new HandFence());
    };
    await t.rejects(open('something', 'x'), { code: 'coordinator-state-foreign' });
    await t.rejects(open('format', 'x'), { code: 'coordinator-state-foreign' });
    await t.rejects(open('format', '{"cellblockCoordinator":9}'), {
      code: 'coordinator-state-newer',
      facts: { format: 9 },
    });
    await t.rejects(
      open('format', '{"cellblockCoordinator":1}').then((store) =>
        store.put([{ kind: 'cell', key: 'a', value: null }]),
      ),
      {
        code: 'not-leader',
      },
    );
  });

  await t.test('of several that start in an empty prefix, each finds the format', async (t) => {
    const keys = new EtcdKeys(cluster.prefix());
    const stores = [1, 2, 3, 4].map(() => EtcdStore.open(cluster.client(t), keys, new HandFence()));
    t.equal((await Promise.all(stores)).length, 4);
  });

  await t.test('a store that is closed says so', async (t) => {
    const { store } = await begin(t);
    await store.close();
    await t.rejects(store.route('x'), { code: 'coordinator-state-closed' });
  });
});

t.test('nobody at the other end', async (t) => {
  const client = new EtcdClient({ endpoints: ['http://127.0.0.1:1', 'http://127.0.0.1:2'], deadlineMs: 400 });
  t.teardown(() => client.close());
  const failure = await client.ask('/v3/kv/range', {}).catch((error: unknown) => error);
  t.ok(failure instanceof EtcdFailure);
  t.match(failure, { kind: 'silent', mayBeDone: false, message: /127\.0\.0\.1:[12]: connect ECONNREFUSED/ });
  await t.rejects(EtcdStore.open(client, new EtcdKeys('/x/'), new HandFence()), {
    code: 'coordinator-state-unreachable',
  });
});

t.test('something that is no etcd', async (t) => {
  const answers: Record<string, [number, string]> = {
    'no gateway': [404, '404 page not found'],
    words: [200, 'hello'],
    silence: [0, ''],
  };
  for (const [name, [status, text]] of Object.entries(answers)) {
    const server = createServer((_, response) => {
      if (status === 0) return;
      response.writeHead(status);
      response.end(text);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const client = new EtcdClient({ endpoints: [endpoint], deadlineMs: 500, attemptMs: 200 });
    const code = name === 'no gateway' ? 'coordinator-state-refused' : 'coordinator-state-unreachable';
    await t.rejects(EtcdStore.open(client, new EtcdKeys('/x/'), new HandFence()), { code }, name);
    client.close();
    server.close();
    server.closeAllConnections();
  }
});

t.test('etcd with TLS and certificates of its clients', { skip }, async (t) => {
  const root = t.testdir();
  const certificates = await Certificates.make(path.join(root, 'tls'));
  const tls = {
    ca: certificates.read('ca-cert.pem'),
    certificate: certificates.read('client-cert.pem'),
    key: certificates.read('client-key.pem'),
  };
  const cluster = await EtcdCluster.begin(t, 1, { certificates });
  const keys = new EtcdKeys(cluster.prefix());
  const client = cluster.client(t, { tls });
  const store = await EtcdStore.open(client, keys, await new HandFence().take(client, keys));
  t.equal(await store.createRoute(routeOf(1)), 'stored');
  for (const [name, other] of Object.entries({
    'no certificate': { ...tls, certificate: Buffer.alloc(0), key: Buffer.alloc(0) },
    'another CA': { ...tls, ca: (await Certificates.make(path.join(root, 'other'))).read('ca-cert.pem') },
  })) {
    const stranger = new EtcdClient({ endpoints: cluster.endpoints, deadlineMs: 800, tls: other });
    await t.rejects(
      EtcdStore.open(stranger, keys, new HandFence()),
      { code: 'coordinator-state-unreachable' },
      name,
    );
    stranger.close();
  }
});

t.test('etcd with users', { skip }, async (t) => {
  const cluster = await EtcdCluster.begin(t, 1);
  const root = cluster.client(t);
  const password = 'correct horse';
  await root.ask('/v3/auth/user/add', { name: 'root', password });
  await root.ask('/v3/auth/role/add', { name: 'root' });
  await root.ask('/v3/auth/user/grant', { user: 'root', role: 'root' });
  await root.ask('/v3/auth/enable', {});
  const keys = new EtcdKeys(cluster.prefix());
  const user = { name: 'root', password };
  const client = cluster.client(t, { user });
  const store = await EtcdStore.open(client, keys, await new HandFence().take(client, keys));
  t.equal(await store.createRoute(routeOf(1)), 'stored');
  await cluster.kill(0);
  cluster.start(0);
  await cluster.heal();
  t.equal(
    (await store.replaceRoute(routeOf(1, { gen: 1 }))).stored,
    true,
    'a token that is not known any more is got anew',
  );
  for (const [name, other] of Object.entries({
    nobody: null,
    'a wrong password': { ...user, password: 'x' },
  })) {
    // etcd computes long on a password.
    const patience = { attemptMs: 30_000, deadlineMs: 60_000 };
    const stranger = new EtcdClient({ endpoints: cluster.endpoints, ...patience, user: other });
    await t.rejects(
      EtcdStore.open(stranger, keys, new HandFence()),
      { code: 'coordinator-state-refused' },
      name,
    );
    stranger.close();
  }
  const found = await client.ask<RangeAnswer>('/v3/kv/range', keys.all('route/'));
  t.equal(found.answer.kvs?.length, 1);
});
