// A kernel without the nbd driver, asked for real: what to do is said, every connection made for it ends, and nothing else is disturbed.
import { existsSync } from 'node:fs';
import t from 'tap';
import { runCli } from '../cli/run-cli.js';
import { Daemon } from '../support/daemon.js';
import { RawNbd } from '../support/raw-nbd.js';
import { until } from '../support/waiting.js';

const skip = existsSync('/sys/module/nbd') && 'this kernel has the driver';

t.test('attach says that the driver is missing, as often as it is asked', { skip }, async (t) => {
  const daemon = await Daemon.start(t);
  const say = (...words: string[]) => runCli(words, { api: daemon.apiPath });
  await say('volume', 'create', 'a', '--size', '64M');
  const { client } = await RawNbd.open(daemon.nbdPath, 'a');
  for (let time = 0; time < 3; time++) {
    const refused = await say('attach', 'a', '--connections', '16');
    t.equal(refused.code, 7, refused.stderr);
    t.match(refused.stderr, /The nbd driver of the kernel is not loaded\. Run `modprobe nbd` as root/);
  }
  t.equal((await say('attach', 'list', '--json')).stdout.trim(), '[]');
  await until('the end of the connections made for it', async () => {
    const { connections } = JSON.parse((await say('volume', 'show', 'a', '--json')).stdout) as {
      connections: number;
    };
    return connections === 1;
  });
  client.close();
  t.equal(await daemon.stop(), 0, 'an orderly stop');
});
