// The control API as a client meets it: values go out as the schema says, and every refusal has status, code, message and hint.

import { request } from 'node:http';
import { connect } from 'node:net';
import t from 'tap';
import { type FakeAgent, startFakeAgent } from '../../cli/fake-agent.js';

interface Answer {
  status: number;
  body: { error?: { kind: string; code: string; message: string; hint: string } } & Record<string, unknown>;
  text: string;
}

function call({ apiPath }: FakeAgent, method: string, path: string, body?: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
    const headers = payload === undefined ? {} : { 'content-type': 'application/json' };
    const outgoing = request({ socketPath: apiPath, method, path, headers }, async (response) => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
      const isJson = response.headers['content-type']?.startsWith('application/json') === true;
      resolve({ status: response.statusCode ?? 0, text, body: isJson ? JSON.parse(text) : {} });
    });
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
}

t.test('a volume is made, shown, renamed, resized and deleted', async (t) => {
  const agent = await startFakeAgent(t);
  const made = await call(agent, 'POST', '/v1/volumes', { name: 'a', size: '10G' });
  t.equal(made.status, 201);
  t.equal(made.body.sizeBytes, 10 * 2 ** 30);
  t.equal((await call(agent, 'GET', '/v1/volumes/a')).body.depth, 0);
  t.equal((await call(agent, 'PATCH', '/v1/volumes/a', { name: 'b' })).body.name, 'b');
  t.equal(
    (await call(agent, 'PATCH', '/v1/volumes/b', { size: 4096 })).body.error?.code,
    'shrink-needs-force',
  );
  t.equal((await call(agent, 'PATCH', '/v1/volumes/b', { size: 4096, force: true })).body.sizeBytes, 4096);
  t.equal(
    (await call(agent, 'DELETE', '/v1/volumes/b?with_snapshots=true&disconnect=false')).body.kind,
    'volume-delete',
  );
  t.same(agent.operations.calls, ['deleteVolume b {"withSnapshots":true,"disconnect":false}']);
  t.same((await call(agent, 'GET', '/v1/volumes')).body, []);
});

t.test('byte quantities above 2^53 are exact', async (t) => {
  const agent = await startFakeAgent(t);
  const { text } = await call(agent, 'POST', '/v1/volumes', { name: 'big', size: '9223372036854775807' });
  t.match(text, '"sizeBytes":9223372036854775807');
  t.match((await call(agent, 'GET', '/v1/diff?from=a%40b&to=a')).text, '"next":4611686018427387904');
});

t.test('names of any UTF-8 travel percent-encoded', async (t) => {
  const agent = await startFakeAgent(t);
  for (const name of ['ä ö', '100%', 'a?b#c', '日本', 'x'.repeat(128), '..a', '"quoted"']) {
    t.equal((await call(agent, 'POST', '/v1/volumes', { name, size: 4096 })).status, 201, name);
    t.equal((await call(agent, 'GET', `/v1/volumes/${encodeURIComponent(name)}`)).body.name, name);
  }
  const target = '日本@snap/'.replace('/', ' 1');
  t.equal((await call(agent, 'POST', '/v1/snapshots', { targets: [target] })).status, 201);
  t.equal(
    (await call(agent, 'DELETE', `/v1/snapshots/${encodeURIComponent(target)}`)).body.kind,
    'snapshot-delete',
  );
});

const REFUSALS: [what: string, status: number, code: string, method: string, path: string, body?: unknown][] =
  [
    ['a slash in a name', 400, 'name-bad-character', 'POST', '/v1/volumes', { name: 'a/b', size: 1 }],
    [
      'a control character in a name',
      400,
      'name-bad-character',
      'POST',
      '/v1/volumes',
      { name: 'a\u0007', size: 1 },
    ],
    ['a name over 128 bytes', 400, 'name-too-long', 'POST', '/v1/volumes', { name: 'ä'.repeat(65), size: 1 }],
    ['an empty name', 400, 'name-empty', 'POST', '/v1/volumes', { name: '', size: 1 }],
    ['size 0', 400, 'size-zero', 'POST', '/v1/volumes', { name: 'a', size: 0 }],
    ['a negative size', 400, 'size-negative', 'POST', '/v1/volumes', { name: 'a', size: -1 }],
    [
      'a size that is no number',
      400,
      'size-not-a-number',
      'POST',
      '/v1/volumes',
      { name: 'a', size: 'huge' },
    ],
    ['a size over 8 EiB', 400, 'size-too-large', 'POST', '/v1/volumes', { name: 'a', size: '8E' }],
    ['a size of the wrong type', 400, 'request-invalid', 'POST', '/v1/volumes', { name: 'a', size: true }],
    ['a missing key', 400, 'request-invalid', 'POST', '/v1/volumes', { name: 'a' }],
    ['an unknown key', 400, 'request-invalid', 'POST', '/v1/volumes', { name: 'a', size: 1, sise: 2 }],
    ['an unknown query', 400, 'request-invalid', 'DELETE', '/v1/volumes/there?force=true'],
    ['a body that is no JSON', 400, 'request-invalid', 'POST', '/v1/volumes', '{"name":'],
    ['a duplicate', 409, 'volume-exists', 'POST', '/v1/volumes', { name: 'there', size: 1 }],
    ['a missing volume', 404, 'volume-not-found', 'GET', '/v1/volumes/nowhere'],
    ['a missing snapshot', 404, 'snapshot-not-found', 'DELETE', '/v1/snapshots/there%40nowhere'],
    [
      'a snapshot without an at',
      400,
      'snapshot-reference-malformed',
      'POST',
      '/v1/snapshots',
      { targets: ['there'] },
    ],
    ['no snapshot at all', 400, 'request-invalid', 'POST', '/v1/snapshots', { targets: [] }],
    [
      'rename and resize at once',
      400,
      'request-invalid',
      'PATCH',
      '/v1/volumes/there',
      { name: 'b', size: 1 },
    ],
    ['a change of nothing', 400, 'request-invalid', 'PATCH', '/v1/volumes/there', {}],
    ['a volume with snapshots', 409, 'volume-has-snapshots', 'DELETE', '/v1/volumes/there'],
    ['a task that is not there', 404, 'task-not-found', 'GET', '/v1/tasks/999'],
    ['a task id that is no number', 400, 'request-invalid', 'GET', '/v1/tasks/x'],
    ['a route that does not exist', 404, 'route-not-found', 'GET', '/v2/volumes'],
    ['a method that does not exist', 404, 'route-not-found', 'PUT', '/v1/volumes'],
    [
      'a body over the limit',
      400,
      'request-too-large',
      'POST',
      '/v1/volumes',
      { name: 'a'.repeat(2 ** 20), size: 1 },
    ],
  ];

t.test('refusals', async (t) => {
  const agent = await startFakeAgent(t);
  await call(agent, 'POST', '/v1/volumes', { name: 'there', size: '1M' });
  await call(agent, 'POST', '/v1/snapshots', { targets: ['there@s'] });
  for (const [what, status, code, method, path, body] of REFUSALS) {
    const answer = await call(agent, method, path, body);
    t.equal(answer.status, status, `${what}: status`);
    t.equal(answer.body.error?.code, code, `${what}: code`);
    t.match(answer.body.error?.message, /^[^\n]+\.$/, `${what}: one sentence`);
    t.match(answer.body.error?.hint, /\.$/, `${what}: what to do`);
  }
  t.equal(agent.operations.volumes.size, 1, 'nothing half done');
});

t.test('bytes that are not HTTP get an answer and do not disturb others', async (t) => {
  const agent = await startFakeAgent(t);
  const socket = connect({ path: agent.apiPath });
  socket.end('\u0000\u0001 nonsense\r\n\r\n');
  let text = '';
  for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
  t.match(text, /^HTTP\/1\.1 400 /);
  t.match(text, '"code":"request-invalid"');
  t.equal((await call(agent, 'GET', '/v1/status')).status, 200);
});

t.test('a task can be followed to its end, and cancelled if it may', async (t) => {
  const agent = await startFakeAgent(t);
  const task = agent.operations.addTask({
    kind: 'check',
    cancellable: true,
    done: 1n,
    total: 4n,
    percent: 25,
  });
  const followed = call(agent, 'GET', `/v1/tasks/${task.id}?stream=true`);
  while (agent.operations.watchers.get(task.id) === undefined) await new Promise(setImmediate);
  t.equal((await call(agent, 'DELETE', `/v1/tasks/${task.id}`)).body.state, 'cancelled');
  const lines = (await followed).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.equal(lines[lines.length - 1].state, 'cancelled');
  t.equal(agent.operations.watchers.get(task.id)?.size, 0, 'nobody watches any more');
  const fixed = agent.operations.addTask({});
  t.equal((await call(agent, 'DELETE', `/v1/tasks/${fixed.id}`)).body.error?.code, 'task-not-cancellable');
});

t.test('a follower that goes away stops watching', async (t) => {
  const agent = await startFakeAgent(t);
  const task = agent.operations.addTask({});
  const follower = connect({ path: agent.apiPath });
  follower.write(`GET /v1/tasks/${task.id}?stream=true HTTP/1.1\r\nhost: x\r\n\r\n`);
  await new Promise((resolve) => follower.once('data', resolve));
  follower.destroy();
  while (agent.operations.watchers.get(task.id)?.size !== 0) {
    agent.operations.changeTask(task.id, { done: 1n });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.pass('unwatched');
});

t.test('a check answers with a report, or streams', async (t) => {
  const agent = await startFakeAgent(t);
  t.same((await call(agent, 'GET', '/v1/store/check')).body, { clean: true, problems: [], recordsSeen: 2 });
  agent.inspection.problems.push({
    severity: 'error',
    code: 'record-corrupt',
    message: 'A record is damaged.',
  });
  const lines = (await call(agent, 'GET', '/v1/store/check?stream=true')).text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  t.same(
    lines.map(({ type }) => type),
    ['problem', 'report', 'progress'].filter((type) => type !== 'progress'),
  );
  t.equal(lines[lines.length - 1].clean, false);
});

t.test('metrics are in seconds and bytes, with states as labels', async (t) => {
  const agent = await startFakeAgent(t);
  await call(agent, 'POST', '/v1/volumes', { name: 'a "quoted" \\ name', size: '1M' });
  const none = { requests: 0n, bytes: 0n, errors: 0n, microseconds: 0n, buckets: new BigUint64Array(32) };
  const buckets = new BigUint64Array(32);
  buckets[4] = 1n;
  buckets[11] = 2n;
  buckets[31] = 1n;
  agent.operations.counters.devices.push({
    handle: 1,
    connections: 2,
    residentBytes: 3n,
    dirtyWindows: 0,
    throttledRequests: 0n,
    throttledMicroseconds: 0n,
    kinds: {
      read: { requests: 4n, bytes: 8192n, errors: 1n, microseconds: 2_500_000n, buckets },
      write: none,
      flush: none,
      trim: none,
      write_zeroes: none,
      block_status: none,
    },
  });
  const { text } = await call(agent, 'GET', '/metrics');
  for (const line of [
    'cellblock_store_state{state="running"} 1',
    'cellblock_store_state{state="read-only"} 0',
    'cellblock_journal_used_bytes 256',
    'cellblock_volume_size_bytes{volume="a \\"quoted\\" \\\\ name"} 1048576',
    'cellblock_volume_state{volume="a \\"quoted\\" \\\\ name",state="writable"} 1',
    '# TYPE cellblock_request_duration_seconds histogram',
    'cellblock_request_duration_seconds_bucket{export="a",kind="read",le="0.000016"} 1',
    'cellblock_request_duration_seconds_bucket{export="a",kind="read",le="0.002048"} 3',
    'cellblock_request_duration_seconds_bucket{export="a",kind="read",le="+Inf"} 4',
    'cellblock_request_duration_seconds_sum{export="a",kind="read"} 2.5',
    'cellblock_request_bytes_total{export="a",kind="read"} 8192',
    'cellblock_request_errors_total{export="a",kind="read"} 1',
  ]) {
    t.ok(text.split('\n').includes(line), line);
  }
  t.match(text, /^process_cpu_seconds_total /m);
});

t.test('a counter nobody supplies is left out: no NaN in the metrics', async (t) => {
  const agent = await startFakeAgent(t);
  const { evictedWindows: _, ...others } = agent.operations.counters;
  agent.operations.counters = others as typeof agent.operations.counters;
  const { text } = await call(agent, 'GET', '/metrics');
  t.notMatch(text, /nan/i);
  t.match(text, /^cellblock_faulted_windows_total 0$/m);
});

t.test('the busy switch holds JavaScript and answers', async (t) => {
  const agent = await startFakeAgent(t);
  const before = performance.now();
  t.equal((await call(agent, 'POST', '/v1/debug/busy', { ms: 30 })).status, 204);
  t.ok(performance.now() - before >= 30);
});
