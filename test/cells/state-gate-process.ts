// Stands beside a coordinator, in its namespace, between it and the members of etcd: passes every request on, says what is stored by it, and holds one
// back, or its answer, when it is told to. So a coordinator can die between two writes, with no message to an agent between them.
//
// A write of a route is `store route PHASE`, the phase that of its move (`settled`: none); its answer `reply to store route PHASE`.

import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import type { Request, Txn } from '../../src/coordinator/etcd-keys.js';
import { ROUTES } from '../../src/coordinator/state-values.js';
import type { Route } from '../../src/model/cell/route.js';
import type { StateGateSetting, Way } from './gate.js';
import { isHeld, obey, tell } from './gate-holds.js';

const setting = JSON.parse(process.argv[2]!) as StateGateSetting;

/** What comes behind something that is held waits too, at every way: a coordinator that gets no answer asks the next member. */
let open: Promise<void> = Promise.resolve();

async function pass(way: Way, label: string | null): Promise<void> {
  await open;
  if (label === null) return;
  tell({ said: 'passing', way, label });
  let go = () => {};
  const gone = new Promise<void>((resolve) => {
    go = resolve;
  });
  if (!isHeld(label, go)) return;
  open = gone;
  await open;
}

/** Null: it stores no route. */
function labelOf(body: Buffer): string | null {
  const { success = [] } = JSON.parse(body.toString()) as Partial<Txn>;
  const phases = success.flatMap(routesIn).map(({ journal }) => journal?.phase ?? 'settled');
  return phases.length === 0 ? null : `store route ${phases.join(' ')}`;
}

function routesIn(asked: Request): Route[] {
  if ('request_txn' in asked) return asked.request_txn.success.flatMap(routesIn);
  if (!('request_put' in asked)) return [];
  const { key, value } = asked.request_put;
  return textOf(key).includes(`/${ROUTES}`) ? [JSON.parse(textOf(value)) as Route] : [];
}

const textOf = (base64: string) => Buffer.from(base64, 'base64').toString();

async function carry(near: IncomingMessage, answer: ServerResponse, address: string): Promise<void> {
  const body = await buffer(near);
  const label = near.url === '/v3/kv/txn' ? labelOf(body) : null;
  await pass('to-etcd', label);
  if (answer.destroyed) return;
  const far = request(new URL(near.url!, address), { method: near.method!, headers: near.headers });
  // A member that is asked no more is not to go on for nobody.
  answer.once('close', () => far.destroy());
  far.end(body);
  const [reply] = (await once(far, 'response')) as [IncomingMessage];
  const said = await buffer(reply);
  await pass('to-coordinator', label && `reply to ${label}`);
  answer.writeHead(reply.statusCode!, { 'content-type': 'application/json' }).end(said);
}

for (const { port, address } of setting.ways) {
  const server = createServer((near, answer) => {
    // Whoever asks hears what it would hear of a member that is gone.
    carry(near, answer, address).catch(() => answer.destroy());
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
}
obey();
