// Long work: what runs, how far it is, how it ended. Lives in memory; what has to survive a restart (deletes) is durable in the
// catalog and begins again by itself.

import { asCellblockError, CellblockError } from '../base/errors.js';
import type { TaskInfo, TaskKind } from './types.js';

const KEPT = 100;

/** What a long work sees of its own task. */
export interface TaskHandle {
  readonly id: number;
  readonly signal: AbortSignal;
  /** `total` null or not given: as before. */
  progress(done: bigint, total?: bigint | null): void;
}

interface Task {
  info: TaskInfo;
  abort: AbortController;
  watchers: Set<(task: TaskInfo) => void>;
  ended: Promise<void>;
}

export class Tasks {
  readonly #tasks = new Map<number, Task>();
  #lastId = 0;

  start(
    kind: TaskKind,
    subject: string,
    options: { unit: 'bytes' | 'records'; cancellable: boolean },
    work: (task: TaskHandle) => Promise<void>,
  ): TaskInfo {
    const id = ++this.#lastId;
    const task: Task = {
      info: {
        id,
        kind,
        subject,
        state: 'running',
        created: new Date().toISOString(),
        ended: null,
        done: 0n,
        total: null,
        unit: options.unit,
        percent: null,
        cancellable: options.cancellable,
        error: null,
      },
      abort: new AbortController(),
      watchers: new Set(),
      ended: Promise.resolve(),
    };
    this.#tasks.set(id, task);
    const handle: TaskHandle = {
      id,
      signal: task.abort.signal,
      progress: (done, total) => this.#progress(task, done, total ?? task.info.total),
    };
    task.ended = this.#run(task, handle, work);
    return { ...task.info };
  }

  async #run(task: Task, handle: TaskHandle, work: (task: TaskHandle) => Promise<void>): Promise<void> {
    try {
      await work(handle);
      this.#end(task, { state: 'done', percent: 100 });
    } catch (error) {
      const { code, message, hint } = asCellblockError(error);
      const cancelled = task.abort.signal.aborted;
      this.#end(task, {
        state: cancelled ? 'cancelled' : 'failed',
        error: cancelled ? null : { code, message, hint },
      });
    }
  }

  #progress(task: Task, done: bigint, total: bigint | null): void {
    const percent = total === null ? null : total === 0n ? 100 : Number((done * 100n) / total);
    this.#change(task, { done, total, percent });
  }

  #end(task: Task, change: Partial<TaskInfo>): void {
    this.#change(task, { ...change, ended: new Date().toISOString() });
    task.watchers.clear();
    const ended = [...this.#tasks.values()].filter(({ info }) => info.state !== 'running');
    for (const { info } of ended.slice(0, Math.max(0, ended.length - KEPT))) this.#tasks.delete(info.id);
  }

  #change(task: Task, change: Partial<TaskInfo>): void {
    task.info = { ...task.info, ...change };
    for (const watcher of task.watchers) watcher(task.info);
  }

  list(): TaskInfo[] {
    return [...this.#tasks.values()].map(({ info }) => info);
  }

  show(id: number): TaskInfo {
    return this.#need(id).info;
  }

  async cancel(id: number): Promise<TaskInfo> {
    const task = this.#need(id);
    if (task.info.state !== 'running') return task.info;
    if (!task.info.cancellable) {
      throw new CellblockError(
        'task-not-cancellable',
        `Task ${id} cannot be cancelled: a delete is never undone.`,
        {
          hint: 'Let it run; it does not stand in the way of anything.',
        },
      );
    }
    task.abort.abort();
    await task.ended;
    return task.info;
  }

  watch(id: number, onChange: (task: TaskInfo) => void): { unwatch(): void } {
    const task = this.#need(id);
    onChange(task.info);
    if (task.info.state === 'running') task.watchers.add(onChange);
    return { unwatch: () => void task.watchers.delete(onChange) };
  }

  async wait(id: number): Promise<TaskInfo> {
    const task = this.#need(id);
    await task.ended;
    return task.info;
  }

  /** Cancels what can be cancelled. */
  abortAll(): void {
    for (const task of this.#tasks.values()) if (task.info.state === 'running') task.abort.abort();
  }

  #need(id: number): Task {
    const task = this.#tasks.get(id);
    if (task) return task;
    throw new CellblockError('task-not-found', `There is no task ${id}.`, {
      hint: 'See `cellblock task list`.',
    });
  }
}
