// The configuration file: what is right is taken, what is wrong is refused with file, line and what is allowed.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseConfiguration, readConfiguration } from '../../../src/agent/configuration.js';
import { makeSettings } from '../../../src/agent/settings.js';

const NOTHING = { store: '/s', nbd: [], api: undefined };

t.test('an empty file, and sections with nothing in them, mean the defaults', async (t) => {
  for (const text of ['', '# only a comment\n', '{}', 'log:\n  # level: debug\n']) {
    const settings = makeSettings(parseConfiguration(text, 'c.yaml'), NOTHING);
    t.equal(settings.log.level, 'info');
    t.equal(settings.store.cacheBytes, 64n << 20n);
    t.same(settings.nbd.listeners, [{ address: 'unix:/run/cellblock/nbd.sock', mode: 0o660 }]);
  }
});

t.test('every key reaches the settings', async (t) => {
  const text = `
nbd:
  listen:
    - address: unix:/tmp/n.sock
      mode: "0600"
    - tcp:127.0.0.1:0
    - tcp:[::1]:10809
  allow_remote: true
  max_connections: 7
  max_connections_per_client: 3
  default_export: disk@s
  handshake_timeout_ms: 500
api: { path: /tmp/a.sock, mode: "0666", group: disk }
metrics: { listen: tcp:127.0.0.1:9000 }
log: { level: debug }
store: { window: 64K, journal: 1M, cache: 1.5G, reserve: 0, direct: true, rotational: true, round_after_ms: 100 }
engine: { kind: workers, reactors: 3 }
limits: { stop_deadline_ms: 1, hold_ms: 900, request_body: 2K }
coordinator:
  addresses: [wss://c1:7000, "wss://[::1]:7000"]
  host: web-1
  cell: east
  tls: { ca: /c/ca.pem, certificate: /c/cert.pem, key: /c/key.pem }
  serve_alone_after: never
  announce: [tcp:10.0.0.1:10809]
  copy_rate: 10M
`;
  t.same(makeSettings(parseConfiguration(text, 'c.yaml'), NOTHING), {
    store: {
      directory: '/s',
      windowBytes: 65536,
      journalBytes: 1n << 20n,
      cacheBytes: 3n << 29n,
      reserveBytes: 0n,
      direct: true,
      rotational: true,
      roundAfterMs: 100,
    },
    engine: { kind: 'workers', reactors: 3 },
    nbd: {
      listeners: [
        { address: 'unix:/tmp/n.sock', mode: 0o600 },
        { address: 'tcp:127.0.0.1:0', mode: 0 },
        { address: 'tcp:[::1]:10809', mode: 0 },
      ],
      descriptors: [],
      allowRemote: true,
      defaultExport: 'disk@s',
      maxConnections: 7,
      maxConnectionsPerClient: 3,
      handshakeTimeoutMs: 500,
      tls: { mode: 'off', clients: 'none', only: [] },
    },
    api: { path: '/tmp/a.sock', mode: 0o666, group: 'disk', descriptor: null },
    metrics: { address: 'tcp:127.0.0.1:9000' },
    log: { level: 'debug' },
    limits: { stopDeadlineMs: 1, holdMs: 900, requestBodyBytes: 2048 },
    coordinator: {
      addresses: ['wss://c1:7000', 'wss://[::1]:7000'],
      host: 'web-1',
      cell: 'east',
      tls: { ca: '/c/ca.pem', certificate: '/c/cert.pem', key: '/c/key.pem' },
      tokenFile: null,
      serveAloneAfterMs: null,
      announce: ['tcp:10.0.0.1:10809'],
      copyBytesPerSecond: 10n << 20n,
    },
  });
});

t.test('the command line wins over the file', async (t) => {
  const file = parseConfiguration('nbd: { listen: [unix:/a] }\napi: { path: /b }\n', 'c.yaml');
  const settings = makeSettings(file, { store: '/s', nbd: ['tcp:localhost:1'], api: '/c' });
  t.equal(settings.api.path, '/c');
  t.same(settings.nbd.listeners, [{ address: 'tcp:localhost:1', mode: 0 }]);
  const named = parseConfiguration('nbd: { default_export: a, allow_remote: false }\n', 'c.yaml');
  const line = { ...NOTHING, nbd: ['tcp:0.0.0.0:1'], defaultExport: 'b', allowRemote: true };
  t.match(makeSettings(named, line).nbd, { defaultExport: 'b', allowRemote: true });
});

t.test('TCP beyond loopback is refused with both ways out', async (t) => {
  t.throws(() => makeSettings({}, { ...NOTHING, nbd: ['tcp:0.0.0.0:10809'] }), {
    code: 'address-invalid',
    hint: /TLS.*--allow-remote-without-tls.*nbd\.allow_remote: true/,
  });
});

t.test('sockets passed at the start take the place of what is configured', async (t) => {
  const file = parseConfiguration('nbd: { listen: [unix:/a] }\napi: { path: /b }\n', 'c.yaml');
  const nbd = makeSettings(file, NOTHING, { nbd: [3, 4], api: null });
  t.match(nbd, { nbd: { listeners: [], descriptors: [3, 4] }, api: { path: '/b', descriptor: null } });
  const api = makeSettings(file, NOTHING, { nbd: [], api: { descriptor: 3, path: '/run/api' } });
  t.match(api, { nbd: { listeners: [{ address: 'unix:/a' }] }, api: { path: '/run/api', descriptor: 3 } });
  const besides = makeSettings(file, { ...NOTHING, nbd: ['unix:/c'] }, { nbd: [3], api: null });
  t.match(besides.nbd, { listeners: [{ address: 'unix:/c' }], descriptors: [3] }, 'not of the command line');
});

t.test('a default export that cannot be the name of one is refused', async (t) => {
  for (const name of ['a/b', 'a@b@c', '@s']) {
    t.throws(
      () => makeSettings({}, { ...NOTHING, defaultExport: name }),
      { code: /^(name|snapshot)-/ },
      name,
    );
  }
});

const WRONG: [what: string, text: string, line: number, message: RegExp, hint: RegExp][] = [
  ['an unknown section', 'x: 1', 1, /no key "x"/, /Known here: nbd, api, /],
  ['an unknown key', 'nbd:\n  lissen: []\n', 2, /no key "lissen"/, /Known here: listen, allow_remote/],
  [
    'a key in an item of a list',
    'nbd:\n  listen:\n    - address: unix:/x\n      mod: 3\n',
    4,
    /no key "mod"/,
    /address, mode/,
  ],
  [
    'a number out of bounds',
    'engine:\n\n  reactors: 2.5\n',
    3,
    /"engine.reactors" is 2.5/,
    /whole number from 0 to 64/,
  ],
  [
    'a word that is none of the choices',
    'log:\n  level: loud\n',
    2,
    /"log.level" is "loud"/,
    /one of error, warn, info, debug/,
  ],
  ['a size that is none', 'store:\n  cache: 12Q\n', 2, /"store.cache" is "12Q"/, /512M/],
  ['a mode that YAML reads as a number', 'api:\n  mode: 0660\n', 2, /"api.mode" is 660/, /in quotes/],
  [
    'an address that is none',
    'nbd:\n  listen:\n    - unix:/a\n    - /b\n',
    4,
    /"nbd.listen.1" is "\/b"/,
    /unix:PATH, tcp:HOST:PORT/,
  ],
  ['yes, which is no boolean in YAML 1.2', 'store:\n  direct: yes\n', 2, /is "yes"/, /true or false/],
  ['a list in place of a mapping', '- 1\n', 1, /the file is a list/, /mapping with the keys/],
  ['text in place of a section', 'log: debug\n', 1, /"log" is "debug"/, /mapping with the keys level/],
  ['a key twice', 'log: {}\nlog: {}\n', 2, /not valid YAML/, /./],
  ['broken YAML', 'log:\n  level: "debug\n', 3, /not valid YAML/, /./],
];

for (const [what, text, line, message, hint] of WRONG) {
  t.test(what, async (t) => {
    t.throws(() => parseConfiguration(text, '/etc/c.yaml'), {
      kind: 'invalid',
      code: 'configuration-invalid',
      message,
      hint,
    });
    t.throws(() => parseConfiguration(text, '/etc/c.yaml'), {
      message: new RegExp(`^/etc/c.yaml, line ${line}: `),
    });
  });
}

t.test('a file that is not there, and one that cannot be read', async (t) => {
  t.throws(() => readConfiguration('/no/such.yaml'), {
    kind: 'not-found',
    message: /\/no\/such.yaml does not exist/,
    hint: /--config/,
  });
  t.throws(() => readConfiguration('/tmp'), { kind: 'invalid', message: /cannot be read: EISDIR/ });
  const directory = mkdtempSync(join(tmpdir(), 'configuration-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'c.yaml'), 'log: { level: warn }');
  t.equal(readConfiguration(join(directory, 'c.yaml')).log?.level, 'warn');
});

t.test('remote addresses have to be allowed in so many words', async (t) => {
  for (const address of [
    'tcp:0.0.0.0:10809',
    'tcp:[::]:10809',
    'tcp:192.0.2.1:1',
    'tcp:127.0.0.1.example:1',
  ]) {
    t.throws(
      () => makeSettings({}, { ...NOTHING, nbd: [address] }),
      { code: 'address-invalid', hint: /nbd.allow_remote: true/ },
      address,
    );
    t.doesNotThrow(
      () => makeSettings({ nbd: { allow_remote: true } }, { ...NOTHING, nbd: [address] }),
      address,
    );
  }
});

t.test('addresses that are none are refused on the command line too', async (t) => {
  for (const address of [
    '',
    '/run/x.sock',
    'unix:',
    'tcp:',
    'tcp:localhost',
    'tcp:localhost:99999',
    'udp:localhost:1',
  ]) {
    t.throws(
      () => makeSettings({}, { ...NOTHING, nbd: [address] }),
      { code: 'address-invalid', hint: /unix:PATH or tcp:HOST:PORT/ },
      address,
    );
  }
});

t.test('a host in no cell, and one that comes with a token', (t) => {
  const of = (text: string) => makeSettings(parseConfiguration(text, 'c.yaml'), NOTHING).coordinator;
  t.equal(of(''), null);
  t.same(of('coordinator: { addresses: [ws://127.0.0.1:7000], host: a, cell: b, token_file: /t }'), {
    addresses: ['ws://127.0.0.1:7000'],
    host: 'a',
    cell: 'b',
    tls: {},
    tokenFile: '/t',
    serveAloneAfterMs: 30_000,
    announce: null,
    copyBytesPerSecond: null,
  });
  t.end();
});

t.test('what does not fit together about the coordinator is refused', async (t) => {
  const who = 'host: a, cell: b';
  const wrong: [string, RegExp][] = [
    [`${who}, token_file: /t`, /not said where coordinators are/],
    ['addresses: [wss://c:1]', /who this host is/],
    [`addresses: [wss://c:1], ${who}`, /prove who it is, in one way/],
    [`addresses: [wss://c:1], ${who}, token_file: /t, tls: { certificate: /c, key: /k }`, /in one way/],
    [`addresses: [wss://c:1], ${who}, tls: { certificate: /c }`, /belong together/],
    [`addresses: [ws://127.0.0.1:1], ${who}, tls: { certificate: /c, key: /k }`, /over TLS only/],
    [`addresses: [ws://10.0.0.1:1], ${who}, token_file: /t`, /nothing is encrypted/],
    [`addresses: [wss://c], ${who}, token_file: /t`, /no address of a coordinator/],
    [`addresses: [wss://c:1/path], ${who}, token_file: /t`, /no address of a coordinator/],
    ['addresses: [http://c:1]', /"coordinator.addresses.0" is "http:/],
    ['addresses: []', /"coordinator.addresses" is a list/],
    ['host: a/b', /"coordinator.host"/],
    ['serve_alone_after: soon', /"coordinator.serve_alone_after" is "soon"/],
    ['copy_rate: 2T', /"coordinator.copy_rate" is "2T"/],
    ['announce: [http:x]', /"coordinator.announce.0"/],
    ['leader: c1', /there is no key "leader"/],
  ];
  for (const [section, message] of wrong)
    t.throws(
      () => makeSettings(parseConfiguration(`coordinator: { ${section} }`, 'c.yaml'), NOTHING),
      { code: 'configuration-invalid', message },
      section,
    );
});
