// Certificates and keys for tests of TLS, made by openssl in a directory laid out as QEMU and libnbd want it: ca-cert.pem,
// server-cert.pem, server-key.pem, client-cert.pem, client-key.pem, keys.psk.
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { identityUri } from '../../src/protocol/identity.js';
import { must } from './programs.js';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export interface IssueOptions {
  /** Of the files NAME-cert.pem and NAME-key.pem. */
  files: string;
  subject: string;
  alternativeNames?: string;
  /** Negative: it has expired. */
  days?: number;
}

export class Certificates {
  readonly directory: string;
  /** The pre-shared key of alice, in bytes. */
  readonly alicesKey = randomBytes(32);

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** A CA with a certificate of the server (localhost) and one of a client, and a pre-shared key of alice. */
  static async make(directory: string): Promise<Certificates> {
    const made = new Certificates(directory);
    mkdirSync(directory, { recursive: true });
    const ca = ['-x509', '-subj', '/CN=CA of a test', '-days', '30'];
    await must('openssl', [
      'req',
      ...KEY,
      ...ca,
      '-keyout',
      made.file('ca-key.pem'),
      '-out',
      made.file('ca-cert.pem'),
    ]);
    await made.issue({
      files: 'server',
      subject: '/CN=localhost',
      alternativeNames: 'DNS:localhost,IP:127.0.0.1',
    });
    await made.issue({ files: 'client', subject: '/O=tests/CN=web-1' });
    writeFileSync(made.file('keys.psk'), `alice:${made.alicesKey.toString('hex')}\n`, { mode: 0o600 });
    return made;
  }

  async issue({ files, subject, alternativeNames, days = 30 }: IssueOptions): Promise<void> {
    const [request, extensions] = [this.file(`${files}.csr`), this.file(`${files}.ext`)];
    const names = alternativeNames === undefined ? '' : `subjectAltName=${alternativeNames}\n`;
    writeFileSync(extensions, `basicConstraints=critical,CA:FALSE\n${names}`);
    const key = this.file(`${files}-key.pem`);
    await must('openssl', ['req', ...KEY, '-subj', subject, '-keyout', key, '-out', request]);
    const signer = ['-CA', this.file('ca-cert.pem'), '-CAkey', this.file('ca-key.pem'), '-CAcreateserial'];
    const rest = ['-days', String(days), '-extfile', extensions, '-out', this.file(`${files}-cert.pem`)];
    await must('openssl', ['x509', '-req', '-in', request, ...signer, ...rest]);
  }

  /** Of an agent, for its coordinator: HOST-cert.pem and HOST-key.pem. */
  issueHost(host: string, cell: string): Promise<void> {
    return this.issue({
      files: host,
      subject: `/CN=${host}`,
      alternativeNames: `URI:${identityUri({ host, cell })}`,
    });
  }

  file(name: string): string {
    return path.join(this.directory, name);
  }

  read(name: string): Buffer {
    return readFileSync(this.file(name));
  }

  /** The files of an issue take the place of those of another one. */
  replace(files: string, by: string): void {
    for (const kind of ['cert', 'key'])
      copyFileSync(this.file(`${by}-${kind}.pem`), this.file(`${files}-${kind}.pem`));
  }

  /** What cellblockd is configured with. */
  settings(): Record<string, string> {
    return {
      certificate: this.file('server-cert.pem'),
      key: this.file('server-key.pem'),
      client_ca: this.file('ca-cert.pem'),
      clients: 'optional',
      psk: this.file('keys.psk'),
    };
  }
}
