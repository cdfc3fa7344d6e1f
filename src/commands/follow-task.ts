// Waits for a task with a progress bar. Ctrl-C stops the waiting, not the task.

import type { Task } from '../agent/api-schema.js';
import { apiPath } from './api-client.js';
import { CommandError } from './command-error.js';
import type { Context } from './context.js';
import { printable } from './table.js';

/** The task as it ended; throws when it did not end well. */
export async function followTask({ api, terminal, signal }: Context, task: Task): Promise<Task> {
  const progress = await terminal.progress(`${task.kind} ${printable(task.subject)}`);
  let last = task;
  try {
    const path = apiPath(['tasks', String(task.id)], { stream: 'true' });
    for await (const line of api.stream<Task>({ method: 'GET', path, signal })) {
      last = line;
      if (line.total !== null) progress.update(line.done, line.total);
    }
  } catch (error) {
    if (signal.aborted) throw stillRunning(last);
    throw error;
  } finally {
    progress.end();
  }
  if (last.state === 'done') return last;
  if (last.error !== null) {
    throw new CommandError('io', last.error.code, last.error.message, last.error.hint);
  }
  throw new CommandError(
    'cancelled',
    'task-cancelled',
    `Task ${last.id} was cancelled.`,
    'Start it again when you like.',
  );
}

function stillRunning({ id, kind, subject }: Task): CommandError {
  return new CommandError(
    'cancelled',
    'interrupted',
    `The wait was interrupted; task ${id} (${kind} ${subject}) goes on.`,
    'See `cellblock task list`.',
  );
}
