// Mutual TLS between agents and a coordinator: a certificate says which host and cell it is, and nothing else does.

import path from 'node:path';
import t, { type Test } from 'tap';
import { WebSocket } from 'ws';
import type { Credentials } from '../../src/protocol/client.js';
import { identityUri } from '../../src/protocol/identity.js';
import { TIMES } from '../../src/protocol/limits.js';
import { Certificates } from '../support/certificates.js';
import { type Agent, CoordinatorScene, tokenOf } from '../support/coordinator-scene.js';
import { VOLUME } from '../support/protocol-samples.js';
import { until } from '../support/waiting.js';

const directory = t.testdir();
const ours = await Certificates.make(path.join(directory, 'ours'));
const theirs = await Certificates.make(path.join(directory, 'theirs'));
await ours.issueHost('web-1', 'east');
await ours.issueHost('web-2', 'east');
await ours.issueHost('web-9', 'west');
await theirs.issueHost('web-1', 'east');
await ours.issue({
  files: 'expired',
  subject: '/CN=web-1',
  alternativeNames: `URI:${identityUri({ host: 'web-1', cell: 'east' })}`,
  days: -1,
});
await ours.issue({
  files: 'two',
  subject: '/CN=web-1',
  alternativeNames: ['web-1', 'web-2'].map((host) => `URI:${identityUri({ host, cell: 'east' })}`).join(','),
});

function credentialsOf(
  files: string,
  { from = ours, ca = ours }: { from?: Certificates; ca?: Certificates } = {},
): Credentials {
  return () => ({
    ca: ca.read('ca-cert.pem'),
    cert: from.read(`${files}-cert.pem`),
    key: from.read(`${files}-key.pem`),
  });
}

function begin(t: Test, { tokens = false, certificates = ours } = {}): Promise<CoordinatorScene> {
  return CoordinatorScene.begin(t, {
    tls: {
      certificate: certificates.read('server-cert.pem'),
      key: certificates.read('server-key.pem'),
      clientCa: tokens ? null : certificates.read('ca-cert.pem'),
    },
  });
}

/** An agent that is never taken, until `event` is in its log. */
async function refusedAgent(
  t: Test,
  scene: CoordinatorScene,
  credentials: Credentials,
  event: string,
): Promise<Agent> {
  const agent = scene.agent(t, 'web-1', { credentials });
  await until(event, () => {
    scene.clock.pass(TIMES.tickMs);
    return agent.log.events().includes(event);
  });
  t.notOk(agent.client.isConnected);
  agent.client.stop();
  return agent;
}

t.test('a host joins with its certificate', async (t) => {
  const scene = await begin(t);
  await scene.joined(t, 'web-1', { credentials: credentialsOf('web-1') });
  await scene.joined(t, 'web-2', { credentials: credentialsOf('web-2') });
  t.equal((await scene.server.probe('web-2', { volume: VOLUME, seqs: [] }, 60_000))?.host, 'web-2');
  t.same(scene.comings, ['web-1 joined', 'web-2 joined']);
});

t.test(
  'without a certificate, with one of another CA, or with one that has expired, there is no TLS',
  async (t) => {
    const scene = await begin(t);
    const nobody: Credentials = () => ({ ca: ours.read('ca-cert.pem') });
    for (const credentials of [nobody, credentialsOf('web-1', { from: theirs }), credentialsOf('expired')]) {
      const before = scene.log.events().filter((event) => event === 'tls-refused').length;
      await refusedAgent(t, scene, credentials, 'dial-failed');
      await until(
        'an event',
        () => scene.log.events().filter((event) => event === 'tls-refused').length > before,
      );
    }
    t.same(scene.hellos, []);
  },
);

t.test('a certificate that names no host, or two, gets no WebSocket', async (t) => {
  const scene = await begin(t);
  for (const files of ['client', 'two'])
    await refusedAgent(t, scene, credentialsOf(files), 'upgrade-refused');
  t.ok(scene.log.events().includes('unauthenticated'));
  t.same(scene.hellos, []);
});

t.test('a token does not stand in for a certificate, nor a certificate for another host', async (t) => {
  const scene = await begin(t);
  await refusedAgent(
    t,
    scene,
    () => ({ ...credentialsOf('client')(), token: tokenOf('web-1') }),
    'upgrade-refused',
  );
  const wrongHost = await refusedAgent(t, scene, credentialsOf('web-2'), 'refused');
  t.match(
    wrongHost.log.lines.find(({ event }) => event === 'refused'),
    { code: 'wrong-host' },
  );
  const scene2 = await begin(t);
  const agent = scene2.agent(t, 'web-9', { credentials: credentialsOf('web-9') });
  await until('a refusal', () => {
    scene2.clock.pass(TIMES.tickMs);
    return agent.log.events().includes('refused');
  });
  t.match(
    agent.log.lines.find(({ event }) => event === 'refused'),
    { code: 'wrong-cell' },
  );
});

t.test('an agent believes no coordinator of another CA, and none in clear', async (t) => {
  const scene = await begin(t, { certificates: theirs });
  await refusedAgent(t, scene, credentialsOf('web-1'), 'dial-failed');
  const clear = await CoordinatorScene.begin(t);
  const agent = clear.agent(t, 'web-1', {
    coordinators: [`wss://localhost:${clear.port}`],
    credentials: credentialsOf('web-1'),
  });
  await until('it to fail', () => {
    clear.clock.pass(TIMES.tickMs);
    return agent.log.events().includes('dial-failed');
  });
  t.same([scene.hellos, clear.hellos], [[], []]);
});

t.test('tokens over TLS: the coordinator shows a certificate, the host a token', async (t) => {
  const scene = await begin(t, { tokens: true });
  const credentials: Credentials = () => ({ ca: ours.read('ca-cert.pem'), token: tokenOf('web-1') });
  await scene.joined(t, 'web-1', { credentials });
  await refusedAgent(
    t,
    scene,
    () => ({ ca: ours.read('ca-cert.pem'), token: tokenOf('nobody') }),
    'upgrade-refused',
  );
});

t.test('credentials that cannot be read are tried again', async (t) => {
  const scene = await begin(t);
  let readable = false;
  const credentials: Credentials = () => {
    if (!readable) throw new Error('ENOENT');
    return credentialsOf('web-1')();
  };
  const agent = scene.agent(t, 'web-1', { credentials });
  scene.clock.pass(0);
  t.match(agent.log.lines.at(-1), { level: 'error', message: 'the coordinator cannot be dialled' });
  readable = true;
  await until('it to join', () => {
    scene.clock.pass(TIMES.tickMs);
    return agent.client.isConnected;
  });
});

t.test('only TLS 1.3 is spoken', async (t) => {
  const scene = await begin(t);
  const ws = new WebSocket(scene.address, ['cellblock.v1'], {
    ...credentialsOf('web-1')(),
    maxVersion: 'TLSv1.2',
  });
  const error = await new Promise<Error>((resolve) => ws.on('error', resolve));
  t.match(error.message, /protocol version|EPROTO|alert/i);
});
