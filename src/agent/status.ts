// The answer to "how are you": what `cellblock status` shows.

import type { AgentParts } from './agent-parts.js';
import type { Status } from './api-schema.js';

export async function statusOf({
  operations,
  version,
  listeners,
  tls,
  membership,
  startedAtMs,
}: AgentParts): Promise<Status> {
  const space = await operations.freeSpace();
  const status = operations.status();
  return {
    version,
    pid: process.pid,
    uptimeSeconds: Math.round(performance.now() - startedAtMs) / 1000,
    listeners: [...listeners],
    tls: {
      ...tls.status,
      begun: Number(status.plane.tlsBegun),
      failed: Number(status.plane.tlsFailed),
    },
    store: {
      directory: status.directory,
      id: status.storeId,
      formatVersion: status.formatVersion,
      windowBytes: BigInt(status.windowBytes),
      journalBytes: status.journalBytes,
      ...(space === null ? {} : { space }),
      state: status.state,
      recovery: status.recovery,
    },
    counts: {
      volumes: status.volumes,
      snapshots: status.snapshots,
      connections: status.plane.connections,
      openDevices: status.openDevices,
      pendingDeletes: status.pendingDeletes,
      pendingPunches: status.pendingPunches,
    },
    coordinator: membership(),
    failedVolumes: status.failedVolumes,
    engine: status.plane.engine,
  };
}
