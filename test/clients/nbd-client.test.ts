// nbd-client, of what it does without a kernel: the list of exports. With a kernel it is tried in a guest, see test/vm where there is one.
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { missing, run } from '../support/programs.js';

t.test('lists the exports, over a unix socket and over TCP', { skip: missing('nbd-client') }, async (t) => {
  const port = 20_000 + ((process.pid + 4999) % 20_000);
  const daemon = await Daemon.start(t, { args: ['--nbd', `tcp:127.0.0.1:${port}`] });
  for (const name of ['disk', 'other']) await daemon.api.createVolume(name, 64 * MIB);
  await daemon.api.snapshot('disk@s');
  const ways = [
    ['-l', '-unix', daemon.nbdPath],
    ['-l', '127.0.0.1', String(port)],
  ];
  for (const words of ways) {
    const { stdout, code, story } = await run('nbd-client', words);
    t.equal(code, 0, story);
    const names = stdout.split('\n').map((line) => line.replace(/: .*/, '').trim());
    for (const name of ['disk', 'disk@s', 'other']) t.ok(names.includes(name), `${name}: ${story}`);
  }
});
