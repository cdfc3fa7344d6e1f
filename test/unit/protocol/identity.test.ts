// Who a certificate or a token stands for.

import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { identityOf, identityUri } from '../../../src/protocol/identity.js';
import { bearerOf, readToken, Tokens } from '../../../src/protocol/token-file.js';

const web1 = { host: 'web-1', cell: 'east' };

t.test('a certificate names a host by one URI', async (t) => {
  t.equal(identityUri(web1), 'cellblock://cell/east/host/web-1');
  t.same(identityOf(`URI:${identityUri(web1)}`), web1);
  t.same(identityOf(`DNS:web-1, URI:spiffe://x, URI:${identityUri(web1)}, IP Address:127.0.0.1`), web1);
  const nobody = [
    undefined,
    '',
    'DNS:web-1',
    `DNS:${identityUri(web1)}`,
    `URI:${identityUri(web1)}, URI:${identityUri({ host: 'web-2', cell: 'east' })}`,
    'URI:cellblock://cell/east/host/',
    'URI:cellblock://cell/east/host/web-1/more',
    'URI:cellblock://cell/east/host/web%2d1',
    'URI:cellblock://cell/ea st/host/web-1',
    'URI:https://cell/east/host/web-1',
    // As Node prints a name that was made to look like several.
    `DNS:"x, URI:${identityUri(web1)}"`,
    `URI:"cellblock://cell/east/host/web-1"`,
  ];
  for (const names of nobody) t.equal(identityOf(names), null, String(names));
});

const FILE = `# hosts of a test
web-1 east  0123456789abcdef

web-2 west  fedcba9876543210
`;

t.test('a token stands for its host', async (t) => {
  const file = path.join(t.testdir(), 'tokens');
  writeFileSync(file, FILE, { mode: 0o600 });
  const tokens = Tokens.read(file);
  t.same(tokens.warnings, []);
  t.same(tokens.identify('0123456789abcdef'), web1);
  t.same(tokens.identify('fedcba9876543210'), { host: 'web-2', cell: 'west' });
  for (const other of ['', '0123456789abcde', '0123456789abcdef0', 'web-1'])
    t.equal(tokens.identify(other), null);
  chmodSync(file, 0o644);
  t.equal(Tokens.read(file).warnings.length, 1, 'others may read it: that is said');
});

t.test('a file of tokens that is none is refused by line, and its tokens are not told', async (t) => {
  const directory = t.testdir();
  const wrong = {
    'two words': 'web-1 east\n',
    'four words': 'web-1 east 0123456789abcdef secretsecretsecret\n',
    'a short token': 'web-1 east secret\n',
    'no name': 'we/b east 0123456789secret\n',
    'no cell': 'web-1 ea/st 0123456789secret\n',
    'a host twice': `${FILE}web-1 west secretsecretsecret\n`,
    'one token twice': `${FILE}web-3 west 0123456789abcdef\n`,
  };
  for (const [name, text] of Object.entries(wrong)) {
    const file = path.join(directory, 'tokens');
    writeFileSync(file, text, { mode: 0o600 });
    const error = t.throws(() => Tokens.read(file), { code: 'token-file-invalid' }, name) as unknown as Error;
    t.match(String(error), /Line \d+ of/);
    t.notMatch(JSON.stringify({ ...error, message: error.message }), /secret|0123456789/);
  }
  t.throws(() => Tokens.read(path.join(directory, 'none')), {
    code: 'token-file-invalid',
    message: /ENOENT/,
  });
});

t.test('a token as an agent keeps and sends it', async (t) => {
  const file = path.join(t.testdir({ token: '0123456789abcdef\n', two: 'a b', short: 'abc' }), 'token');
  t.equal(readToken(file), '0123456789abcdef');
  for (const other of ['two', 'short', 'none'])
    t.throws(() => readToken(path.join(path.dirname(file), other)), { code: 'token-file-invalid' });
  t.equal(bearerOf('Bearer 0123456789abcdef'), '0123456789abcdef');
  for (const header of [undefined, '', 'Basic x', 'Bearer', 'Bearer a b', `Bearer ${'x'.repeat(300)}`])
    t.equal(bearerOf(header), undefined);
});
