// attach, detach and attach list as typed: what the agent is asked, what is shown, and that what cannot be mounted is not left attached.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { startFakeAgent } from './fake-agent.js';
import { runCli } from './run-cli.js';

t.test('a device comes, is listed with who has it, and goes', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const say = (...words: string[]) => runCli(words, { api });
  await say('volume', 'create', 'web', '--size', '1G');
  t.match(await say('attach', 'list'), {
    stdout: /^Nothing is attached\. Attach a volume with: cellblock attach NAME/,
  });
  t.match(await say('attach', 'web'), { code: 0, stdout: 'web attached as /dev/nbd0 (1G).\n' });
  operations.attachments.get('web')!.users.push({ kind: 'mount', device: '/dev/nbd0', where: '/srv/my web' });
  t.match(await say('attach', 'list'), {
    stdout:
      /DEVICE +NAME +SIZE +MODE +CONNECTIONS +SINCE +USED\n\/dev\/nbd0 +web +1G +read-write +2 of 2 .* \/srv\/my web\n/,
  });
  const refused = await say('detach', 'web');
  t.equal(refused.code, 5);
  t.match(
    refused.stderr,
    /"web" is attached, and \/dev\/nbd0 is mounted on \/srv\/my web\. End that first: unmount it/,
  );
  t.match(await say('detach', '/dev/nbd0', '--force'), { code: 0, stdout: 'web is no longer /dev/nbd0.\n' });
  t.match(await say('detach', 'web'), {
    code: 3,
    stderr: /"web" is not attached\. See `cellblock attach list`/,
  });
  t.strictSame(operations.calls, ['attach web {}', 'detach web', 'detach /dev/nbd0 --force', 'detach web']);
});

t.test('attached already: an error, unless that is what is wanted', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const say = (...words: string[]) => runCli(words, { api });
  await say('volume', 'create', 'web', '--size', '1G');
  t.match(await say('attach', 'web', '--if-not-attached'), {
    code: 0,
    stdout: 'web attached as /dev/nbd0 (1G).\n',
  });
  t.match(await say('attach', 'web', '--if-not-attached'), {
    code: 0,
    stdout: 'web is attached already, as /dev/nbd0.\n',
  });
  t.strictSame(operations.calls, ['attach web {}'], 'it is asked for once');
});

t.test('every option reaches the agent', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  await runCli(['volume', 'create', 'web', '--size', '1G'], { api });
  const words = ['--read-only', '--connections', '4', '--device', '/dev/nbd7', '--block-size', '4096'];
  const said = await runCli(['attach', 'web', ...words, '--io-timeout', '3', '--dead-timeout', '60'], {
    api,
  });
  t.equal(said.stdout, 'web attached as /dev/nbd7 (1G, read-only).\n');
  t.strictSame(JSON.parse(operations.calls[0]!.slice('attach web '.length)), {
    connections: 4,
    device: '/dev/nbd7',
    readOnly: true,
    blockBytes: 4096,
    ioTimeoutSeconds: 3,
    deadTimeoutSeconds: 60,
  });
  const json = JSON.parse((await runCli(['attach', 'list', '--json'], { api })).stdout);
  t.match(json, [{ name: 'web', device: '/dev/nbd7', blockBytes: 4096, users: [] }]);
});

t.test('bad words: exit code 2 before the agent is asked', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  for (const words of [
    ['attach'],
    ['attach', 'a/b'],
    ['attach', 'a@'],
    ['attach', 'a', '--connections', 'two'],
    ['detach'],
  ])
    t.equal((await runCli(words, { api })).code, 2, words.join(' '));
  t.strictSame(operations.calls, []);
});

t.test('what cannot be mounted is detached again, with what mount said', async (t) => {
  const { apiPath: api, operations } = await startFakeAgent(t);
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-cli-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  await runCli(['volume', 'create', 'web', '--size', '1G'], { api });
  const words = ['attach', 'web', '--device', '/dev/nbd-none', '--mount', directory];
  const said = await runCli(words, { api });
  t.equal(said.code, 7);
  t.match(said.stderr, /\/dev\/nbd-none could not be mounted on ".*" and was detached again: mount: /);
  t.equal(operations.attachments.size, 0);
});
