// TLS's files: what is wrong with them is said with the path and what to do; at a reload it is said and nothing changes; no key is kept.

import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { parseConfiguration } from '../../../src/agent/configuration.js';
import { makeSettings, type TlsSettings } from '../../../src/agent/settings.js';
import { Tls } from '../../../src/agent/tls.js';
import type { TlsOptions } from '../../../src/plane/treaty.js';
import { Certificates } from '../../support/certificates.js';
import { missing } from '../../support/programs.js';

class Log {
  lines: string[] = [];
  #take = (_facts: object, message: string): void => void this.lines.push(message);
  info = this.#take;
  warn = this.#take;
  error = this.#take;
}

const settingsOf = (text: string): TlsSettings =>
  makeSettings(parseConfiguration(text, 'c.yaml'), { store: '/s', nbd: [], api: undefined }).nbd.tls;

t.test('the configuration', async (t) => {
  t.same(settingsOf(''), { mode: 'off', clients: 'none', only: [] });
  t.same(
    settingsOf(
      'nbd: { tls: { mode: selective, certificate: /c, key: /k, client_ca: /a, clients: required, psk: /p, only: [a] } }',
    ),
    {
      mode: 'selective',
      clients: 'required',
      only: ['a'],
      certificate: '/c',
      key: '/k',
      clientCa: '/a',
      psk: '/p',
    },
  );
  const wrong: [string, RegExp][] = [
    ['mode: forced', /neither a certificate nor/],
    ['mode: forced, certificate: /c', /belong together/],
    ['mode: forced, key: /k, psk: /p', /belong together/],
    ['mode: forced, psk: /p, clients: required', /nothing says who signs/],
    ['mode: forced, psk: /p, client_ca: /a', /asked for no certificate/],
    ['only: [a]', /there is none/],
  ];
  for (const [keys, message] of wrong)
    t.throws(() => settingsOf(`nbd: { tls: { ${keys} } }`), { code: 'configuration-invalid', message }, keys);
  t.throws(() => settingsOf('nbd: { tls: { mode: on } }'), {
    code: 'configuration-invalid',
    hint: /one of off, selective, forced/,
  });
  t.throws(() => settingsOf('nbd: { tls: { cert: /c } }'), { message: /no key "cert"/ });
});

t.test('the files', { skip: missing('openssl') }, async (t) => {
  const certificates = await Certificates.make(path.join(t.testdir(), 'pki'));
  const settings: TlsSettings = {
    mode: 'forced',
    clients: 'none',
    only: [],
    certificate: certificates.file('server-cert.pem'),
    key: certificates.file('server-key.pem'),
    psk: certificates.file('keys.psk'),
  };
  const installed: TlsOptions[] = [];
  const install = (options: TlsOptions): void => void installed.push(options);

  await t.test('are handed on, and the keys are wiped', async (t) => {
    const log = new Log();
    let key = '';
    const tls = new Tls(
      settings,
      (options) => {
        key = Buffer.from(options.key as Uint8Array).toString();
        install(options);
      },
      log,
    );
    tls.load();
    t.equal(key, certificates.read('server-key.pem').toString());
    const { key: kept, psk, certificate } = installed.at(-1) as TlsOptions;
    t.ok(kept?.every((byte) => byte === 0) && psk?.every((byte) => byte === 0), 'wiped');
    t.same(certificate, certificates.read('server-cert.pem'));
    t.match(tls.status, { mode: 'forced', psk: true, certificate: { subject: 'CN=localhost' } });
    t.same(log.lines, [], 'nothing to complain about');
  });

  await t.test('that are not there, or may be read by everybody', async (t) => {
    const gone = new Tls({ ...settings, key: '/nowhere/key.pem' }, install, new Log());
    t.throws(() => gone.load(), {
      code: 'tls-invalid',
      message: /\/nowhere\/key\.pem \(nbd\.tls\.key\) does not exist/,
    });
    const log = new Log();
    const open = path.join(certificates.directory, 'open.pem');
    writeFileSync(open, certificates.read('server-key.pem'));
    chmodSync(open, 0o644);
    new Tls({ ...settings, key: open }, install, log).load();
    t.match(log.lines, [/everybody on this machine may read nbd\.tls\.key/]);
  });

  await t.test('whose certificate has expired, or soon will', async (t) => {
    for (const [days, message] of [
      [-1, /has expired/],
      [5, /expires soon/],
    ] as const) {
      await certificates.issue({ files: 'old', subject: '/CN=localhost', days });
      const log = new Log();
      new Tls({ ...settings, certificate: certificates.file('old-cert.pem') }, install, log).load();
      t.match(log.lines, [message]);
    }
  });

  await t.test('that the data plane refuses: the start fails, a reload changes nothing', async (t) => {
    const log = new Log();
    let refuse = false;
    const tls = new Tls(
      settings,
      () => {
        if (refuse) throw new Error('the key does not belong to the certificate');
      },
      log,
    );
    tls.load();
    refuse = true;
    t.equal(tls.reload(), false);
    t.match(log.lines, [/TLS stays as it was/]);
    t.match(tls.status.certificate, { subject: 'CN=localhost' }, 'the old one is told of');
    t.throws(() => tls.load(), {
      message: /TLS cannot be set up: the key does not belong/,
      hint: /server-key\.pem/,
    });
    refuse = false;
    t.equal(tls.reload(), true);
  });
});
