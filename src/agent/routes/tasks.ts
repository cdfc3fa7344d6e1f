// Tasks: what takes long, with its progress; a stream says every change until the end.

import { Type } from '@sinclair/typebox';
import type { Operations } from '../../operations/operations.js';
import type { TaskInfo } from '../../operations/types.js';
import type { AgentParts } from '../agent-parts.js';
import { ErrorAnswer, Task, TaskParams, TaskQuery } from '../api-schema.js';
import { JSON_LINES, jsonLines } from '../json-lines.js';
import { Mailbox } from '../mailbox.js';
import type { Api } from '../route-types.js';

const tags = ['tasks'];

export function taskRoutes(api: Api, { operations }: AgentParts): void {
  api.get(
    '/v1/tasks',
    {
      schema: {
        tags,
        summary: 'List running tasks and those that ended lately',
        response: { 200: Type.Array(Task), default: ErrorAnswer },
      },
    },
    async () => operations.listTasks(),
  );

  api.get(
    '/v1/tasks/:id',
    {
      schema: {
        tags,
        summary: 'Show a task, or follow it',
        description: `With \`stream=true\` the answer is ${JSON_LINES}: one task a line.`,
        params: TaskParams,
        querystring: TaskQuery,
        response: { 200: Task, default: ErrorAnswer },
      },
    },
    async ({ params, query }, reply) => {
      const task = operations.showTask(params.id);
      if (query.stream !== true) return task;
      return reply.type(JSON_LINES).send(jsonLines(changes(operations, params.id)) as never);
    },
  );

  api.delete(
    '/v1/tasks/:id',
    {
      schema: {
        tags,
        summary: 'Cancel a task',
        params: TaskParams,
        response: { 200: Task, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.cancelTask(params.id),
  );
}

/** A slow reader gets the newest state, not a growing queue. */
async function* changes(operations: Operations, id: number): AsyncGenerator<TaskInfo> {
  const mailbox = new Mailbox<TaskInfo>();
  const { unwatch } = operations.watchTask(id, (task) => mailbox.replace(task));
  try {
    for (;;) {
      const task = await mailbox.take();
      yield task;
      if (task.state !== 'running') return;
    }
  } finally {
    unwatch();
  }
}
