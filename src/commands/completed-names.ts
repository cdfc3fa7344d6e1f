// Names for the completion of a shell, as the agent knows them. Invariants: whoever presses a key waits a second at most, and is told
// names or nothing. Only little is loaded for it (no API client, no grammar): a start of Node is what it costs.

import { type IncomingMessage, request } from 'node:http';
import type { NameKind } from './completion-values.js';

type Ask = (path: string, body?: object) => Promise<unknown>;

/** What names are looked up in; whatever else is there of it does not matter here. */
interface Named {
  name: string;
}

export interface CompletedNamesOptions {
  socketPath: string;
  patienceMs?: number;
}

const PATIENCE_MS = 1000;
/** An answer that is larger is of no use to a person either. */
const MOST_BYTES = 32 << 20;

export async function completedNames(kind: string, options: CompletedNamesOptions): Promise<string[]> {
  if (!Object.hasOwn(SOURCES, kind)) return [];
  const signal = AbortSignal.timeout(options.patienceMs ?? PATIENCE_MS);
  try {
    const names = await SOURCES[kind as NameKind]((path, body) =>
      ask(path, body, options.socketPath, signal),
    );
    return [...new Set(names)].sort();
  } catch {
    // No agent, no coordinator, not permitted: the command itself will say so.
    return [];
  }
}

const namesOf = async (ask: Ask, path: string): Promise<string[]> =>
  ((await ask(path)) as Named[]).map(({ name }) => name);

const volumes = (ask: Ask) => namesOf(ask, '/v1/volumes');
const files = (ask: Ask) => namesOf(ask, '/v1/files');
const vms = (ask: Ask) => namesOf(ask, '/v1/vms');
const snapshots = async (ask: Ask) =>
  ((await ask('/v1/snapshots')) as { fullName: string }[]).map(({ fullName }) => fullName);
const vmSnapshots = async (ask: Ask) =>
  ((await ask('/v1/vms')) as { name: string; snapshots: string[] }[]).flatMap((vm) =>
    vm.snapshots.map((snapshot) => `${vm.name}@${snapshot}`),
  );
const idsOf = async (ask: Ask, path: string): Promise<string[]> =>
  ((await ask(path)) as { id: number }[]).map(({ id }) => String(id));

function both(...sources: ((ask: Ask) => Promise<string[]>)[]): (ask: Ask) => Promise<string[]> {
  return async (ask) => (await Promise.all(sources.map((source) => source(ask)))).flat();
}

/** What the coordinator gives for a verb of its own; see src/protocol/verbs.ts. */
async function fromCoordinator<Value>(ask: Ask, verb: string, args: object = {}): Promise<Value> {
  const answer = await ask('/v1/coordinator/calls', { verb, arguments: args, id: anyId() });
  return (answer as { value: Value }).value;
}

/** Nothing is changed, so nobody asks for it again; randomBytes would load crypto. */
function anyId(): string {
  const digit = () => Math.floor(Math.random() * 16).toString(16);
  return Array.from({ length: 32 }, digit).join('');
}

const SOURCES: Readonly<Record<NameKind, (ask: Ask) => Promise<string[]>>> = {
  volumes,
  files,
  containers: both(volumes, files),
  snapshots,
  exports: both(volumes, files, snapshots),
  vms,
  'vm-snapshots': vmSnapshots,
  targets: both(volumes, files, vms),
  sources: both(snapshots, vmSnapshots),
  syncs: (ask) => idsOf(ask, '/v1/syncs'),
  tasks: (ask) => idsOf(ask, '/v1/tasks'),
  attachments: async (ask) =>
    ((await ask('/v1/attachments')) as { name: string | null; device: string }[]).flatMap(
      ({ name, device }) => (name === null ? [device] : [name, device]),
    ),
  cells: async (ask) =>
    (await fromCoordinator<{ cells: { cell: string }[] }>(ask, 'cell-list')).cells.map(({ cell }) => cell),
  hosts: async (ask) =>
    (await fromCoordinator<{ hosts: { host: string }[] }>(ask, 'host-list')).hosts.map(({ host }) => host),
  /** The first page: more than a thousand names are no choice. */
  routes: async (ask) =>
    (await fromCoordinator<{ routes: Named[] }>(ask, 'route-list', { after: null })).routes.map(
      ({ name }) => name,
    ),
  quarantined: async (ask) =>
    (await fromCoordinator<{ volumes: Named[] }>(ask, 'quarantine-list')).volumes.map(({ name }) => name),
};

function ask(
  path: string,
  body: object | undefined,
  socketPath: string,
  signal: AbortSignal,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const sent = request({
      socketPath,
      path,
      signal,
      method: body === undefined ? 'GET' : 'POST',
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
    });
    sent.once('error', reject);
    sent.once('response', (answer) => void read(answer).then(resolve, reject));
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function read(answer: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const part of answer.setEncoding('utf8')) {
    text += part;
    if (text.length > MOST_BYTES) throw new Error('too much');
  }
  if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
  return JSON.parse(text);
}
