// nbdinfo, nbdcopy (libnbd) and qemu-img in TLS, by certificate and by pre-shared key, over TCP and a unix socket.
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Certificates } from '../support/certificates.js';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, must, run } from '../support/programs.js';

const sha = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

t.test('TLS', { skip: missing('openssl') }, async (t) => {
  const directory = t.testdir();
  const certificates = await Certificates.make(path.join(directory, 'pki'));
  const port = 20_000 + (process.pid % 20_000);
  const daemon = await Daemon.start(t, {
    args: ['--nbd', `tcp:127.0.0.1:${port}`],
    configuration: { nbd: { tls: { ...certificates.settings(), clients: 'required', mode: 'forced' } } },
  });
  const file = (name: string): string => path.join(directory, name);
  writeFileSync(file('source'), randomBytes(24 * MIB));
  const byCertificate = `nbds://localhost:${port}/disk?tls-certificates=${certificates.directory}`;
  const byKey = `nbds+unix://alice@/disk?socket=${daemon.nbdPath}&tls-psk-file=${certificates.file('keys.psk')}`;
  const fresh = async (): Promise<void> => {
    await daemon.api.deleteVolume('disk').catch(() => undefined);
    await daemon.api.createVolume('disk', 24 * MIB);
  };
  await fresh();

  await t.test('nbdinfo', { skip: missing('nbdinfo') }, async (t) => {
    for (const uri of [byCertificate, byKey]) {
      t.match(await must('nbdinfo', [uri]), /with TLS/);
      t.match(await must('nbdinfo', ['--list', uri]), /export="disk"/);
    }
    const clear = await run('nbdinfo', [`nbd://127.0.0.1:${port}/disk`]);
    t.not(clear.code, 0, 'in clear');
    const unknown = await run('nbdinfo', [byKey.replace('alice', 'mallory')]);
    t.not(unknown.code, 0, 'a name nobody knows');
  });

  await t.test('nbdcopy, several connections', { skip: missing('nbdcopy') }, async (t) => {
    for (const uri of [byCertificate, byKey]) {
      await fresh();
      await must('nbdcopy', ['--connections=4', file('source'), uri]);
      await must('nbdcopy', ['--connections=4', uri, file('copy')]);
      t.equal(sha(file('copy')), sha(file('source')));
    }
  });

  await t.test('qemu-img', { skip: missing('qemu-img') }, async (t) => {
    const x509 = `tls-creds-x509,id=t,endpoint=client,dir=${certificates.directory}`;
    const psk = `tls-creds-psk,id=t,endpoint=client,dir=${certificates.directory},username=alice`;
    const tcp = `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=t`;
    const unix = `driver=nbd,path=${daemon.nbdPath},export=disk,tls-creds=t`;
    for (const [credentials, image] of [
      [x509, tcp],
      [psk, tcp],
      // QEMU takes the name to check from the address, which a unix socket has not: by key only.
      [psk, unix],
    ] as const) {
      await fresh();
      const words = ['--object', credentials];
      await must('qemu-img', [
        'convert',
        ...words,
        '-n',
        '-f',
        'raw',
        '--target-image-opts',
        file('source'),
        image,
      ]);
      await must('qemu-img', ['convert', ...words, '--image-opts', image, '-O', 'raw', file('copy')]);
      t.equal(sha(file('copy')), sha(file('source')), `${credentials} at ${image}`);
    }
  });

  await t.test('the status tells of it', async (t) => {
    const status = await daemon.api.call<{ tls: { begun: number; failed: number } }>('GET', '/v1/status');
    t.match(status.tls, {
      mode: 'forced',
      clients: 'required',
      psk: true,
      certificate: { subject: 'CN=localhost' },
    });
    t.ok(status.tls.begun > 0 && status.tls.failed > 0, 'handshakes are counted');
  });
});
