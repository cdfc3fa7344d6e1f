// The agent, put together: every part is built here, in order, and stopped in reverse. This list is the architecture of the process.

import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { requireFreeAddresses } from '../agent/addresses.js';
import type { AgentParts } from '../agent/agent-parts.js';
import { deviceNames } from '../agent/device-names.js';
import { diagnose } from '../agent/diagnosis.js';
import type { KeptClients } from '../agent/kept-clients.js';
import { copyCredentialsOf } from '../agent/member-credentials.js';
import type { Membership, MembershipOptions } from '../agent/membership.js';
import type { Settings } from '../agent/settings.js';
import { SpaceTrend } from '../agent/space-trend.js';
import { Tls } from '../agent/tls.js';
import { giveToGroup, listenOnDescriptor, listenOnUnixSocket } from '../agent/unix-socket.js';
import { asCellblockError, CellblockError, systemCode } from '../base/errors.js';
import { handoverPath } from '../model/handover.js';
import { checkSocketPath } from '../operations/listen-error.js';
import { Operations } from '../operations/operations.js';
import { loadPunchHole } from '../plane/addon.js';
import type { KeptClient, Plane } from '../plane/treaty.js';
import { inspectionOf } from './inspection.js';
import { Stops } from './stops.js';
import { version } from './version.js';

export interface RunningAgent {
  operations: Operations;
  /** Addresses served, port 0 resolved. */
  listeners: string[];
  /** Reads again what may be changed while it runs: the files of TLS. */
  reload(): void;
  /** Resolves when nothing hangs. */
  pulse(): Promise<void>;
  /** What it does, in a few words. */
  describe(): string;
  /** Ends everything in order; idempotent. */
  stop(): Promise<void>;
}

export interface Surroundings {
  plane: Plane;
  log: Logger;
  debug: boolean;
  /** Clients that an earlier agent left, and who takes those of this one at its stop; null: they are told. */
  clients?: { resumed: KeptClients; kept: KeptClients | null };
  /** What a service manager made for it under /run, absolute; null: there is none. */
  runtimeDirectory?: string | null;
  /** The file the settings come from, absolute; null: there is none. */
  configuration?: string | null;
}

/** Control API requests under way get this long at a stop; streams never end by themselves. */
const API_STOP_MS = 2000;

export async function composeAgent(
  settings: Settings,
  { plane, log, debug, clients, runtimeDirectory = null, configuration = null }: Surroundings,
): Promise<RunningAgent> {
  const stops = new Stops(log);
  const started = new Date().toISOString();
  try {
    const { store, engine, nbd, api, metrics: metricsSettings, limits, coordinator } = settings;

    const operations = await Operations.open({
      ...store,
      plane,
      log,
      reactors: engine.reactors > 0 ? engine.reactors : Math.min(4, availableParallelism()),
      engine: engine.kind,
      maxConnections: nbd.maxConnections,
      maxConnectionsPerClient: nbd.maxConnectionsPerClient,
      defaultExport: nbd.defaultExport,
      handshakeTimeoutMs: nbd.handshakeTimeoutMs,
      needsTls: namePattern(nbd.tls.only),
      ...(nbd.transactionLogs === undefined ? {} : { transactionLogs: nbd.transactionLogs }),
      holdLimitMs: limits.holdMs,
      ...(coordinator === null
        ? {}
        : { cells: { ...coordinator, copyCredentials: () => copyCredentialsOf(coordinator) } }),
      keptConnections: (storeId) => clients?.resumed.take(storeId).filter(({ kernel }) => kernel) ?? [],
      deviceNames: runtimeDirectory && join(runtimeDirectory, 'devices'),
      punchHole: loadPunchHole(),
      beforeMaking: () => requireFreeAddresses(settings),
    });
    const { storeId } = operations.status();
    const keeper = clients?.kept;
    stops.add('store', () =>
      operations.close({
        deadlineMs: limits.stopDeadlineMs,
        ...(keeper ? { keep: (kept: KeptClient[]) => keeper.keep(kept, storeId) } : {}),
      }),
    );

    const tls = new Tls(nbd.tls, (options) => plane.setTls(options), log, {
      hostCa: coordinator?.tls.ca,
    });
    tls.load();
    // Before anybody new: they wait already.
    for (const client of clients?.resumed.take(storeId) ?? [])
      if (!client.kernel) operations.resumeClient(client);
    const listeners: string[] = [];
    for (const descriptor of nbd.descriptors) {
      const bound = operations.listenOnDescriptor(descriptor, { allowRemote: nbd.allowRemote });
      log.info({ address: bound, descriptor }, 'serving volumes');
      listeners.push(bound);
    }
    // First: clients that lost the agent before wait for this. Whatever else needs large libraries is loaded behind it.
    for (const { address, mode } of nbd.listeners) {
      if (address.startsWith('unix:')) makeDirectory(dirname(address.slice('unix:'.length)));
      const bound = operations.listen(address, { mode, allowRemote: nbd.allowRemote });
      log.info({ address: bound }, 'serving volumes');
      listeners.push(bound);
    }

    const membership =
      coordinator && (await makeMembership({ settings: coordinator, operations, listeners, version, log }));
    if (membership) stops.add('coordinator', async () => membership.stop());

    const { Metrics } = await import('../agent/metrics.js');
    const metrics = new Metrics({
      membership: () => membership?.status ?? null,
      status: () => operations.status(),
      freeSpace: () => operations.freeSpace(),
      listVolumes: () => operations.listVolumes(),
      deviceNames: () => deviceNames(operations),
      copies: () => operations.parts.copies,
    });
    const trend = new SpaceTrend({
      freeBytes: async () => (await operations.freeSpace())?.freeBytes ?? null,
      monotonicMs: () => performance.now(),
    });
    trend.start();
    stops.add('free space', async () => trend.stop());
    const parts: AgentParts = {
      operations,
      inspection: inspectionOf(operations),
      metrics,
      diagnose: () =>
        diagnose({
          settings,
          version,
          configuration,
          keepsClients: Boolean(clients?.kept),
          started,
          status: () => operations.status(),
          trend: () => trend.now,
          clockDifferenceMs: () => membership?.clockDifferenceMs ?? null,
        }),
      log,
      version,
      listeners,
      tls,
      membership: () => membership?.status ?? null,
      coordinator: membership,
      startedAtMs: performance.now(),
      debug,
    };
    const { makeApiServer } = await import('../agent/api-server.js');
    const server = await makeApiServer(parts, { maxBodyBytes: limits.requestBodyBytes });
    stops.add('control API', async () => {
      const impatience = setTimeout(() => server.server.closeAllConnections(), API_STOP_MS);
      await server.close();
      clearTimeout(impatience);
    });
    if (api.descriptor === null) makeDirectory(dirname(api.path));
    takeHandovers(operations, { api, log });
    const remark =
      api.descriptor === null
        ? await listenOnUnixSocket(server.server, api)
        : await listenOnDescriptor(server.server, api.descriptor);
    if (typeof remark === 'string') log.warn(remark);
    log.info({ path: api.path }, 'control API ready');

    if (metricsSettings.address !== undefined) {
      const { serveMetrics } = await import('../agent/metrics-server.js');
      const scraped = await serveMetrics(metricsSettings.address, metrics);
      stops.add('metrics', async () => {
        scraped.close();
        scraped.closeAllConnections();
      });
      log.info({ address: metricsSettings.address }, 'metrics ready');
    }
    // Last: whoever is asked for something can do it.
    membership?.start();
    return {
      operations,
      listeners,
      reload: () => void tls.reload(),
      pulse: () => operations.pulse(),
      describe: () => describe(operations),
      stop: () => stops.run(),
    };
  } catch (error) {
    await stops.run();
    throw error;
  }
}

async function makeMembership(options: MembershipOptions): Promise<Membership> {
  const { Membership } = await import('../agent/membership.js');
  return new Membership(options);
}

function describe(operations: Operations): string {
  const { volumes, plane, state, failedVolumes } = operations.status();
  const clients = `${plane.connections} ${plane.connections === 1 ? 'client' : 'clients'}`;
  const failed = failedVolumes.length === 0 ? '' : `; FAILED: ${failedVolumes.slice(0, 5).join(', ')}`;
  const special = state === 'running' ? '' : `; the store is ${state}`;
  return `Serving ${volumes} ${volumes === 1 ? 'volume' : 'volumes'} to ${clients}${special}${failed}`;
}

/** Whether a name is one of these; `*` stands for anything. */
function namePattern(names: readonly string[]): (name: string) => boolean {
  const parts = names.map((name) =>
    name
      .split('*')
      .map((text) => text.replace(/[\\^$.+?()[\]{}|]/g, '\\$&'))
      .join('.*'),
  );
  const pattern = new RegExp(`^(?:${parts.join('|')})$`, 's');
  return (name) => names.length > 0 && pattern.test(name);
}

/** For `cellblock serve-stdio`; the same people may come who may use the API. */
function takeHandovers(operations: Operations, { api, log }: { api: Settings['api']; log: Logger }): void {
  const path = handoverPath(api.path);
  try {
    checkSocketPath(path);
  } catch (error) {
    log.warn(`\`cellblock serve-stdio\` is not possible: ${asCellblockError(error).message}`);
    return;
  }
  operations.listen(`unix:${path}`, { mode: api.mode, visitors: 'handovers' });
  const remark = giveToGroup(path, api.group);
  if (remark !== undefined) log.warn(remark);
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new CellblockError(
      'listen-failed',
      `The directory ${path} for a socket cannot be made: ${systemCode(error)}.`,
      {
        hint: 'Make it, or choose another path.',
        cause: error,
      },
    );
  }
}
