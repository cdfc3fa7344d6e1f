// The command line of a coordinator: what it is understood as, and what is refused with which sentence.

import { chmodSync, copyFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import {
  type CoordinatorSettings,
  coordinatorCommand,
  coordinatorSettings,
} from '../../../src/coordinator/command-line.js';
import { openState } from '../../../src/coordinator/open-state.js';
import { readPemDirectory } from '../../../src/coordinator/pem-directory.js';
import { systemClock } from '../../../src/protocol/timing.js';
import { Certificates } from '../../support/certificates.js';
import { missing } from '../../support/programs.js';

const parse = (line: string): CoordinatorSettings =>
  coordinatorSettings(coordinatorCommand('1').parse(line.split(' '), { from: 'user' }));

t.test('what is understood', async (t) => {
  t.same(parse('--listen wss://10.0.0.1:7000 --state /var/lib/c --tls /etc/c --name one'), {
    name: 'one',
    listen: { host: '10.0.0.1', port: 7000, isTls: true },
    address: 'wss://10.0.0.1:7000',
    tls: '/etc/c',
    tokens: null,
    state: { kind: 'directory', directory: '/var/lib/c' },
  });
  t.match(parse('--listen ws://[::1]:0 --state s --token t'), {
    listen: { host: '::1', port: 0 },
    tokens: 't',
    tls: null,
  });
  t.match(parse('--listen wss://c1:7 --state s --token t --tls d'), { tokens: 't', tls: 'd' });
  const etcd = (rest: string) => parse(`--listen wss://c1:7 --tls d --state ${rest}`).state;
  t.same(etcd('etcd://a:1,[::1]:2'), {
    kind: 'etcd',
    endpoints: ['http://a:1', 'http://[::1]:2'],
    prefix: '/cellblock/',
    tls: null,
    user: null,
  });
  t.match(etcd('etcd://a:1/ours --etcd-tls e --etcd-user u'), {
    endpoints: ['https://a:1'],
    prefix: '/ours/',
    tls: 'e',
    user: 'u',
  });
  t.match(etcd('etcd://a:1/'), { prefix: '/cellblock/' });
  t.match(parse('--listen wss://0.0.0.0:7 --tls d --state etcd://a:1 --announce wss://c1:7'), {
    address: 'wss://c1:7',
  });
});

t.test('what is refused', async (t) => {
  const cases: Record<string, string> = {
    '--listen nonsense --state s --tls d': '"nonsense" is no address to listen on.',
    '--listen wss://h --state s --tls d': '"wss://h" is no address to listen on.',
    '--listen wss://h:70000 --state s --tls d': '"wss://h:70000" is no address to listen on.',
    '--listen http://h:7 --state s --tls d': '"http://h:7" is no address to listen on.',
    '--listen wss://h:7 --state s': 'It is not said who may come.',
    '--listen wss://h:7 --state s --token t': 'wss://h:7 needs a certificate.',
    '--listen ws://127.0.0.1:7 --state s --tls d': 'ws://127.0.0.1:7 is in clear, and --tls is given.',
    '--listen ws://h:7 --state s --token t': 'ws://h:7 is reachable from other machines, in clear.',
    '--listen wss://h:7 --state s --tls d --name a/b': '"a/b" cannot be the name of a coordinator.',
    '--listen wss://h:7 --tls d --state etcd://': '"etcd://" is no place for the state.',
    '--listen wss://h:7 --tls d --state etcd://a': '"etcd://a" is no place for the state.',
    '--listen wss://h:7 --tls d --state etcd://a:0': '"etcd://a:0" is no place for the state.',
    '--listen wss://h:7 --tls d --state redis://a:1': '"redis://a:1" is no place for the state.',
    '--listen wss://h:7 --tls d --state etcd://a:1,a:1': 'etcd://a:1,a:1 names a member of etcd twice.',
    '--listen wss://h:7 --tls d --state s --etcd-user u': 's is a directory, and no etcd.',
    '--listen wss://0.0.0.0:7 --tls d --state etcd://a:1': 'Nobody can be sent to wss://0.0.0.0:7.',
    '--listen wss://h:7 --tls d --state s --announce wss://[::]:7': 'Nobody can be sent to wss://[::]:7.',
    '--listen wss://h:7 --tls d --state s --announce ws://h:7':
      'ws://h:7 is in clear, and this coordinator is not.',
  };
  for (const [line, message] of Object.entries(cases))
    t.throws(() => parse(line), { message, kind: 'invalid' }, line);
  for (const line of [
    '--state s --tls d',
    '--listen wss://h:7 --tls d',
    '--listen wss://h:7 --state s --tls d more',
  ])
    t.throws(() => parse(line), { code: /commander\./ }, line);
});

t.test('a directory of certificates', { skip: missing('openssl') }, async (t) => {
  const root = t.testdir({ tls: {}, empty: {} });
  const certificates = await Certificates.make(path.join(root, 'made'));
  await certificates.issue({ files: 'old', subject: '/CN=old', days: -1 });
  await certificates.issue({ files: 'soon', subject: '/CN=soon', days: 3 });
  const place = (name: string) => path.join(root, 'tls', name);
  const copy = (from: string, to: string) => copyFileSync(certificates.file(from), place(to));
  const read = (needsCa = true) => readPemDirectory(path.join(root, 'tls'), { needsCa });
  const invalid = (message: RegExp) => ({ code: 'tls-invalid', message });
  t.throws(
    () => readPemDirectory(path.join(root, 'empty'), { needsCa: true }),
    invalid(/lacks ca.pem, cert.pem, key.pem\.$/),
  );
  copy('server-cert.pem', 'cert.pem');
  copy('server-key.pem', 'key.pem');
  t.throws(() => read(), invalid(/lacks ca.pem\.$/));
  t.same(read(false), {
    ca: null,
    certificate: certificates.read('server-cert.pem'),
    key: certificates.read('server-key.pem'),
    warnings: [],
  });
  copy('ca-cert.pem', 'ca.pem');
  t.same(read().ca, certificates.read('ca-cert.pem'));
  copy('client-key.pem', 'key.pem');
  t.throws(() => read(), invalid(/is not the key of its cert.pem/));
  writeFileSync(place('key.pem'), 'no key');
  t.throws(() => read(), invalid(/key.pem holds no key/));
  copy('server-key.pem', 'key.pem');
  writeFileSync(place('ca.pem'), 'no certificate');
  t.throws(() => read(), invalid(/ca.pem holds no certificate/));
  copy('ca-cert.pem', 'ca.pem');
  chmodSync(place('key.pem'), 0o644);
  t.match(read().warnings, [/^everybody on this machine may read/]);
  chmodSync(place('key.pem'), 0o600);
  for (const [name, warning] of Object.entries({ old: /has expired/, soon: /expires soon/ })) {
    copy(`${name}-cert.pem`, 'cert.pem');
    copy(`${name}-key.pem`, 'key.pem');
    chmodSync(place('key.pem'), 0o600);
    t.match(read().warnings, [warning]);
  }
});

t.test('a state that is opened, and what is wrong with one of etcd', async (t) => {
  const root = t.testdir({ user: 'no colon' });
  const parts = { clock: systemClock, log: { debug() {}, info() {}, warn() {}, error() {} } };
  const self = { name: 'one', address: 'ws://one:1' };
  const opened = await openState(
    { ...self, state: { kind: 'directory', directory: path.join(root, 's') } },
    parts,
  );
  opened.start();
  t.same(opened.leadership.leader, { coordinator: 'one', address: 'ws://one:1' });
  t.same(await opened.store.routes(null, 1), []);
  await opened.close();
  t.equal(opened.leadership.isLeader, false);
  const etcd = {
    kind: 'etcd',
    endpoints: ['http://127.0.0.1:1'],
    prefix: '/x/',
    tls: null,
    user: null,
  } as const;
  await t.rejects(openState({ ...self, state: { ...etcd, user: path.join(root, 'user') } }, parts), {
    code: 'option-invalid',
    message: /does not hold NAME:PASSWORD/,
  });
  await t.rejects(openState({ ...self, state: { ...etcd, tls: root } }, parts), { code: 'tls-invalid' });
});
