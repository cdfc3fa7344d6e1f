// A stranger's NBD server for tests of transfers: nbdkit on a socket of its own, ended with the test.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ByteStream } from '../../src/nbd-client/byte-stream.js';

/** A reason to skip, or false. */
export const withoutNbdkit =
  spawnSync('nbdkit', ['--version']).status !== 0 && 'nbdkit is missing (Debian package nbdkit)';

/** Answers the address once it listens. */
export async function serveNbdkit(
  t: { teardown(clean: () => unknown): void },
  plugin: string[],
): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-nbdkit-'));
  const socket = join(directory, 's');
  const words = ['-f', '-U', socket, '--pidfile', join(directory, 'pid'), ...plugin];
  const server = spawn('nbdkit', words, { stdio: 'ignore' });
  t.teardown(() => {
    server.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  });
  for (let tries = 0; ; tries++) {
    try {
      (await ByteStream.connect(`unix:${socket}`)).destroy();
      return `unix:${socket}`;
    } catch (error) {
      if (tries === 500) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
