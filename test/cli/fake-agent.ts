// An agent without a data plane: the real control API over a store that is a few maps. It keeps the rules of the operations that
// the command line shows (names, sizes, duplicates, snapshots), so that the CLI and the API are tested as a user meets them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { AgentParts } from '../../src/agent/agent-parts.js';
import { makeApiServer } from '../../src/agent/api-server.js';
import type { Diagnosis } from '../../src/agent/diagnosis-schema.js';
import type { DifferencePage, Inspection, StoreSpace } from '../../src/agent/inspection.js';
import { Metrics } from '../../src/agent/metrics.js';
import type { Api } from '../../src/agent/route-types.js';
import { listenOnUnixSocket } from '../../src/agent/unix-socket.js';
import { CellblockError } from '../../src/base/errors.js';
import { checkAllowed } from '../../src/model/access.js';
import type { ContainerKind } from '../../src/model/entities.js';
import type { FileAttributes } from '../../src/model/file-attributes.js';
import { checkName, type SnapshotReference } from '../../src/model/names.js';
import { checkSize } from '../../src/model/sizes.js';
import { checkLimits, type Limits } from '../../src/model/volume-settings.js';
import type { AttachWishes } from '../../src/operations/kernel/attachment-options.js';
import type { AttachmentInfo } from '../../src/operations/kernel/attachments.js';
import { deviceInUse, notAttached } from '../../src/operations/kernel/kernel-errors.js';
import type { Operations } from '../../src/operations/operations.js';
import type {
  Access,
  OperationsStatus,
  SnapshotInfo,
  TaskInfo,
  VolumeInfo,
} from '../../src/operations/types.js';
import type { SettingChanges } from '../../src/operations/volume-settings.js';
import type { PlaneCounters } from '../../src/plane/treaty.js';
import { soundDiagnosis } from '../support/doctor-facts.js';

const EPOCH = '2026-01-02T03:04:05.000Z';

export class FakeOperations {
  readonly volumes = new Map<string, VolumeInfo>();
  readonly snapshots = new Map<string, SnapshotInfo>();
  readonly tasks = new Map<number, TaskInfo>();
  readonly watchers = new Map<number, Set<(task: TaskInfo) => void>>();
  readonly calls: string[] = [];
  /** Bytes of data by volume; the others have none. */
  readonly allocated = new Map<string, bigint>();
  /** What creating something waits for. */
  hold: Promise<void> = Promise.resolve();
  /** Requests that have come as far as `hold`. */
  arrived = 0;
  statusAsked = 0;
  counters: PlaneCounters = emptyCounters();
  #nextId = 1;

  async createVolume(
    name: string,
    {
      sizeBytes,
      allow = [],
      description = '',
      limits = null,
    }: { sizeBytes: bigint; limits?: Limits | null } & Partial<Access>,
  ): Promise<VolumeInfo> {
    this.arrived++;
    await this.hold;
    checkName(name, 'volume');
    checkSize(sizeBytes);
    if (this.volumes.has(name)) {
      throw new CellblockError('volume-exists', `Volume ${JSON.stringify(name)} exists already.`, {
        hint: 'Choose another name.',
      });
    }
    const volume: VolumeInfo = {
      name,
      id: this.#nextId++,
      kind: 'volume',
      sizeBytes,
      created: EPOCH,
      clonedFrom: null,
      expires: null,
      snapshots: 0,
      connections: 0,
      open: false,
      readOnly: false,
      failed: null,
      attributes: null,
      allow: checkAllowed(allow),
      description,
      limits: limits && checkLimits(limits),
      transactionLog: null,
      cell: null,
    };
    this.volumes.set(name, volume);
    return volume;
  }

  /** What is attached, by name. */
  readonly attachments = new Map<string, AttachmentInfo>();

  async attach(name: string, wishes: AttachWishes): Promise<AttachmentInfo> {
    this.calls.push(`attach ${name} ${JSON.stringify(wishes)}`);
    const volume = this.volumes.get(name);
    if (!volume) throw new CellblockError('volume-not-found', `There is no volume ${name}.`, { hint: '' });
    const { readOnly = false, connections = 2, blockBytes = 512 } = wishes;
    const info: AttachmentInfo = {
      name,
      device: wishes.device ?? `/dev/nbd${this.attachments.size}`,
      readOnly,
      sizeBytes: volume.sizeBytes,
      blockBytes,
      connections,
      connected: connections,
      ioTimeoutSeconds: 10,
      deadTimeoutSeconds: 300,
      created: EPOCH,
      users: [],
    };
    this.attachments.set(name, info);
    return info;
  }

  async detach(name: string, { force }: { force: boolean }): Promise<AttachmentInfo> {
    this.calls.push(`detach ${name}${force ? ' --force' : ''}`);
    const found = [...this.attachments.values()].find((one) => one.name === name || one.device === name);
    if (!found) throw notAttached(name);
    if (found.users.length > 0 && !force) throw deviceInUse(found.device, name, found.users);
    this.attachments.delete(found.name!);
    return found;
  }

  async listAttachments(): Promise<AttachmentInfo[]> {
    return [...this.attachments.values()];
  }

  async createFile(
    name: string,
    { attributes, ...rest }: { sizeBytes: bigint; attributes?: Partial<FileAttributes> } & Partial<Access>,
  ): Promise<VolumeInfo> {
    const plain = { owner: 0, group: 0, mode: 0o600, xattrs: {}, birth: EPOCH, modified: EPOCH };
    const file = await this.createVolume(name, rest);
    return Object.assign(file, { kind: 'file', attributes: { ...plain, ...attributes } });
  }

  async setFileAttributes(name: string, changes: Partial<FileAttributes>): Promise<VolumeInfo> {
    const file = this.#volume(name, 'file');
    return Object.assign(file, { attributes: { ...file.attributes, ...changes } });
  }

  async setAccess(
    name: string,
    { allow, description, disconnect }: Partial<Access> & { disconnect?: boolean },
    kind: ContainerKind,
  ): Promise<VolumeInfo> {
    const volume = this.#volume(name, kind);
    if (disconnect) this.calls.push(`disconnect ${name}`);
    return Object.assign(volume, {
      allow: allow ? checkAllowed(allow) : volume.allow,
      description: description ?? volume.description,
    });
  }

  listVolumes(kind?: ContainerKind): VolumeInfo[] {
    return [...this.volumes.values()].filter((volume) => kind === undefined || volume.kind === kind);
  }

  showVolume(name: string, kind: ContainerKind = 'volume') {
    return {
      ...this.#volume(name, kind),
      snapshotList: this.listSnapshots(name),
      depth: 0,
      files: this.allocated.has(name) ? ['extents/1'] : [],
    };
  }

  async renameVolume(name: string, newName: string, kind: ContainerKind): Promise<VolumeInfo> {
    const volume = this.#volume(name, kind);
    this.volumes.delete(name);
    volume.name = newName;
    this.volumes.set(newName, volume);
    return volume;
  }

  async setVolume(name: string, changes: SettingChanges): Promise<VolumeInfo> {
    const volume = this.#volume(name, 'volume');
    const { limits, transactionLog } = changes;
    if (limits !== undefined) volume.limits = limits && checkLimits(limits);
    if (transactionLog !== undefined)
      volume.transactionLog = transactionLog && { ...transactionLog, lost: null };
    return volume;
  }

  async resizeVolume(
    name: string,
    { sizeBytes, force }: { sizeBytes: bigint; force?: boolean },
    kind: ContainerKind,
  ): Promise<VolumeInfo> {
    const volume = this.#volume(name, kind);
    if (sizeBytes < volume.sizeBytes && force !== true) {
      throw new CellblockError('shrink-needs-force', `Volume ${JSON.stringify(name)} would shrink.`, {
        hint: 'Use --force.',
      });
    }
    volume.sizeBytes = sizeBytes;
    return volume;
  }

  async deleteVolume(
    name: string,
    options: { withSnapshots?: boolean; disconnect?: boolean },
    kind: ContainerKind,
  ): Promise<TaskInfo> {
    const volume = this.#volume(name, kind);
    this.calls.push(`deleteVolume ${name} ${JSON.stringify(options)}`);
    const snapshots = this.listSnapshots(name);
    if (snapshots.length > 0 && options.withSnapshots !== true) {
      throw new CellblockError(
        'volume-has-snapshots',
        `Volume ${JSON.stringify(name)} has ${snapshots.length} snapshots.`,
        {
          hint: 'Delete them first, or use --with-snapshots.',
        },
      );
    }
    for (const { fullName } of snapshots) this.snapshots.delete(fullName);
    this.volumes.delete(volume.name);
    return this.addTask({
      kind: 'volume-delete',
      subject: name,
      state: 'done',
      done: 10n,
      total: 10n,
      percent: 100,
    });
  }

  planDeleteVolume(name: string, kind: ContainerKind) {
    return {
      volume: this.#volume(name, kind),
      snapshots: this.listSnapshots(name),
      expires: null,
      clones: [],
      connections: 0,
    };
  }

  async createSnapshots(references: SnapshotReference[]): Promise<SnapshotInfo[]> {
    this.arrived++;
    await this.hold;
    for (const { volume, snapshot } of references) {
      this.#volume(volume);
      if (this.snapshots.has(`${volume}@${snapshot}`)) {
        throw new CellblockError('snapshot-exists', `Snapshot ${volume}@${snapshot} exists already.`, {
          hint: 'Choose another name.',
        });
      }
    }
    return references.map(({ volume, snapshot }) => {
      const owner = this.#volume(volume);
      owner.snapshots++;
      const fullName = `${volume}@${snapshot}`;
      const id = String(this.#nextId++).padStart(32, '0');
      const { sizeBytes } = owner;
      const info = {
        id,
        volume,
        name: snapshot,
        fullName,
        sizeBytes,
        created: EPOCH,
        expires: null,
        clones: [],
        connections: 0,
      };
      this.snapshots.set(fullName, info);
      return info;
    });
  }

  listSnapshots(volume?: string): SnapshotInfo[] {
    if (volume !== undefined) this.#volume(volume);
    return [...this.snapshots.values()].filter(
      (snapshot) => volume === undefined || snapshot.volume === volume,
    );
  }

  showSnapshot({ volume, snapshot }: SnapshotReference): SnapshotInfo {
    const found = this.snapshots.get(`${volume}@${snapshot}`);
    if (found !== undefined) return found;
    throw new CellblockError('snapshot-not-found', `There is no snapshot ${volume}@${snapshot}.`, {
      hint: 'See `cellblock snapshot list`.',
    });
  }

  async deleteSnapshots(references: SnapshotReference[]): Promise<TaskInfo> {
    for (const reference of references) this.showSnapshot(reference);
    for (const { volume, snapshot } of references) this.snapshots.delete(`${volume}@${snapshot}`);
    return this.addTask({
      kind: 'snapshot-delete',
      subject: references.map(({ snapshot }) => snapshot).join(' '),
      state: 'running',
    });
  }

  async clone(reference: SnapshotReference, name: string): Promise<VolumeInfo> {
    const { sizeBytes, fullName } = this.showSnapshot(reference);
    const volume = await this.createVolume(name, { sizeBytes });
    volume.clonedFrom = fullName;
    return volume;
  }

  async repairVolume(name: string, kind: ContainerKind) {
    const { failed } = this.#volume(name, kind);
    if (failed === null) {
      throw new CellblockError('volume-not-failed', `Volume ${JSON.stringify(name)} has not failed.`, {
        hint: 'Nothing is to be done.',
      });
    }
    return { volume: name, failure: failed, warning: 'Writes since then are lost.' };
  }

  listTasks(): TaskInfo[] {
    return [...this.tasks.values()];
  }

  showTask(id: number): TaskInfo {
    const task = this.tasks.get(id);
    if (task !== undefined) return task;
    throw new CellblockError('task-not-found', `There is no task ${id}.`, {
      hint: 'See `cellblock task list`.',
    });
  }

  async cancelTask(id: number): Promise<TaskInfo> {
    const task = this.showTask(id);
    if (!task.cancellable) {
      throw new CellblockError('task-not-cancellable', `Task ${id} cannot be cancelled.`, {
        hint: 'Wait for its end.',
      });
    }
    return this.changeTask(id, { state: 'cancelled', ended: EPOCH });
  }

  watchTask(id: number, onChange: (task: TaskInfo) => void) {
    const watchers = this.watchers.get(id) ?? new Set();
    this.watchers.set(id, watchers.add(onChange));
    onChange(this.showTask(id));
    return { unwatch: () => void watchers.delete(onChange) };
  }

  space = { freeBytes: 1n << 39n, reserveBytes: 256n << 20n, belowReserve: false };

  async freeSpace() {
    return this.space;
  }

  status(): OperationsStatus {
    this.statusAsked++;
    return {
      directory: '/store',
      storeId: '0123456789abcdef0123456789abcdef',
      formatVersion: 1,
      windowBytes: 2 << 20,
      journalBytes: 64n << 20n,
      volumes: this.volumes.size,
      snapshots: this.snapshots.size,
      openDevices: 0,
      pendingDeletes: 0,
      pendingPunches: 0,
      failedVolumes: [],
      accessRefused: 0,
      syncs: { done: 0, refused: 0, heldMs: 0 },
      state: 'running',
      recovery: {
        isNew: false,
        clean: true,
        powerLoss: false,
        entriesSeen: 0,
        entriesCounted: 0,
        cutsCompleted: 0,
        failedVolumes: [],
        milliseconds: 1.5,
      },
      plane: this.counters,
    };
  }

  addTask(task: Partial<TaskInfo>): TaskInfo {
    const whole: TaskInfo = {
      id: this.#nextId++,
      kind: 'sweep',
      subject: '',
      state: 'running',
      created: EPOCH,
      ended: null,
      done: 0n,
      total: null,
      unit: 'bytes',
      percent: null,
      cancellable: false,
      error: null,
      ...task,
    };
    this.tasks.set(whole.id, whole);
    return whole;
  }

  changeTask(id: number, change: Partial<TaskInfo>): TaskInfo {
    const task = { ...this.showTask(id), ...change };
    this.tasks.set(id, task);
    for (const onChange of this.watchers.get(id) ?? []) onChange(task);
    return task;
  }

  #volume(name: string, kind?: ContainerKind): VolumeInfo {
    const volume = this.volumes.get(name);
    if (volume === undefined) {
      throw new CellblockError(
        'volume-not-found',
        `There is no ${kind ?? 'volume'} ${JSON.stringify(name)}.`,
        {
          hint: 'See `cellblock volume list`.',
        },
      );
    }
    if (kind === undefined || volume.kind === kind) return volume;
    throw new CellblockError(
      'container-kind-wrong',
      `${JSON.stringify(name)} is a ${volume.kind}, not a ${kind}.`,
      { hint: `Use \`cellblock ${volume.kind} ...\` for it.` },
    );
  }
}

export class FakeInspection implements Inspection {
  problems: { severity: 'error' | 'warning'; code: string; message: string }[] = [];
  readonly #operations: FakeOperations;

  constructor(operations: FakeOperations) {
    this.#operations = operations;
  }

  /** Two pages, far apart. */
  async diff({ from, to, offset }: Parameters<Inspection['diff']>[0]): Promise<DifferencePage> {
    const last = 1n << 62n;
    const start = offset === 0n ? 0n : last;
    return {
      from,
      to,
      extents: [{ offset: start, lengthBytes: 4096n, kind: 'data' }],
      next: offset === 0n ? last : null,
    };
  }

  async space(): Promise<StoreSpace> {
    const volumes = [...this.#operations.volumes.values()].map(({ name, sizeBytes }) => {
      const allocatedBytes = this.#operations.allocated.get(name) ?? 0n;
      return {
        name,
        logicalBytes: sizeBytes,
        allocatedBytes,
        exclusiveBytes: allocatedBytes,
        reclaimableBytes: allocatedBytes,
        unreadBytes: 0n,
      };
    });
    return {
      volumes,
      snapshots: [],
      fileSystem: { sizeBytes: 1n << 40n, freeBytes: 1n << 39n, reserveBytes: 256n << 20n },
    };
  }

  async check({ onProblem, onProgress }: Parameters<Inspection['check']>[0]) {
    onProgress(1n, 2n);
    for (const problem of this.problems) onProblem(problem);
    const clean = !this.problems.some(({ severity }) => severity === 'error');
    return { clean, problems: this.problems, recordsSeen: 2n };
  }
}

export interface FakeAgent {
  apiPath: string;
  directory: string;
  api: Api;
  operations: FakeOperations;
  inspection: FakeInspection;
  listeners: string[];
  diagnosis: Diagnosis;
}

/** Starts one on a socket of its own; ends with the test. */
export async function startFakeAgent(t: { teardown(clean: () => unknown): void }): Promise<FakeAgent> {
  const directory = mkdtempSync(join(tmpdir(), 'cellblock-cli-'));
  const operations = new FakeOperations();
  const inspection = new FakeInspection(operations);
  const listeners: string[] = [];
  const diagnosis = soundDiagnosis();
  const parts: AgentParts = {
    operations: operations as unknown as Operations,
    inspection,
    metrics: new Metrics({
      status: () => operations.status(),
      freeSpace: () => operations.freeSpace(),
      listVolumes: () => operations.listVolumes(),
      deviceNames: () => new Map([[1, 'a']]),
      membership: () => null,
      copies: () => ({
        volumes: [],
        counts: { snapshots: 0, receivedBytes: 0n, changedBytes: 0n, mismatches: 0, breaks: 0 },
      }),
    }),
    diagnose: async () => diagnosis,
    log: pino({ level: 'silent' }),
    version: '1.2.3',
    listeners,
    tls: { status: { mode: 'off', clients: 'none', psk: false, certificate: null } },
    membership: () => null,
    coordinator: null,
    startedAtMs: performance.now(),
    debug: true,
  };
  const api = await makeApiServer(parts, { maxBodyBytes: 1 << 20 });
  const apiPath = join(directory, 'api.sock');
  await listenOnUnixSocket(api.server, { path: apiPath, mode: 0o660, group: undefined });
  t.teardown(async () => {
    await api.close();
    rmSync(directory, { recursive: true });
  });
  return { apiPath, directory, api, operations, inspection, listeners, diagnosis };
}

export function emptyCounters(): PlaneCounters {
  return {
    engine: 'workers',
    connections: 0,
    connectionsRefused: 0n,
    tlsBegun: 0n,
    tlsFailed: 0n,
    connectionsRefusedPerClient: 0n,
    handshakesTimedOut: 0n,
    journalCells: 16n,
    journalUsedCells: 4n,
    journalSyncs: 0n,
    residentBytes: 0n,
    inFlightBytes: 0n,
    faults: 0n,
    faultedWindows: 0n,
    evictedWindows: 0n,
    punches: 0n,
    devices: [],
  };
}
