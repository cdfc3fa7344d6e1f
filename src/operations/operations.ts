// The operations of the store, as the control API and the CLI call them. Each checks its arguments, throws CellblockError with
// one sentence, and answers when what it says is durable.

import type { Plane } from '../plane/treaty.js';
import type {
  OperationsOptions, OperationsStatus, RepairReport, SnapshotInfo, TaskInfo, TaskKind, VolumeDetails, VolumeInfo,
} from './types.js';

/** What a long work sees of its own task. */
export interface TaskHandle {
  readonly id: number;
  readonly signal: AbortSignal;
  progress(done: bigint, total?: bigint | null): void;
}

export class Operations {
  /**
   * Opens (or makes) the store: lock, catalog, recovery, unfinished deletes. Nothing is served before it has resolved; then call
   * `listen`. Throws `store-locked`, `store-newer`, `store-not-a-store`, `permission-denied`, `no-space`, `file-system-unsuitable`, ...
   */
  static async open(_options: OperationsOptions): Promise<Operations> {
    throw new Error('not yet');
  }

  /** The data plane, for counters. */
  readonly plane!: Plane;

  /** Serves NBD on `unix:PATH` or `tcp:HOST:PORT`; answers the address bound. `mode`: permissions of a unix socket. */
  listen(_address: string, _options?: { mode?: number; allowRemote?: boolean }): string {
    throw new Error('not yet');
  }

  /** Makes an empty volume. `invalid`, `exists`, `no-space`. */
  async createVolume(_name: string, _options: { sizeBytes: bigint }): Promise<VolumeInfo> {
    throw new Error('not yet');
  }

  /** All volumes by name. */
  listVolumes(): VolumeInfo[] {
    throw new Error('not yet');
  }

  /** `volume-not-found`. */
  showVolume(_name: string): VolumeDetails {
    throw new Error('not yet');
  }

  /** Open connections stay. `volume-not-found`, `volume-exists`. */
  async renameVolume(_name: string, _newName: string): Promise<VolumeInfo> {
    throw new Error('not yet');
  }

  /** Shrinking needs `force` (`shrink-needs-force`); what is behind the new end is gone for the volume, its snapshots keep it. */
  async resizeVolume(_name: string, _options: { sizeBytes: bigint; force?: boolean }): Promise<VolumeInfo> {
    throw new Error('not yet');
  }

  /**
   * Durable when it resolves: the name is free and nothing brings the volume back. Its space is freed by the task that is answered.
   * `volume-has-snapshots` without `withSnapshots`; `volume-in-use` when clients are connected and `disconnect` is not set.
   */
  async deleteVolume(_name: string, _options?: { withSnapshots?: boolean; disconnect?: boolean }): Promise<TaskInfo> {
    throw new Error('not yet');
  }

  /** What deleteVolume would refuse or take along; changes nothing. */
  planDeleteVolume(_name: string): { volume: VolumeInfo; snapshots: SnapshotInfo[]; clones: string[]; connections: number } {
    throw new Error('not yet');
  }

  /** Snapshots of one or several volumes in one instant, all or none. In the order asked. */
  async createSnapshots(_references: { volume: string; snapshot: string }[]): Promise<SnapshotInfo[]> {
    throw new Error('not yet');
  }

  /** Of one volume, or all; oldest first within a volume. */
  listSnapshots(_volume?: string): SnapshotInfo[] {
    throw new Error('not yet');
  }

  showSnapshot(_reference: { volume: string; snapshot: string }): SnapshotInfo {
    throw new Error('not yet');
  }

  /** Durable when it resolves; all or none. What readers still use is freed after they end. */
  async deleteSnapshots(_references: { volume: string; snapshot: string }[]): Promise<TaskInfo> {
    throw new Error('not yet');
  }

  /** A new volume that continues the snapshot. */
  async clone(_reference: { volume: string; snapshot: string }, _name: string): Promise<VolumeInfo> {
    throw new Error('not yet');
  }

  /** Makes a failed volume writable again. The answer says what may be lost. */
  async repairVolume(_name: string): Promise<RepairReport> {
    throw new Error('not yet');
  }

  /** Running tasks and the last hundred that ended, oldest first. */
  listTasks(): TaskInfo[] {
    throw new Error('not yet');
  }

  showTask(_id: number): TaskInfo {
    throw new Error('not yet');
  }

  /** `task-not-cancellable`: a delete is never undone. */
  async cancelTask(_id: number): Promise<TaskInfo> {
    throw new Error('not yet');
  }

  /** Calls back at once and at every change until the task has ended (last call) or `unwatch` is called. */
  watchTask(_id: number, _onChange: (task: TaskInfo) => void): { unwatch(): void } {
    throw new Error('not yet');
  }

  /** Resolves when the task has ended, whatever its end. */
  async waitForTask(_id: number): Promise<TaskInfo> {
    throw new Error('not yet');
  }

  /** Runs long work of others (import, export, check) as a task of this list. */
  startTask(
    _kind: TaskKind, _subject: string,
    _options: { unit: 'bytes' | 'records'; cancellable: boolean },
    _work: (task: TaskHandle) => Promise<void>,
  ): TaskInfo {
    throw new Error('not yet');
  }

  /** Export names (`VOLUME`, `VOLUME@SNAPSHOT`) by the handles of the devices in `status().plane`, for metrics. */
  deviceNames(): ReadonlyMap<number, string> {
    throw new Error('not yet');
  }

  status(): OperationsStatus {
    throw new Error('not yet');
  }

  /** Stops serving, takes the last rounds, closes everything; idempotent. The next start is a clean one if all went well. */
  async close(_options?: { deadlineMs?: number }): Promise<void> {
    throw new Error('not yet');
  }
}
