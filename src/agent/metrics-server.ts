// GET /metrics on TCP, for a Prometheus that cannot reach a unix socket. Nothing else is answered here.

import { createServer, type Server } from 'node:http';
import { listenError } from '../operations/listen-error.js';
import type { Metrics } from './metrics.js';
import { parseTcp } from './settings.js';

export async function serveMetrics(address: string, metrics: Metrics): Promise<Server> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics' || request.method !== 'GET') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('See /metrics.\n');
      return;
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'content-type': metrics.contentType }).end(text),
      () => response.writeHead(503).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(listenError(address, error));
    });
    server.listen(parseTcp(address), resolve);
  });
  return server;
}
