// What the routes of the control API work with, built by the composition and handed in.

import type { Logger } from 'pino';
import type { Operations } from '../operations/operations.js';
import type { CoordinatorCalls, MembershipStatus } from './coordinator-calls.js';
import type { Diagnosis } from './diagnosis-schema.js';
import type { Inspection } from './inspection.js';
import type { Metrics } from './metrics.js';
import type { TlsStatus } from './tls.js';

export interface AgentParts {
  operations: Operations;
  inspection: Inspection;
  metrics: Metrics;
  /** What of its installation only the agent knows. */
  diagnose(): Promise<Diagnosis>;
  log: Logger;
  version: string;
  /** Addresses served, port 0 resolved. */
  listeners: readonly string[];
  /** TLS of the listeners. */
  tls: { readonly status: TlsStatus };
  /** Null: the host is in no cell. */
  membership(): MembershipStatus | null;
  /** Who forwards verbs to the coordinator; null: the host is in no cell. */
  coordinator: CoordinatorCalls | null;
  /** performance.now() when the process was ready. */
  startedAtMs: number;
  /** Serve /v1/debug. */
  debug: boolean;
}
