// What is taken out of a support bundle, and what stays in it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Pseudonyms } from '../../../src/commands/bundle/pseudonyms.js';
import { redactedConfiguration } from '../../../src/commands/bundle/redacted-configuration.js';
import { redactedVariables, redactedWords } from '../../../src/commands/bundle/redacted-words.js';
import { scrubLine, scrubText, scrubValue } from '../../../src/commands/bundle/scrub.js';

const HEX = '0123456789abcdef'.repeat(4);
const ID = HEX.slice(0, 32);
const PEM = '-----BEGIN PRIVATE KEY-----\nMIIsecret\n-----END PRIVATE KEY-----';

t.test('secrets in texts are taken out, whatever form they have', async (t) => {
  const forms = [
    `key ${PEM} end`,
    JSON.stringify({ msg: PEM }),
    '-----BEGIN EC PRIVATE KEY-----\nMIIsecret and the rest is cut off',
    'Authorization: Bearer MIIsecret',
    '{"authorization":"Basic MIIsecret"}',
    'sent Bearer MIIsecret',
    'password=MIIsecret',
    '{"password":"MII secret, \\"MIIsecret\\""}',
    "etcd_passwd: 'MIIsecret'",
    '{"hostToken":"MIIsecret","x":1}',
    'wss://ann:MIIsecret@host',
    'cellblockd: /etc/c.yaml, line 3: "log.level" is "MIIsecret". Allowed: one of error, warn.',
    JSON.stringify({ msg: '/etc/c.yaml, line 3: "log.level" is "MIIsecret".' }),
    'coordinator: "ann:MIIsecret" is no address of a coordinator.',
  ];
  for (const text of forms) {
    t.notMatch(scrubText(text), /MIIsecret/, text);
    t.match(scrubText(text), /\[redacted\]/, text);
  }
  for (const text of [`alice:${HEX}`, `alice:${ID}`, HEX]) t.notMatch(scrubText(text), ID, text);
  t.notMatch(scrubLine('host h1 Zm9vYmFyMTIzNDU2Nzg5QUJDREVG came'), /Zm9v/, 'a token in a log');
});

t.test('what is no secret stays', async (t) => {
  const forms = [
    `volume ${ID} is served`,
    `cellblock:${ID}:container-1`,
    '"nbd.tls.key" does not exist',
    'the tokenizer is fine',
    '{"path":"/etc/cellblock/key.pem","errno":"ENOENT"}',
    'unix:/run/cellblock/nbd.sock',
    'tls:CN=web-1,O=tests',
  ];
  for (const text of forms) t.equal(scrubText(text), text);
  t.same(scrubValue({ a: 1n, tls: { psk: true }, token_file: '/x', files: ['a'] }), {
    a: 1n,
    tls: { psk: true },
    token_file: '/x',
    files: ['a'],
  });
  t.same(scrubValue({ xattrs: { 'user.k': 'cw==' }, api_token: 'x', list: [{ password: 'y' }] }), {
    xattrs: { 'user.k': '[redacted]' },
    api_token: '[redacted]',
    list: [{ password: '[redacted]' }],
  });
});

t.test('a configuration is made anew from what its schema knows', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-redacted-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'there.key'), 'x');
  const text = `
# hunter2 in a comment
nbd:
  listen:
    - unix:/run/nbd.sock
    - { address: tcp:127.0.0.1:1, mode: "0600", note: hunter2 }
  tls:
    key: there.key
    psk: alice:hunter2
    password: hunter2
log: { level: hunter2 }
store: hunter2
api: [hunter2]
hunter: { secret: hunter2 }
coordinator:
  addresses: ["wss://ann:hunter2@c1:7443"]
  token_file: hunter2-hunter2-hunter2
`;
  const redacted = redactedConfiguration(text, directory)!;
  t.notMatch(redacted, 'hunter2');
  for (const kept of [
    'unix:/run/nbd.sock',
    'tcp:127.0.0.1:1',
    'key: there.key',
    'c1:7443',
    'password: ',
    'level: ',
  ])
    t.match(redacted, kept);
  t.equal(redactedConfiguration('a: [', directory), null, 'what cannot be read is not shown');
  t.equal(redactedConfiguration('hunter2', directory), '"[redacted: not what this key takes]"\n');
});

t.test('of command lines and variables only what is plainly harmless stays', async (t) => {
  t.same(
    redactedWords([
      '--store',
      '/',
      '--nbd=tcp:127.0.0.1:1',
      '--api',
      '/no/such/hunter2',
      '-n',
      '5',
      'hunter2',
    ]),
    ['--store', '/', '--nbd=tcp:127.0.0.1:1', '--api', '[redacted]', '-n', '5', '[redacted]'],
  );
  t.equal(
    redactedVariables(
      '# hunter2\nLISTEN=wss://0.0.0.0:7443\nSTATE="etcd://u:hunter2@e1:2379"\nOTHER=hunter2\nexport MORE=--name hunter2\n',
      new Set(['LISTEN', 'STATE', 'MORE']),
    ),
    'LISTEN=wss://0.0.0.0:7443\nSTATE=etcd://[redacted]@e1:2379\nOTHER=[redacted]\nMORE=--name [redacted]\n',
  );
});

t.test('pseudonyms are the same everywhere, and words of the program stay', async (t) => {
  const names = new Pseudonyms();
  const list = [
    { name: 'running', kind: 'volume', description: 'of Ann', clonedFrom: null, state: 'running' },
    { name: 'web-1', kind: 'volume', clonedFrom: 'running@monday', allow: ['uid:7', 'tls:CN=ann'] },
    { name: 'web', kind: 'volume', created: '2026-01-01T00:00:00.000Z' },
  ];
  t.same(names.value(list), [
    { name: 'volume-1', kind: 'volume', description: '[left out]', clonedFrom: null, state: 'running' },
    { name: 'volume-2', kind: 'volume', clonedFrom: 'volume-1@snapshot-1', allow: ['uid:7', 'tls:client-1'] },
    { name: 'volume-3', kind: 'volume', created: '2026-01-01T00:00:00.000Z' },
  ]);
  t.equal(names.text('web-1, web and (web) on webs'), 'volume-2, volume-3 and (volume-3) on webs');
  t.equal(
    names.line(
      '2026-01-01 cellblockd[7]: {"level":"info","volume":"gone@x","msg":"Volume \\"web\\" and \\"lost\\""}',
    ),
    '2026-01-01 cellblockd[7]: {"level":"info","volume":"volume-4@snapshot-2","msg":"Volume \\"volume-3\\" and \\"volume-5\\""}',
  );
  t.equal(
    names.metrics('x{volume="web",kind="read"} 1\ny{export="gone@x"} 2\n'),
    'x{volume="volume-3",kind="read"} 1\ny{export="volume-4@snapshot-2"} 2\n',
  );
  t.equal(names.metrics('x{volume="a\\"b"} 1'), 'x{volume="volume-6"} 1');
  t.equal(names.of('volume', 'a"b'), 'volume-6', 'escaped in metrics, and not elsewhere');
});
