// The socket of the control API: its mode from the first moment, and what happens to a file that is already there.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { listenOnUnixSocket } from '../../../src/agent/unix-socket.js';

function place(t: Test): { path: string; server: Server } {
  const directory = mkdtempSync(join(tmpdir(), 'unix-socket-'));
  const server = createServer();
  t.teardown(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });
  return { path: join(directory, 's'), server };
}

t.test('the mode is the one asked for', async (t) => {
  const { path, server } = place(t);
  await listenOnUnixSocket(server, { path, mode: 0o600, group: undefined });
  t.equal(statSync(path).mode & 0o777, 0o600);
});

t.test('a group that does not exist is ignored', async (t) => {
  const { path, server } = place(t);
  t.equal(await listenOnUnixSocket(server, { path, mode: 0o660, group: 'no-such-group-here' }), undefined);
});

t.test('a file left behind by a dead process is replaced', async (t) => {
  const { path, server } = place(t);
  const leave = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', leave, path]);
  t.ok(statSync(path).isSocket(), 'it is there');
  await listenOnUnixSocket(server, { path, mode: 0o660, group: undefined });
  t.ok(server.listening);
});

t.test('a socket on which somebody answers is left alone', async (t) => {
  const { path, server } = place(t);
  const other = createServer();
  await listenOnUnixSocket(other, { path, mode: 0o660, group: undefined });
  await t.rejects(listenOnUnixSocket(server, { path, mode: 0o660, group: undefined }), {
    code: 'address-in-use',
    message: /Another process answers/,
  });
  t.ok(other.listening);
  other.close();
});

t.test('a file that is no socket is left alone', async (t) => {
  const { path, server } = place(t);
  writeFileSync(path, 'precious');
  await t.rejects(listenOnUnixSocket(server, { path, mode: 0o660, group: undefined }), {
    message: /is no socket/,
  });
});

t.test('a path that is too long, and a directory that is not there', async (t) => {
  const { path, server } = place(t);
  const long = `${path}${'x'.repeat(120)}`;
  await t.rejects(listenOnUnixSocket(server, { path: long, mode: 0o660, group: undefined }), {
    message: /107 are allowed/,
  });
  await t.rejects(listenOnUnixSocket(server, { path: `${path}/deeper/s`, mode: 0o660, group: undefined }), {
    code: 'listen-failed',
    message: /Cannot listen on/,
    hint: /directory exists/,
  });
});
