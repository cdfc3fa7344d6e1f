// Verbs that cannot be taken back ask a person, and no program.

import { Readable } from 'node:stream';
import t from 'tap';
import { startFakeAgent } from './fake-agent.js';
import { runCli } from './run-cli.js';

const DANGEROUS = [
  'route forget v',
  'quarantine adopt v --cell east',
  'quarantine discard v',
  'host readmit h1',
  'volume delete v --via coordinator',
];

/** The agent of these tests is in no cell: who comes so far has not been kept from it. */
const WENT_ON = { code: 7, stderr: /This host is in no cell/ };

function person(answer: string): Readable {
  return Object.assign(Readable.from([answer]), { isTTY: true });
}

t.test('a person is asked', async (t) => {
  const { apiPath: api } = await startFakeAgent(t);
  for (const words of DANGEROUS.map((line) => line.split(' '))) {
    const asked = await runCli(words, { api, stdin: person('n\n') });
    t.match(
      asked,
      { code: 130, stdout: '', stderr: /Go on\? \[y\/N\] [\s\S]*Nothing was done\. Answer y/ },
      words.join(' '),
    );
    t.equal((await runCli(words, { api, stdin: person('\n') })).code, 130, 'no answer is no');
    t.equal((await runCli(words, { api, stdin: person('') })).code, 130, 'nor is the end of the input one');
    t.match(await runCli(words, { api, stdin: person('y\n') }), WENT_ON, 'yes');
    const unasked = await runCli([...words, '--yes'], { api, stdin: person('n\n') });
    t.match(unasked, WENT_ON, '--yes');
    t.notMatch(unasked.stderr, 'Go on?');
    t.match(await runCli(words, { api }), WENT_ON, 'a program');
  }
});

t.test('an interrupt while it asks: nothing was done', async (t) => {
  const { apiPath: api } = await startFakeAgent(t);
  const stop = new AbortController();
  const stdin = Object.assign(new Readable({ read() {} }), { isTTY: true });
  const running = runCli(['route', 'forget', 'v'], { api, stdin, signal: stop.signal });
  setImmediate(() => stop.abort());
  t.match(await running, { code: 130, stdout: '' });
});
