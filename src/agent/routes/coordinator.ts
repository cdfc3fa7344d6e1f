// Cells: what this host knows of its coordinator, and verbs that are forwarded to it.

import type { AgentParts } from '../agent-parts.js';
import { ErrorAnswer } from '../api-schema.js';
import { callCoordinator, callLines, notConfigured } from '../coordinator-calls.js';
import { CallAnswer, CallQuery, CoordinatorCall, CoordinatorView } from '../coordinator-schema.js';
import { JSON_LINES, jsonLines } from '../json-lines.js';
import type { Api } from '../route-types.js';

const tags = ['coordinator'];

export function coordinatorRoutes(api: Api, { operations, coordinator }: AgentParts): void {
  api.get(
    '/v1/coordinator',
    {
      schema: {
        tags,
        summary: 'The coordinator of this host, and its volumes of cells',
        response: { 200: CoordinatorView, default: ErrorAnswer },
      },
    },
    async () => {
      if (!coordinator) throw notConfigured();
      const volumes = operations
        .listVolumes()
        .flatMap(({ name, kind, cell }) => (cell === null ? [] : [{ name, kind, ...cell }]));
      return { ...coordinator.status, volumes };
    },
  );

  api.post(
    '/v1/coordinator/calls',
    {
      schema: {
        tags,
        summary: 'Ask the coordinator for something',
        description: `The verbs and what they give are those of the command line. With \`stream=true\` the answer is ${JSON_LINES}: lines \`{type: "progress", stage, done, total}\`, then one \`{type: "result", id, value}\` or \`{type: "error", kind, code, message, hint}\`. After \`coordinator-silent\` it may have been done: the same with the same \`id\` is done once.`,
        querystring: CallQuery,
        body: CoordinatorCall,
        response: { 200: CallAnswer, default: ErrorAnswer },
      },
    },
    async ({ query, body }, reply) => {
      if (query.stream === true)
        return reply.type(JSON_LINES).send(jsonLines(callLines(coordinator, body)) as never);
      return callCoordinator(coordinator, body);
    },
  );
}
