// The agent and its store: status, space, check, metrics; and a way for load tests to keep JavaScript busy.

import type { AgentParts } from '../agent-parts.js';
import { CheckQuery, CheckReport, DebugBusy, ErrorAnswer, Status, StoreSpace } from '../api-schema.js';
import { checkLines } from '../check-lines.js';
import { Diagnosis } from '../diagnosis-schema.js';
import { JSON_LINES, jsonLines } from '../json-lines.js';
import type { Api } from '../route-types.js';
import { statusOf } from '../status.js';

const tags = ['store'];

export function storeRoutes(api: Api, parts: AgentParts): void {
  const { inspection, metrics } = parts;
  api.get(
    '/v1/status',
    {
      schema: {
        tags,
        summary: 'The agent: version, listeners, counts',
        response: { 200: Status, default: ErrorAnswer },
      },
    },
    async () => statusOf(parts),
  );

  api.get(
    '/v1/diagnosis',
    {
      schema: {
        tags,
        summary: 'What of its installation only the agent knows: for `cellblock doctor`',
        response: { 200: Diagnosis, default: ErrorAnswer },
      },
    },
    async () => parts.diagnose(),
  );

  api.get(
    '/v1/store/status',
    {
      schema: {
        tags,
        summary: 'Space: logical, allocated, exclusive, reclaimable and unread bytes',
        response: { 200: StoreSpace, default: ErrorAnswer },
      },
    },
    async () => inspection.space(),
  );

  api.get(
    '/v1/store/check',
    {
      schema: {
        tags,
        summary: 'Verify every invariant of the store; reads only',
        querystring: CheckQuery,
        response: { 200: CheckReport, default: ErrorAnswer },
      },
    },
    async ({ query, raw }, reply) => {
      const gone = new AbortController();
      raw.once('close', () => {
        if (!reply.raw.writableFinished) gone.abort();
      });
      reply.raw.once('close', () => gone.abort());
      if (query.stream === true)
        return reply.type(JSON_LINES).send(jsonLines(checkLines(inspection, gone)) as never);
      return inspection.check({
        signal: gone.signal,
        onProblem: () => undefined,
        onProgress: () => undefined,
      });
    },
  );

  api.get(
    '/metrics',
    { schema: { tags, summary: 'Prometheus metrics', produces: ['text/plain'] } },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  );
}

/** Holds the JavaScript thread, as a busy agent would; the data plane must not care. */
export function debugRoutes(api: Api): void {
  api.post('/v1/debug/busy', { schema: { hide: true, body: DebugBusy } }, async ({ body }, reply) => {
    const end = performance.now() + body.ms;
    while (performance.now() < end);
    return reply.status(204).send();
  });
}
