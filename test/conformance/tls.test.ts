// TLS at a live daemon: the cases of STARTTLS, every other case once more in TLS, and that its files can be exchanged while
// clients are connected.
import { copyFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Certificates } from '../support/certificates.js';
import { Daemon } from '../support/daemon.js';
import { CMD, MIB, OPT, REP } from '../support/nbd-wire.js';
import { missing } from '../support/programs.js';
import { RawNbd } from '../support/raw-nbd.js';
import { runAllCases } from './all-cases.js';
import { type TlsTarget, tlsCases } from './tls-cases.js';

const SIZE = 256n * BigInt(MIB);
const skip = missing('openssl');

t.test('TLS', { skip }, async (t) => {
  const certificates = await Certificates.make(path.join(t.testdir(), 'pki'));
  const client = { ca: certificates.read('ca-cert.pem'), servername: 'localhost' };
  const configured = (tls: object) => ({ nbd: { tls: { ...certificates.settings(), ...tls } } });
  const selective = await Daemon.start(t, {
    configuration: configured({ mode: 'selective', only: ['secret*'] }),
  });
  const forced = await Daemon.start(t, { configuration: configured({ mode: 'forced' }) });
  await selective.api.createVolume('secret-1', 64 * MIB);
  await selective.api.createVolume('disk', SIZE);
  await forced.api.createVolume('disk', SIZE);

  const target: TlsTarget = {
    forced: forced.nbdPath,
    selective: selective.nbdPath,
    open: 'disk',
    secret: 'secret-1',
    contexts: true,
    client,
    promises: true,
  };
  for (const one of tlsCases) await t.test(one.name, (t) => one.run(t, target));

  await t.test('every other case, in TLS', async (t) => {
    const address = `tls+unix:${selective.nbdPath}`;
    const opened = await RawNbd.open(address, 'disk');
    await opened.client.command({ type: CMD.write, length: 4 * MIB }, Buffer.alloc(4 * MIB, 0x11));
    opened.client.close();
    await selective.api.snapshot('disk@before');
    await runAllCases(t, {
      address,
      writable: 'disk',
      size: SIZE,
      readOnly: 'disk@before',
      bitmap: 'before',
      forbidden: null,
      defaultExport: null,
      description: null,
      promises: true,
      processId: selective.pid,
    });
    t.ok((await selective.api.check()).clean, 'the store is clean afterwards');
  });

  await t.test(
    'a client is known by its certificate, or by its key; what is wrong is told in one line',
    async (t) => {
      const connect = async (options: object): Promise<void> => {
        const one = await RawNbd.negotiate(forced.nbdPath);
        try {
          await one.startTls({ ...client, ...options });
          await one.option(OPT.list);
        } finally {
          one.close();
        }
      };
      await connect({ cert: certificates.read('client-cert.pem'), key: certificates.read('client-key.pem') });
      await forced.says('"identity":"x509:web-1"');
      const psk = (key: Buffer) => ({
        pskCallback: () => ({ psk: key, identity: 'alice' }),
        checkServerIdentity: () => undefined,
        ciphers: 'PSK',
        minVersion: 'TLSv1.2',
        maxVersion: 'TLSv1.2',
      });
      await connect(psk(certificates.alicesKey));
      await forced.says('"identity":"psk:alice"');
      await t.rejects(connect(psk(Buffer.alloc(32, 1))), 'another key');
      await certificates.issue({ files: 'old', subject: '/CN=web-1', days: -1 });
      await t.rejects(
        connect({ cert: certificates.read('old-cert.pem'), key: certificates.read('old-key.pem') }),
        'an expired certificate',
      );
      await forced.says('certificate has expired');
      t.notMatch(forced.output, certificates.alicesKey.toString('hex'), 'no secret in the log');
    },
  );

  await t.test(
    'SIGHUP: new files for new connections, the old ones go on; broken files change nothing',
    async (t) => {
      const subjectOf = async (): Promise<string> => {
        const one = await RawNbd.negotiate(forced.nbdPath);
        const { subject } = (await one.startTls(client)).getPeerCertificate();
        one.close();
        return String(subject.O ?? '');
      };
      const running = await RawNbd.negotiate(forced.nbdPath);
      await running.startTls(client);
      await running.negotiateStructured();
      await running.go('disk');
      const serves = async (): Promise<void> => {
        t.equal(
          (await running.command({ type: CMD.read, length: 4096 })).error,
          0,
          'the open connection goes on',
        );
      };
      t.equal(await subjectOf(), '', 'the first certificate');

      await certificates.issue({
        files: 'next',
        subject: '/O=next/CN=localhost',
        alternativeNames: 'DNS:localhost',
      });
      certificates.replace('server', 'next');
      process.kill(forced.pid, 'SIGHUP');
      await forced.says('TLS reloaded');
      t.equal(await subjectOf(), 'next', 'the next one');
      await serves();

      // The key of another certificate.
      copyFileSync(certificates.file('client-key.pem'), certificates.file('server-key.pem'));
      process.kill(forced.pid, 'SIGHUP');
      await forced.says('TLS stays as it was');
      t.match(forced.output, /key does not belong to the certificate/);
      t.equal(await subjectOf(), 'next', 'it stays');
      await serves();
      await running.leave();
    },
  );
});

t.test('without configuration STARTTLS is refused', async (t) => {
  const daemon = await Daemon.start(t);
  const client = await RawNbd.negotiate(daemon.nbdPath);
  t.equal(await client.optionEnd(OPT.startTls), REP.errUnsup);
  client.close();
});
