// Clients that are left with the service manager and taken over: what is written of them, and what of it is believed.
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { KeptClients, type PassedClients } from '../../../src/agent/kept-clients.js';
import { ServiceManager } from '../../../src/agent/service-manager.js';
import { loadServiceNotifications } from '../../../src/plane/addon.js';
import type { KeptClient } from '../../../src/plane/treaty.js';

const STORE = 'a-store';

/** Files stand for sockets: their cookies are what the test says. */
function scene(t: Test) {
  const directory = mkdtempSync(path.join(tmpdir(), 'cellblock-kept-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const told: string[] = [];
  const log: string[] = [];
  const cookies = new Map<number, bigint>();
  let held: number[] = [];
  const sealed = loadServiceNotifications().sealedFile;
  const native = {
    notifyServiceManager: (_address: string, message: string, descriptors: number[]) => {
      told.push(message);
      // The manager has its own copies.
      held = [...held, ...descriptors.map((one) => openSync(`/proc/self/fd/${one}`, 'r'))];
    },
    sealedFile: sealed,
    socketCookie: (descriptor: number) => cookies.get(descriptor) ?? 0n,
  };
  const sink = new Writable({
    write(line, _encoding, done) {
      log.push(JSON.parse(String(line)).msg);
      done();
    },
  });
  const logger = pino(sink);
  const manager = new ServiceManager({
    environment: { NOTIFY_SOCKET: '/notify' },
    pid: 1,
    log: logger,
    notifications: () => native,
  });
  const clients = (passed: PassedClients = { files: [], sockets: [] }) =>
    new KeptClients({ manager, native, passed, log: logger });
  let made = 0;
  const socket = (cookie: bigint): number => {
    const file = path.join(directory, String(made++));
    writeFileSync(file, '');
    const descriptor = openSync(file, 'r');
    cookies.set(descriptor, cookie);
    return descriptor;
  };
  return { told, log, clients, socket, sealed, held: () => held };
}

const client = (descriptor: number, exportName = 'disk', kernel = false): KeptClient => ({
  descriptor,
  exportName,
  peer: { name: 'unix:uid=7', uid: 7, identity: '', tls: false, host: '' },
  structured: true,
  extended: false,
  transmissionFlags: 0x5ed,
  kernel,
  contexts: [{ id: 1, kind: 'changed', snapshot: 'monday' }],
  input: Buffer.from([0x25, 0x60, 0x95]),
});

const isOpen = (descriptor: number): boolean => {
  try {
    fstatSync(descriptor);
    return true;
  } catch {
    return false;
  }
};

t.test('what was left is taken over as it was, by whatever number it comes back', async (t) => {
  const { clients, socket, told, held } = scene(t);
  const left = [client(socket(11n), 'a'), client(socket(12n), 'b', true)];
  clients().keep(left, STORE);
  t.same(told, ['FDSTORE=1\nFDNAME=kept-clients', 'FDSTORE=1\nFDNAME=kept-client'], 'the file first');
  t.notOk(
    left.some(({ descriptor }) => isOpen(descriptor)),
    'they are not this process’s any more',
  );
  const [file] = held();
  const back = [socket(12n), socket(11n)];
  const next = clients({ files: [file as number], sockets: back });
  t.same(next.take(STORE), [client(back[0] as number, 'b', true), client(back[1] as number, 'a')]);
  t.equal(next.take(STORE).length, 2, 'asked again: the same');
  t.same(told.slice(2), ['FDSTOREREMOVE=1\nFDNAME=kept-clients', 'FDSTOREREMOVE=1\nFDNAME=kept-client']);
  t.notOk(isOpen(file as number), 'the file is closed');
});

t.test('nobody: nothing is said', async (t) => {
  const { clients, told } = scene(t);
  clients().keep([], STORE);
  t.same(clients().take(STORE), []);
  t.same(told, []);
});

t.test('a socket of which nothing is known is closed', async (t) => {
  const { clients, socket, sealed, log } = scene(t);
  const stranger = socket(99n);
  const file = sealed('x', Buffer.from(JSON.stringify({ format: 2, storeId: STORE, clients: [] })));
  t.same(clients({ files: [file], sockets: [stranger] }).take(STORE), []);
  t.notOk(isOpen(stranger));
  t.match(log, [/nothing was kept/, /taken over/]);
});

t.test('what is of another store or version, or cannot be read, is not believed', async (t) => {
  const whole = { format: 2, storeId: STORE, clients: [{ ...client(0), cookie: '5', input: '' }] };
  const files: [string, RegExp][] = [
    [JSON.stringify({ ...whole, storeId: 'another' }), /another store/],
    [JSON.stringify({ ...whole, format: 3 }), /another version/],
    ['{ "form', /cannot be read/],
    ['', /cannot be read/],
  ];
  for (const [content, said] of files) {
    const { clients, socket, sealed, log } = scene(t);
    const kept = socket(5n);
    const passed = { files: [sealed('x', Buffer.from(content))], sockets: [kept] };
    t.same(clients(passed).take(STORE), [], content.slice(0, 40));
    t.match(log[0], said);
    t.notOk(isOpen(kept), 'closed');
  }
});

t.test('several files: after a start that did not come to its end', async (t) => {
  const { clients, socket, held } = scene(t);
  clients().keep([client(socket(1n), 'a')], STORE);
  clients().keep([client(socket(2n), 'b')], STORE);
  const files = held().filter((_, index) => index % 2 === 0);
  const sockets = [socket(1n), socket(2n)];
  const taken = clients({ files, sockets }).take(STORE);
  t.same(
    taken.map(({ exportName }) => exportName),
    ['a', 'b'],
  );
  for (const one of sockets) closeSync(one);
});
