// Composition: builds every part of a store in order. The list is the architecture; Operations.close goes through it in reverse.

import { readFile } from 'node:fs/promises';

import { Catalog } from '../catalog/catalog.js';
import { CommitQueue } from '../catalog/commit-queue.js';
import type { Level } from '../catalog/level.js';
import { jsonKey } from '../model/keys.js';
import { blocksPerWindow } from '../model/units.js';
import type { PlaneOptions } from '../plane/treaty.js';
import { Cells } from './cells/cells.js';
import { Gate } from './cells/gate.js';
import { Lineages } from './cells/lineages.js';
import { LocalVerbs } from './cells/local-verbs.js';
import { VolumeCopies } from './copy/volume-copies.js';
import { Devices } from './devices.js';
import { Expiry } from './expiry.js';
import { Exports } from './exports.js';
import { Failures } from './failures.js';
import { Faults } from './faults.js';
import { Files } from './files.js';
import { Attachments } from './kernel/attachments.js';
import { DeviceNames } from './kernel/device-names.js';
import { KernelFiles } from './kernel/kernel-files.js';
import type { PlaneClient } from './plane-client.js';
import { openPlane } from './plane-open.js';
import { Punches } from './punches.js';
import { Reclaim } from './reclaim.js';
import { recover } from './recover.js';
import { Rounds } from './rounds.js';
import { Snapshots } from './snapshots.js';
import { Space } from './space.js';
import type { StoreMeta } from './store-directory.js';
import { parseRecord, readMeta } from './store-directory.js';
import { SyncOperations } from './sync-operations.js';
import type { IdentityFactory } from './sync-types.js';
import { Syncs } from './syncs.js';
import { Tasks } from './tasks.js';
import { TransactionLogs } from './transaction-logs.js';
import { trouble } from './trouble.js';
import type { OperationsOptions, RecoveryReport } from './types.js';
import { VmOperations } from './vm-operations.js';
import { Vms } from './vms.js';
import { VolumeSettings } from './volume-settings.js';
import { Volumes } from './volumes.js';

/** Everything a store is made of, in the order it is built; closed in reverse. Checks, sweeps and diffs work on it. */
export interface Parts {
  options: OperationsOptions;
  meta: StoreMeta;
  level: Level;
  queue: CommitQueue;
  catalog: Catalog;
  client: PlaneClient;
  space: Space;
  devices: Devices;
  faults: Faults;
  punches: Punches;
  rounds: Rounds;
  files: Files;
  reclaim: Reclaim;
  volumes: Volumes;
  settings: VolumeSettings;
  transactionLogs: TransactionLogs;
  snapshots: Snapshots;
  expiry: Expiry;
  syncs: Syncs;
  vms: Vms;
  syncOperations: SyncOperations;
  vmOperations: VmOperations;
  exports: Exports;
  attachments: Attachments;
  failures: Failures;
  /** Volumes of cells: what this host has on record of them, and what it does for their coordinator. */
  cells: Cells;
  /** Of volumes from other hosts. */
  copies: VolumeCopies;
  localVerbs: LocalVerbs;
  tasks: Tasks;
  recovery: RecoveryReport;
}

export const DEFAULTS = {
  journalBytes: 64n << 20n,
  cacheBytes: 64n << 20n,
  reserveBytes: 256n << 20n,
  ballastBytes: 32 << 20,
  roundAfterMs: 5000,
  maxConnections: 4096,
  handshakeTimeoutMs: 10_000,
  idleCloseMs: 15_000,
  giveUpAfter: 6,
  holdLimitMs: 5000,
  serveAloneAfterMs: 30_000,
};

/** All kinds of identity are a good part of the program, and volumes are served without them: loaded when they are asked for. */
const loadedIdentity: IdentityFactory = async (options) =>
  (await import('./disk-identity.js')).diskIdentity(options);

const LONGEST_PAUSE_MS = 30_000;

/** Opens catalog and journal, recovers, and builds everything else. */
export async function build(options: OperationsOptions, level: Level, client: PlaneClient): Promise<Parts> {
  const { log, directory } = options;
  const meta = await readMeta(
    level,
    directory,
    options.windowBytes === undefined ? {} : { windowBytes: options.windowBytes },
  );
  const reserveBytes = options.reserveBytes ?? DEFAULTS.reserveBytes;
  const space = new Space(directory, log, {
    reserveBytes,
    ballastBytes: options.ballastBytes ?? DEFAULTS.ballastBytes,
  });
  const queue = makeQueue(options, level, space);
  const catalog = new Catalog(queue);
  await catalog.load();
  const mayMake = catalog.lines.size === 0 || (await wasStoppedCleanly(level, directory));
  const scan = openPlane(client, await planeOptions(options, meta, reserveBytes), mayMake);
  await catalog.change().meta('state', { clean: false }).boot().commit();
  const blocks = blocksPerWindow(meta.windowBytes);
  const recovery = await recover({ catalog, plane: client.plane, log }, scan, {
    blocksPerWindow: blocks,
    asPowerLoss: options.asPowerLoss ?? false,
  });
  log.info({ ...recovery }, recovery.isNew ? 'the store is new' : 'the store is open');
  const unclean = new Set(scan.clean || scan.created ? [] : catalog.containers.keys());
  const devices = new Devices(catalog, client, log, {
    idleCloseMs: options.idleCloseMs ?? DEFAULTS.idleCloseMs,
    unclean,
  });
  const faults = new Faults(catalog, devices, client, log, { blocksPerWindow: blocks });
  const punches = new Punches(catalog, client, log, meta.windowBytes);
  const rounds = new Rounds(catalog, devices, client, punches, log, { blocksPerWindow: blocks });
  const files = new Files(catalog, client, devices, log, { blocksPerWindow: blocks });
  const reclaim = new Reclaim(
    { catalog, devices, rounds, client, punches, files, log },
    { blocksPerWindow: blocks },
  );
  const volumes = new Volumes({ catalog, devices, client, reclaim, files, space, log });
  const transactionLogs = new TransactionLogs(client, log, {
    directory: options.transactionLogs ?? null,
  });
  const settings = new VolumeSettings({ catalog, devices, client, logs: transactionLogs });
  const snapshots = new Snapshots({ catalog, devices, client, reclaim, files, space, log });
  const lineages = new Lineages(catalog);
  const gate = new Gate(lineages);
  const localVerbs = new LocalVerbs(catalog, lineages);
  const exports = new Exports(catalog, devices, client, {
    log,
    gate,
    defaultExport: options.defaultExport ?? null,
    rotational: options.rotational ?? false,
    needsTls: options.needsTls ?? (() => false),
    windowBytes: meta.windowBytes,
  });
  const kernelFiles = new KernelFiles(options.kernelRoots);
  const deviceNames = new DeviceNames(options.deviceNames ?? null, kernelFiles, log);
  const attachments = new Attachments(
    { catalog, client, exports, files: kernelFiles, names: deviceNames, log },
    meta.storeId,
  );
  const holdLimitMs = options.holdLimitMs ?? DEFAULTS.holdLimitMs;
  const syncs = new Syncs(
    { catalog, devices, client, rounds, snapshots, reclaim, space, attachments, gate, log },
    { holdLimitMs },
  );
  const cells = new Cells(
    { catalog, devices, client, snapshots, volumes, attachments, reclaim, lineages, localVerbs, gate, log },
    {
      storeId: meta.storeId,
      identity: options.cells ?? { host: '', cell: '' },
      serveAloneAfterMs:
        options.cells?.serveAloneAfterMs === undefined
          ? DEFAULTS.serveAloneAfterMs
          : options.cells.serveAloneAfterMs,
      holdLimitMs,
    },
  );
  const copies = new VolumeCopies(
    {
      parts: {
        catalog,
        devices,
        client,
        rounds,
        reclaim,
        files,
        space,
        volumes,
        snapshots,
        meta: { windowBytes: meta.windowBytes },
      },
      host: cells.copyHost,
      log,
    },
    {
      credentials: options.cells?.copyCredentials ?? (() => null),
      bytesPerSecond: options.cells?.copyBytesPerSecond ?? null,
    },
  );
  cells.copies = options.copies?.(cells.copyHost) ?? copies;
  const vms = new Vms(catalog, snapshots);
  const expiry = new Expiry({ catalog, snapshots, volumes, vms, localVerbs, log });
  const syncOperations = new SyncOperations(
    { catalog, devices, client, volumes, syncs, vms },
    options.identity ?? loadedIdentity,
  );
  const failures = new Failures(catalog, devices, client, log, { blocksPerWindow: blocks });
  return {
    options,
    meta,
    level,
    queue,
    catalog,
    client,
    space,
    devices,
    faults,
    punches,
    rounds,
    files,
    reclaim,
    volumes,
    settings,
    transactionLogs,
    snapshots,
    expiry,
    syncs,
    vms,
    syncOperations,
    vmOperations: new VmOperations(catalog, vms, { volumes, localVerbs }),
    exports,
    attachments,
    failures,
    cells,
    copies,
    localVerbs,
    tasks: new Tasks(),
    recovery,
  };
}

async function planeOptions(
  options: OperationsOptions,
  meta: StoreMeta,
  reserveBytes: bigint,
): Promise<PlaneOptions> {
  return {
    directory: options.directory,
    storeId: Buffer.from(meta.storeId, 'hex'),
    windowBytes: meta.windowBytes,
    journalBytes: options.journalBytes ?? DEFAULTS.journalBytes,
    reactors: options.reactors ?? 2,
    engine: options.engine ?? 'automatic',
    direct: options.direct ?? false,
    cacheBytes: options.cacheBytes ?? DEFAULTS.cacheBytes,
    reserveBytes,
    roundAfterMs: options.roundAfterMs ?? DEFAULTS.roundAfterMs,
    maxConnections: options.maxConnections ?? DEFAULTS.maxConnections,
    maxConnectionsPerClient: options.maxConnectionsPerClient ?? 0,
    handshakeTimeoutMs: options.handshakeTimeoutMs ?? DEFAULTS.handshakeTimeoutMs,
    bootId: options.bootId ?? (await readBootId()),
    ...(options.simulation === undefined ? {} : { simulation: options.simulation }),
  };
}

function makeQueue(options: OperationsOptions, level: Level, space: Space): CommitQueue {
  const { log } = options;
  return new CommitQueue(level, {
    makeRoom: () => space.makeRoom(),
    onTrouble: (error, failures) =>
      log.error(
        { ...trouble(error, failures), failures },
        'the metadata cannot be written; it is closed and opened again',
      ),
    onHealed: () => log.info({}, 'the metadata can be written again'),
    pause: options.pause ?? ((failures) => sleep(Math.min(100 * 2 ** failures, LONGEST_PAUSE_MS))),
    giveUpAfter: DEFAULTS.giveUpAfter,
  });
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** What the journal held is in the metadata then. */
async function wasStoppedCleanly(level: Level, directory: string): Promise<boolean> {
  const stored = await level.get(jsonKey('meta', 'state'));
  return (
    stored !== undefined && (parseRecord('state', stored, directory) as { clean?: unknown }).clean === true
  );
}
