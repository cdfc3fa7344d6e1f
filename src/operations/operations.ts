// The operations of the store, as the control API and the CLI call them. Each checks its arguments, throws CellblockError with
// one sentence, and answers when what it says is durable.

import { CellblockError } from '../base/errors.js';
import { chainOf, countUpTo, liveNumbers } from '../model/chain.js';
import type { Container, ContainerKind, Snapshot } from '../model/entities.js';
import { extentsPath } from '../model/entities.js';
import { bornNow, type FileAttributes } from '../model/file-attributes.js';
import { isHiddenName } from '../model/names.js';
import { checkLimits, type Limits } from '../model/volume-settings.js';
import type { KeptClient, Plane, Visitors } from '../plane/treaty.js';
import type { Parts } from './composition.js';
import { build, DEFAULTS } from './composition.js';
import type { AttachWishes } from './kernel/attachment-options.js';
import type { AttachmentInfo } from './kernel/attachments.js';
import { descriptorError, listenError } from './listen-error.js';
import { requireContainer, requireKind, requireSnapshot } from './lookup.js';
import { errnoName, PlaneClient } from './plane-client.js';
import type { FreeSpace } from './space.js';
import { StopSteps } from './stop-steps.js';
import { levelOf, openLocked, prepareDirectory, recogniseDirectory, requireRoom } from './store-directory.js';
import { sweep } from './sweep.js';
import type { SyncOperations } from './sync-operations.js';
import type { TaskHandle } from './tasks.js';
import { trouble } from './trouble.js';
import type {
  Access,
  OperationsOptions,
  OperationsStatus,
  RepairReport,
  SnapshotInfo,
  TaskInfo,
  TaskKind,
  VolumeDetails,
  VolumeInfo,
} from './types.js';
import type { VmOperations } from './vm-operations.js';
import type { SettingChanges } from './volume-settings.js';

export type { Parts } from './composition.js';
export type { TaskHandle } from './tasks.js';

/** Of a file that nobody said more about: only root may have it. */
const NEW_FILE = { owner: 0, group: 0, mode: 0o600, xattrs: {}, birth: '', modified: '' };

const JOURNAL_CELL_BYTES = 64n;

/** A stop waits this much longer than for its clients, for the last changes of volumes to reach the metadata. */
const LAST_STEPS_MS = 5000;

export class Operations {
  readonly parts: Parts;
  #state: 'running' | 'read-only' | 'stopping' = 'running';
  #closing: Promise<void> | null = null;

  private constructor(parts: Parts) {
    this.parts = parts;
  }

  /**
   * Opens (or makes) the store: lock, catalog, recovery, unfinished work. Nothing is served before it has resolved; then call
   * `listen`. Throws `store-locked`, `store-newer`, `store-older`, `store-not-a-store`, `permission-denied`, `no-space`, `file-system-unsuitable`, ...
   */
  static async open(options: OperationsOptions): Promise<Operations> {
    const { directory, log } = options;
    const isNew = options.level === undefined && (await recogniseDirectory(directory)) === 'new';
    if (isNew) {
      await options.beforeMaking?.();
      await requireRoom(directory, options.journalBytes ?? DEFAULTS.journalBytes);
    }
    await prepareDirectory(directory, options.punchHole);
    const level = options.level ?? levelOf(directory);
    await openLocked(directory, level);
    const client = new PlaneClient(options.plane, log);
    try {
      if (!isNew) await options.beforeMaking?.();
      const parts = await build(options, level, client);
      const operations = new Operations(parts);
      operations.#connect();
      operations.#tellFixed();
      await parts.space.warn();
      await operations.#finishUnfinished();
      return operations;
    } catch (error) {
      options.plane.close(false);
      await level
        .close()
        .catch((closing: unknown) => log.warn({ err: closing }, 'the metadata could not be closed'));
      throw error;
    }
  }

  get vms(): VmOperations {
    return this.parts.vmOperations;
  }

  get syncs(): SyncOperations {
    return this.parts.syncOperations;
  }

  /** The data plane, for counters. */
  get plane(): Plane {
    return this.parts.client.plane;
  }

  /** Free bytes and the reserve of the file system of the store; null: it does not say. */
  freeSpace(): Promise<FreeSpace | null> {
    return this.parts.space.look();
  }

  /** What is configured for a store that is made, and this one was made with otherwise. */
  #tellFixed(): void {
    const { options, meta } = this.parts;
    const { windowBytes, journalBytes } = options;
    const hasJournal = this.#journalBytes();
    const wanted = journalBytes === undefined ? undefined : powerOfTwoBelow(journalBytes);
    if (windowBytes !== undefined && windowBytes !== meta.windowBytes)
      options.log.warn(
        { configured: windowBytes, is: meta.windowBytes },
        'store.window is ignored: the store keeps the size of windows it was made with',
      );
    if (wanted !== undefined && wanted !== hasJournal)
      options.log.warn(
        { configured: Number(journalBytes), is: Number(hasJournal) },
        'store.journal is ignored: the store keeps the journal it was made with',
      );
  }

  #journalBytes(): bigint {
    return this.plane.counters().journalCells * JOURNAL_CELL_BYTES;
  }

  #sweeping: Promise<void> = Promise.resolve();

  #connect(): void {
    const { client, devices, rounds, faults, exports, failures, files, options, reclaim, settings, catalog } =
      this.parts;
    const { attachments } = this.parts;
    const { log } = options;
    devices.rounding = rounds;
    this.parts.syncOperations.requireWritable = () => this.#requireWritable();
    this.parts.vmOperations.requireWritable = () => this.#requireWritable();
    this.parts.cells.performing.resize = (container, sizeBytes) =>
      this.#resize(container, { sizeBytes, force: false });
    devices.onOpened = (device, container) => settings.opened(device, container);
    devices.onClosing = (device) => this.parts.cells.loads.closing(device);
    devices.onUnpin = () => {
      reclaim.noteAll();
      void reclaim.kick();
    };
    client.listener = {
      fault: (record) => void faults.answer(record),
      roundWanted: ({ handle }) => rounds.wanted(handle),
      fileWanted: ({ handle }) => {
        const device = devices.byHandle(handle);
        if (device)
          files
            .addTo(device)
            .catch((error: unknown) =>
              log.error(
                { err: error, container: device.container },
                'an extents file could not be added; the data plane asks again',
              ),
            );
      },
      list: (record) => exports.list(record),
      describe: (record) => exports.describe(record),
      open: (record) => void exports.open(record),
      closed: (record) => {
        exports.closed(record);
        attachments.leaseClosed(record.lease);
      },
      linkDead: ({ index }) => attachments.linkDead(index),
      failed: (record) => void failures.failed(record),
      storeFailed: ({ error }) => {
        this.#state = 'read-only';
        log.error(
          { errno: errnoName(error) },
          'the journal could not be made stable: the store is read-only until it is restarted',
        );
      },
      transactionLogLost: ({ handle, error }) => {
        const container = catalog.containers.get(devices.byHandle(handle)?.container ?? -1);
        if (container) this.parts.transactionLogs.lost(container, error);
      },
    };
  }

  /** What an earlier run had begun: shrinks before anything is served; space is given back in the background. */
  async #finishUnfinished(): Promise<void> {
    const { volumes, files, reclaim, punches, space, recovery, syncs, expiry, attachments, cells } =
      this.parts;
    await syncs.finishUnfinished();
    await volumes.finishShrinks();
    await cells.reconcile();
    await attachments.resume(this.parts.options.keptConnections?.(this.parts.meta.storeId));
    await files.finish();
    punches.kick();
    reclaim.noteAll();
    void reclaim.kick();
    void space.build();
    expiry.start();
    if (!recovery.clean) this.#sweeping = this.#sweep();
  }

  /** What a crash may have left behind is given back in the background; a clean stop leaves nothing. */
  #sweep(): Promise<void> {
    const { catalog, client, files, devices, meta, options } = this.parts;
    const isOpen = (container: number): boolean => devices.current(container) !== undefined;
    return new Promise((resolve) => {
      this.startTask(
        'sweep',
        'store',
        { unit: 'records', cancellable: true },
        async ({ signal, progress }) => {
          try {
            const report = await sweep(
              { catalog, client, files, isOpen, log: options.log },
              {
                directory: options.directory,
                windowBytes: meta.windowBytes,
                signal,
                onProgress: (done) => progress(done),
              },
            );
            options.log.info(
              { ...report, records: Number(report.records), punchedBytes: Number(report.punchedBytes) },
              'leak sweep done',
            );
          } finally {
            resolve();
          }
        },
      );
    });
  }

  /** Serves NBD on `unix:PATH` or `tcp:HOST:PORT`; answers the address bound. `address-in-use`, `address-invalid`, ... `mode`: permissions of a unix socket. */
  listen(address: string, options: ListenWishes = {}): string {
    try {
      return this.plane.listen(address, withDefaults(options));
    } catch (error) {
      throw listenError(address, error);
    }
  }

  /** The same on a listening socket the process was started with. `socket-activation-invalid`. */
  listenOnDescriptor(descriptor: number, options: ListenWishes = {}): string {
    try {
      return this.plane.listen(descriptor, withDefaults(options));
    } catch (error) {
      throw descriptorError(error);
    }
  }

  /** Makes an empty volume. `invalid`, `exists`, `no-space`. */
  async createVolume(
    name: string,
    { sizeBytes, limits, ...access }: { sizeBytes: bigint; limits?: Limits | null } & Partial<Access>,
  ): Promise<VolumeInfo> {
    this.#requireWritable();
    const checked = limits ? checkLimits(limits) : null;
    return this.#volumeInfo(await this.parts.volumes.create(name, sizeBytes, { ...access, limits: checked }));
  }

  /** Limits and transaction log of a volume, in force when it resolves. `limits-invalid`, `transaction-log-...` */
  async setVolume(name: string, changes: SettingChanges): Promise<VolumeInfo> {
    this.#requireWritable();
    return this.#volumeInfo(await this.parts.settings.set(name, changes));
  }

  /** Makes an empty file of so many bytes, born now. `birth`: when it is that of another. As createVolume. */
  async createFile(
    name: string,
    options: { sizeBytes: bigint; attributes?: Partial<FileAttributes> } & Partial<Access>,
  ): Promise<VolumeInfo> {
    this.#requireWritable();
    const { sizeBytes, ...given } = options;
    const attributes = { ...bornNow(NEW_FILE), ...given.attributes };
    return this.#volumeInfo(await this.parts.volumes.create(name, sizeBytes, { ...given, attributes }));
  }

  /** What is not given stays; so do open connections, unless `disconnect`. `access-entry-malformed`, `description-invalid`. */
  async setAccess(
    name: string,
    changes: Partial<Access> & { disconnect?: boolean },
    kind?: ContainerKind,
  ): Promise<VolumeInfo> {
    this.#requireWritable();
    return this.#volumeInfo(await this.parts.volumes.setAccess(name, changes, kind));
  }

  /** Of a file; what is not given stays. `volume-not-found`, `container-kind-wrong`. */
  async setFileAttributes(name: string, changes: Partial<FileAttributes>): Promise<VolumeInfo> {
    this.#requireWritable();
    return this.#volumeInfo(await this.parts.volumes.setAttributes(name, changes));
  }

  /** By name; of one kind, or all. */
  listVolumes(kind?: ContainerKind): VolumeInfo[] {
    const containers = this.#live().filter((container) => kind === undefined || container.kind === kind);
    return containers.map((container) => this.#volumeInfo(container));
  }

  /** `volume-not-found`, `container-kind-wrong`. */
  showVolume(name: string, kind: ContainerKind = 'volume'): VolumeDetails {
    const { catalog } = this.parts;
    const container = requireKind(catalog, name, kind);
    return {
      ...this.#volumeInfo(container),
      snapshotList: this.#shownSnapshots(container).map((snapshot) => this.#snapshotInfo(snapshot)),
      depth: this.#depthOf(container),
      files: catalog.filesOf(container.id).map(extentsPath),
    };
  }

  /** Open connections stay. `volume-not-found`, `volume-exists`. */
  async renameVolume(name: string, newName: string, kind?: ContainerKind): Promise<VolumeInfo> {
    this.#requireWritable();
    this.parts.localVerbs.refuse(requireKind(this.parts.catalog, name, kind ?? 'volume'), 'rename');
    const container = await this.parts.volumes.rename(name, newName, kind);
    await this.parts.attachments.renamed(container);
    return this.#volumeInfo(container);
  }

  /** Shrinking needs `force` (`shrink-needs-force`); what is behind the new end is gone for the volume, its snapshots keep it. */
  async resizeVolume(
    name: string,
    options: { sizeBytes: bigint; force?: boolean },
    kind?: ContainerKind,
  ): Promise<VolumeInfo> {
    this.#requireWritable();
    const { sizeBytes, force = false } = options;
    const { catalog, localVerbs } = this.parts;
    const container = requireKind(catalog, name, kind ?? 'volume');
    localVerbs.refuse(container, 'resize');
    await this.#resize(container, { sizeBytes, force });
    return this.#volumeInfo(container);
  }

  async #resize(
    container: Container,
    { sizeBytes, force }: { sizeBytes: bigint; force: boolean },
  ): Promise<void> {
    const { volumes, attachments } = this.parts;
    // What is mounted may grow, but is not cut off.
    const claim = sizeBytes < container.sizeBytes ? await attachments.claim([container]) : null;
    try {
      await volumes.resize(container.name, { sizeBytes, force }, container.kind);
    } finally {
      await claim?.end();
    }
    await attachments.sizeChanged(container);
  }

  /**
   * Durable when it resolves: the name is free and nothing brings the volume back. Its space is freed by the task that is answered.
   * `volume-has-snapshots` without `withSnapshots`; `volume-in-use` when clients are connected and `disconnect` is not set.
   */
  async deleteVolume(
    name: string,
    options: { withSnapshots?: boolean; disconnect?: boolean } = {},
    kind?: ContainerKind,
  ): Promise<TaskInfo> {
    this.#requireWritable();
    const { withSnapshots = false, disconnect = false } = options;
    this.parts.localVerbs.refuse(requireKind(this.parts.catalog, name, kind ?? 'volume'), 'delete');
    this.parts.attachments.requireDetached(requireKind(this.parts.catalog, name, kind ?? 'volume'));
    const container = await this.parts.volumes.delete(name, { withSnapshots, disconnect }, kind);
    return this.#reclaimTask('volume-delete', name, new Set([container.line]));
  }

  /** What deleteVolume would refuse or take along; changes nothing. */
  planDeleteVolume(
    name: string,
    kind?: ContainerKind,
  ): {
    volume: VolumeInfo;
    snapshots: SnapshotInfo[];
    clones: string[];
    connections: number;
  } {
    const details = this.showVolume(name, kind);
    const { snapshotList, depth: _depth, files: _files, ...volume } = details;
    const clones = [...new Set(snapshotList.flatMap((snapshot) => snapshot.clones))];
    return { volume, snapshots: snapshotList, clones, connections: volume.connections };
  }

  /**
   * Snapshots of one or several volumes in one instant, all or none. In the order asked. `local`: of volumes of cells too that this host
   * serves, without their coordinator (else `volume-routed`).
   */
  async createSnapshots(
    references: { volume: string; snapshot: string }[],
    { local = false, ...options }: { expires?: string; local?: boolean } = {},
  ): Promise<SnapshotInfo[]> {
    this.#requireWritable();
    const { catalog, cells, localVerbs } = this.parts;
    for (const { volume } of references) {
      const container = catalog.containerNamed(volume);
      if (container && !local) localVerbs.refuse(container, 'snapshot');
    }
    // Whatever is claimed for a cell meanwhile gets its snapshot in its lineage.
    const snapshots = await cells.performing.local(references, options);
    return snapshots.map((snapshot) => this.#snapshotInfo(snapshot));
  }

  /** Of one volume, or all; oldest first within a volume. */
  listSnapshots(volume?: string): SnapshotInfo[] {
    const { catalog } = this.parts;
    const containers = volume === undefined ? this.#live() : [requireContainer(catalog, volume)];
    return containers.flatMap((container) =>
      this.#shownSnapshots(container).map((snapshot) => this.#snapshotInfo(snapshot)),
    );
  }

  showSnapshot(reference: { volume: string; snapshot: string }): SnapshotInfo {
    return this.#snapshotInfo(requireSnapshot(this.parts.catalog, reference.volume, reference.snapshot));
  }

  /** Durable when it resolves; all or none. What readers still use is freed after they end. */
  async deleteSnapshots(references: { volume: string; snapshot: string }[]): Promise<TaskInfo> {
    this.#requireWritable();
    const { catalog, attachments, localVerbs } = this.parts;
    for (const { volume, snapshot } of references) {
      const found = requireSnapshot(catalog, volume, snapshot);
      localVerbs.refuseDelete(found);
      attachments.requireDetached(found);
    }
    const snapshots = await this.parts.snapshots.delete(references);
    const subject = references.map(({ volume, snapshot }) => `${volume}@${snapshot}`).join(' ');
    return this.#reclaimTask('snapshot-delete', subject, new Set(snapshots.map(({ line }) => line)));
  }

  /** A new volume that continues the snapshot. `newIdentity`: with ids of its own; it does not expire. */
  async clone(
    reference: { volume: string; snapshot: string },
    name: string,
    options: { expires?: string; newIdentity?: boolean } = {},
  ): Promise<VolumeInfo> {
    this.#requireWritable();
    const container = options.newIdentity
      ? await this.syncs.cloneWithNewIdentity(reference, name)
      : await this.parts.snapshots.clone(reference, name, options);
    return this.#volumeInfo(container);
  }

  /** A block device of the kernel; see Attachments.attach. `name`: VOLUME or VOLUME@SNAPSHOT. */
  async attach(name: string, wishes: AttachWishes): Promise<AttachmentInfo> {
    this.#requireWritable();
    return this.parts.attachments.attach(name, wishes);
  }

  /** `name`: what was attached, or its device. */
  async detach(name: string, options: { force: boolean }): Promise<AttachmentInfo> {
    this.#requireWritable();
    return this.parts.attachments.detach(name, options);
  }

  listAttachments(): Promise<AttachmentInfo[]> {
    return this.parts.attachments.list();
  }

  /** Makes a failed volume writable again. The answer says what may be lost. */
  async repairVolume(name: string, kind: ContainerKind = 'volume'): Promise<RepairReport> {
    this.#requireWritable();
    const { at, error } = await this.parts.volumes.repair(name, kind);
    return {
      volume: name,
      failure: { at, error },
      warning: `Writes that were answered after the last successful flush before the failure may be lost; check what is on the ${kind}.`,
    };
  }

  /** Running tasks and the last hundred that ended, oldest first. */
  listTasks(): TaskInfo[] {
    return this.parts.tasks.list();
  }

  showTask(id: number): TaskInfo {
    return this.parts.tasks.show(id);
  }

  /** `task-not-cancellable`: a delete is never undone. */
  async cancelTask(id: number): Promise<TaskInfo> {
    return this.parts.tasks.cancel(id);
  }

  /** Calls back at once and at every change until the task has ended (last call) or `unwatch` is called. */
  watchTask(id: number, onChange: (task: TaskInfo) => void): { unwatch(): void } {
    return this.parts.tasks.watch(id, onChange);
  }

  /** Resolves when the task has ended, whatever its end. */
  async waitForTask(id: number): Promise<TaskInfo> {
    return this.parts.tasks.wait(id);
  }

  /** Runs long work of others (import, export, check) as a task of this list. */
  startTask(
    kind: TaskKind,
    subject: string,
    options: { unit: 'bytes' | 'records'; cancellable: boolean },
    work: (task: TaskHandle) => Promise<void>,
  ): TaskInfo {
    return this.parts.tasks.start(kind, subject, options, work);
  }

  status(): OperationsStatus {
    const { catalog, devices, meta, options, queue, reclaim, recovery } = this.parts;
    const live = this.#live();
    return {
      directory: options.directory,
      storeId: meta.storeId,
      formatVersion: meta.format,
      windowBytes: meta.windowBytes,
      journalBytes: this.#journalBytes(),
      volumes: live.length,
      snapshots: catalog.snapshots.size,
      openDevices: devices.count,
      pendingDeletes: reclaim.pending,
      pendingPunches: catalog.punches.size,
      accessRefused: this.parts.exports.refused,
      syncs: this.parts.syncs.counts,
      failedVolumes: live.filter(({ failure }) => failure !== null).map(({ name }) => name),
      state: this.#state === 'running' && queue.healing ? 'healing' : this.#state,
      recovery,
      plane: this.plane.counters(),
    };
  }

  /** Stops serving, takes the last rounds, closes everything; idempotent. The next start is a clean one if all went well. */
  close(wishes: Partial<CloseWishes> = {}): Promise<void> {
    this.#closing ??= this.#close({ deadlineMs: 5000, ...wishes });
    return this.#closing;
  }

  /** Goes on with a client that an earlier agent of this store left. */
  resumeClient(client: KeptClient): void {
    this.plane.resumeClient(client);
  }

  /** Resolves when nothing of the data plane hangs. */
  pulse(): Promise<void> {
    return this.parts.client.pulse();
  }

  async #close({ deadlineMs, keep }: CloseWishes): Promise<void> {
    const {
      client,
      tasks,
      reclaim,
      rounds,
      punches,
      devices,
      failures,
      files,
      queue,
      level,
      space,
      options,
    } = this.parts;
    const { log } = options;
    const failedJournal = this.#state === 'read-only';
    this.#state = 'stopping';
    const steps = new StopSteps(log, performance.now() + deadlineMs + LAST_STEPS_MS);
    // What it has refused for so long it will not take now: those who wait for it are sent away.
    if (queue.failing) void queue.stop();
    tasks.abortAll();
    failures.stop();
    this.parts.attachments.stop();
    await steps.run('what cells hold', () => this.parts.cells.stop());
    await steps.run('copies', () => this.parts.copies.stopAll());
    await steps.run('the end of connections', async () => {
      if (keep) keep(await client.keepClients(deadlineMs));
      else await client.stopServing(deadlineMs);
    });
    await steps.run('syncs', () => this.parts.syncs.stop());
    await steps.run('snapshots that expire', () => this.parts.expiry.stop());
    await steps.run('reclaiming space', () => reclaim.stop());
    rounds.stop();
    let passed = false;
    if (failedJournal) steps.leave('the last changes of volumes');
    else
      await steps.run('the last changes of volumes', async () => {
        passed = await this.#lastRounds();
      });
    await steps.run('the leak sweep', () => this.#sweeping);
    await steps.run('files of deleted volumes', () => files.stop());
    await steps.run('punches', () => punches.stop());
    devices.stop();
    space.stop();
    if (passed) this.#noteClean();
    await steps.run('the metadata', () => queue.stop());
    await steps.run('closing the metadata', () => level.close());
    if (!passed || steps.undone.length > 0) {
      const { undone } = steps;
      log.warn({ undone }, 'the stop was not a clean one: the next start brings in what the journal holds');
    }
    client.plane.close(passed);
  }

  #noteClean(): void {
    this.parts.catalog
      .change()
      .meta('state', { clean: true })
      .commit()
      .catch(() => undefined);
  }

  /** Everything into LevelDB and every device closed. False: something has to be replayed at the next start. */
  async #lastRounds(): Promise<boolean> {
    const { devices, client, options } = this.parts;
    let passed = true;
    let failures = 0;
    for (const device of devices.all()) {
      try {
        await devices.mutexOf(device.container).run(async () => {
          // Closed as idle, or with its version, while this waited.
          if (devices.byHandle(device.handle) !== device) return;
          device.users = 0;
          await devices.closeLocked(device, { withoutRound: device.failed });
        });
        if (device.failed) passed = false;
      } catch (error) {
        passed = false;
        failures++;
        options.log.warn(
          { ...trouble(error, failures), container: device.container },
          'the last changes of a volume stay in the journal',
        );
      }
    }
    try {
      // Not opened since an unclean start: nobody would know at the next start that their files were never synced.
      for (const container of devices.unclean) client.plane.syncFiles(devices.filesOf(container));
    } catch (error) {
      passed = false;
      options.log.warn({ err: error }, 'files could not be synced; the next start is an unclean one');
    }
    return passed;
  }

  /** Nothing is begun, in memory neither, that cannot be made durable. */
  #requireWritable(): void {
    const { failing } = this.parts.queue;
    if (this.#state === 'running' && failing) throw failing;
    if (this.#state === 'running') return;
    if (this.#state === 'stopping') {
      throw new CellblockError('store-stopping', 'The store is being stopped.', {
        hint: 'Try again when the agent runs again.',
      });
    }
    throw new CellblockError(
      'store-read-only',
      'The journal of the store could not be made stable; the store is read-only.',
      {
        hint: 'Check the disk, then restart the agent.',
      },
    );
  }

  #reclaimTask(kind: TaskKind, subject: string, lines: ReadonlySet<number>): TaskInfo {
    const { tasks, reclaim } = this.parts;
    return tasks.start(kind, subject, { unit: 'records', cancellable: false }, async (task) => {
      let records = 0n;
      const stop = reclaim.watch((line, count) => {
        if (!lines.has(line)) return;
        records += BigInt(count);
        task.progress(records);
      });
      try {
        await reclaim.kick();
      } finally {
        stop();
      }
      task.progress(records, records);
    });
  }

  #live(): Container[] {
    return [...this.parts.catalog.containers.values()]
      .filter(({ state }) => state === 'live')
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #volumeInfo(container: Container): VolumeInfo {
    const { catalog, devices } = this.parts;
    const device = devices.current(container.id);
    const { failure } = container;
    return {
      name: container.name,
      id: container.id,
      kind: container.kind,
      sizeBytes: container.sizeBytes,
      created: container.created,
      clonedFrom: container.clonedFrom,
      expires: container.expires,
      snapshots: catalog.visibleSnapshotCount(container),
      connections: device?.connections ?? 0,
      open: device !== undefined,
      readOnly: failure !== null,
      failed: failure && { at: failure.at, error: failure.error },
      attributes: container.attributes,
      allow: container.allow,
      description: container.description,
      limits: container.limits,
      transactionLog: container.transactionLog && {
        ...container.transactionLog,
        lost: this.parts.transactionLogs.lostOf(container.id),
      },
      cell: this.parts.cells.stateOf(container),
    };
  }

  /** Oldest first, without the hidden ones. */
  #shownSnapshots(container: Container): Snapshot[] {
    return this.parts.catalog.snapshotsOf(container).filter(({ name }) => !isHiddenName(name));
  }

  #snapshotInfo(snapshot: Snapshot): SnapshotInfo {
    const { catalog, devices } = this.parts;
    const volume = catalog.containers.get(snapshot.container)!.name;
    const clones = [...catalog.childrenOf(snapshot.line, snapshot.version)].flatMap((line) => {
      const container = catalog.containers.get(line.container);
      return container?.state === 'live' ? [container.name] : [];
    });
    return {
      id: snapshot.id,
      volume,
      name: snapshot.name,
      fullName: `${volume}@${snapshot.name}`,
      sizeBytes: snapshot.sizeBytes,
      created: snapshot.created,
      expires: snapshot.expires,
      clones: clones.sort(),
      connections: devices.view(snapshot.line, snapshot.version)?.connections ?? 0,
    };
  }

  #depthOf(container: Container): number {
    const version = Number.MAX_SAFE_INTEGER;
    const chain = chainOf(this.parts.catalog.lines, { line: container.line, version });
    return chain.reduce((sum, { line, upTo }) => sum + countUpTo(liveNumbers(line), upTo), 0) - 1;
  }
}

export interface CloseWishes {
  /** How long clients are waited for. */
  deadlineMs: number;
  /** Takes the clients that another agent can go on with, which are told nothing then; not there: all are told. */
  keep?: (clients: KeptClient[]) => void;
}

export interface ListenWishes {
  /** Of a unix socket's file. */
  mode?: number;
  allowRemote?: boolean;
  visitors?: Visitors;
}

function withDefaults({ mode = 0o660, allowRemote = false, visitors = 'clients' }: ListenWishes) {
  return { mode, allowRemote, visitors };
}

/** What the data plane makes of a size of a journal. */
function powerOfTwoBelow(bytes: bigint): bigint {
  return 1n << BigInt(bytes.toString(2).length - 1);
}
