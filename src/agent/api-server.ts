// The control API: HTTP and JSON. One schema a route validates, types and documents it. Invariant: every refusal, also of a
// request that is no request, is {error: {kind, code, message, hint}} with the status of its kind.

import { STATUS_CODES } from 'node:http';
import swagger from '@fastify/swagger';
import { type FastifyError, type FastifyReply, fastify } from 'fastify';
import { asCellblockError, CellblockError } from '../base/errors.js';
import type { AgentParts } from './agent-parts.js';
import { HTTP_STATUS } from './http-status.js';
import { compileValidator } from './request-validator.js';
import type { Api } from './route-types.js';
import { attachmentRoutes } from './routes/attachments.js';
import { coordinatorRoutes } from './routes/coordinator.js';
import { fileRoutes } from './routes/files.js';
import { snapshotRoutes } from './routes/snapshots.js';
import { debugRoutes, storeRoutes } from './routes/store.js';
import { syncRoutes } from './routes/syncs.js';
import { taskRoutes } from './routes/tasks.js';
import { vmRoutes } from './routes/vms.js';
import { volumeRoutes } from './routes/volumes.js';

export interface ApiServerOptions {
  maxBodyBytes: number;
}

/** Ready to listen, but not listening. */
export async function makeApiServer(parts: AgentParts, options: ApiServerOptions): Promise<Api> {
  const api: Api = fastify({
    bodyLimit: options.maxBodyBytes,
    // Names have up to 128 bytes; two of them and an `@`, percent-encoded, fit well.
    routerOptions: { maxParamLength: 1024 },
    requestTimeout: 0,
    forceCloseConnections: true,
    clientErrorHandler: answerBrokenRequest,
  });
  api.setValidatorCompiler(compileValidator);
  api.setErrorHandler((error, _request, reply) => refuse(reply, translate(error as FastifyError), parts));
  api.setNotFoundHandler((request, reply) =>
    refuse(
      reply,
      new CellblockError('route-not-found', `There is no ${request.method} ${request.url}.`, {
        hint: 'See docs/api.md.',
      }),
      parts,
    ),
  );
  await api.register(swagger, { openapi: document(parts.version) });
  await api.register(async (scope) => {
    const routes = scope as unknown as Api;
    volumeRoutes(routes, parts);
    fileRoutes(routes, parts);
    snapshotRoutes(routes, parts);
    syncRoutes(routes, parts);
    vmRoutes(routes, parts);
    attachmentRoutes(routes, parts);
    coordinatorRoutes(routes, parts);
    storeRoutes(routes, parts);
    taskRoutes(routes, parts);
    if (parts.debug) debugRoutes(routes);
  });
  await api.ready();
  return api;
}

function document(version: string) {
  return {
    openapi: '3.1.0',
    info: {
      title: 'cellblock control API',
      version,
      description:
        'HTTP and JSON over the unix socket of the agent. Byte quantities are integers and may exceed 2^53.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [
      { url: 'http://localhost', description: 'The unix socket, /run/cellblock/api.sock by default' },
    ],
    tags: [
      { name: 'volumes', description: 'Block devices of fixed logical size' },
      { name: 'files', description: 'Containers of an exact length in bytes, with attributes' },
      { name: 'snapshots', description: 'Frozen states of volumes' },
      { name: 'syncs', description: 'Bringing volumes to the state of snapshots, with their identity kept' },
      { name: 'vms', description: 'Volumes with a configuration, synced as one' },
      { name: 'attachments', description: 'Volumes as block devices of the kernel' },
      { name: 'coordinator', description: 'What hosts of cells ask their coordinator' },
      { name: 'store', description: 'The agent and its data directory' },
      { name: 'tasks', description: 'Work that takes long' },
    ],
  };
}

function translate(error: FastifyError): CellblockError {
  if (error instanceof CellblockError) return error;
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new CellblockError('request-too-large', 'The body of the request is too large.', {
      hint: 'Send less at a time.',
    });
  }
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return new CellblockError('request-invalid', `The request cannot be read: ${error.message}.`, {
      hint: 'Send JSON with content-type application/json.',
    });
  }
  return asCellblockError(error);
}

function refuse(reply: FastifyReply, error: CellblockError, { log }: AgentParts) {
  const status = HTTP_STATUS[error.kind];
  const level = status >= 500 ? 'error' : 'info';
  log[level](
    {
      code: error.code,
      kind: error.kind,
      ...error.facts,
      ...(error.cause === undefined ? {} : { err: error.cause }),
    },
    error.message,
  );
  const { kind, code, message, hint } = error;
  return reply.status(status).type('application/json').send({ error: { kind, code, message, hint } });
}

/** Bytes that are not HTTP. */
function answerBrokenRequest(error: Error & { code?: string }, socket: import('node:net').Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify({
    error: {
      kind: 'invalid',
      code: 'request-invalid',
      message: 'This is not an HTTP request.',
      hint: 'See docs/api.md.',
    },
  });
  const head = `HTTP/1.1 400 ${STATUS_CODES[400]}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`;
  socket.end(head + body);
}
