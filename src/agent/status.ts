// The answer to "how are you": what `cellblock status` shows.

import type { AgentParts } from './agent-parts.js';
import type { Status } from './api-schema.js';

export function statusOf({ operations, version, listeners, startedAtMs }: AgentParts): Status {
  const status = operations.status();
  return {
    version,
    pid: process.pid,
    uptimeSeconds: Math.round(performance.now() - startedAtMs) / 1000,
    listeners: [...listeners],
    store: {
      directory: status.directory,
      id: status.storeId,
      formatVersion: status.formatVersion,
      windowBytes: BigInt(status.windowBytes),
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
    failedVolumes: status.failedVolumes,
    engine: status.plane.engine,
  };
}
