// The cases: what a real kernel makes of our devices, and we of it. Each runs on a machine of its own, with nothing loaded or started.
import { attachCases } from './attach-cases.js';
import { clientCases } from './client-cases.js';
import type { VmCase } from './machine.js';
import { remoteCases } from './remote-cases.js';
import { restartCases } from './restart-cases.js';
import { syncCases } from './sync-cases.js';
import { systemdCases } from './systemd-cases.js';

export const cases: readonly VmCase[] = [
  ...attachCases,
  ...restartCases,
  ...remoteCases,
  ...syncCases,
  ...clientCases,
  ...systemdCases,
];
