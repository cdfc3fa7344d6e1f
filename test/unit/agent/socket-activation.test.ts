// Sockets the agent is started with: what the variables mean, and each way they can be wrong.
import t from 'tap';
import { takePassedSockets } from '../../../src/agent/socket-activation.js';

const PID = 4711;
const take = (variables: Record<string, string>) => takePassedSockets({ ...variables }, PID);
const clients = { files: [], sockets: [] };
const passed = (count: string, names?: string) =>
  take({ LISTEN_PID: '4711', LISTEN_FDS: count, ...(names === undefined ? {} : { LISTEN_FDNAMES: names }) });

t.test('descriptors from 3 on, by name', async (t) => {
  t.same(passed('3', 'nbd:api:nbd'), { nbd: [3, 5], api: 4, clients });
  t.same(passed('1', 'api'), { nbd: [], api: 3, clients });
  t.same(passed('2'), { nbd: [3, 4], api: null, clients }, 'without names they are for clients');
  t.same(
    passed('2', 'unknown:'),
    { nbd: [3, 4], api: null, clients },
    'systemd calls one without a name unknown',
  );
  t.same(passed('0'), { nbd: [], api: null, clients });
  t.same(passed('0', ''), { nbd: [], api: null, clients }, 'no socket has no name');
});

t.test('what an earlier run left with the manager, in any order', async (t) => {
  t.same(passed('5', 'kept-client:nbd:kept-clients:kept-client:api'), {
    nbd: [4],
    api: 7,
    clients: { files: [5], sockets: [3, 6] },
  });
});

t.test('what is meant for another process is left alone, and the variables go either way', async (t) => {
  const nothing = { nbd: [], api: null, clients };
  t.same(take({}), nothing);
  t.same(take({ LISTEN_PID: '1', LISTEN_FDS: '2' }), nothing);
  t.same(take({ LISTEN_FDS: '2' }), nothing, 'no process is named');
  t.same(take({ LISTEN_PID: '4711' }), nothing, 'no number is named');
  for (const pid of ['1', '4711']) {
    const environment = { LISTEN_PID: pid, LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd', OTHER: 'stays' };
    takePassedSockets(environment, PID);
    t.same(environment, { OTHER: 'stays' });
  }
});

t.test('wrong variables are refused with a sentence', async (t) => {
  const wrong: [() => unknown, RegExp][] = [
    [() => passed('many'), /LISTEN_FDS is "many"/],
    [() => passed('-1'), /LISTEN_FDS is "-1"/],
    [() => passed('100001'), /no number from 0 to 100000/],
    [() => passed('2', 'nbd'), /names 1 sockets, and LISTEN_FDS says 2/],
    [() => passed('1', 'web'), /is named "web"/],
    [() => passed('1', 'cellblockd.socket'), /is named "cellblockd.socket"/],
    [() => passed('2', 'api:api'), /2 sockets passed at the start are named api/],
  ];
  for (const [act, message] of wrong) {
    t.throws(act, { code: 'socket-activation-invalid', message, hint: /FileDescriptorName=/ });
  }
});
