// What the coordinator's decisions need of the world: hosts, a store, who leads, time, chance. Nothing below src/coordinator reaches for
// anything else, so a simulation runs it as it is.

import type { Log } from '../protocol/log.js';
import type { CoordinatorServer } from '../protocol/server.js';
import type { Clock } from '../protocol/timing.js';
import type { Settings } from './settings.js';
import type { CoordinatorStore, Leadership } from './store.js';

/** The hosts that are connected, and what is asked of them. Every request has a time after which it counts as silent. */
export type Hosts = Pick<
  CoordinatorServer,
  | 'hosts'
  | 'holdersOf'
  | 'isConnected'
  | 'probe'
  | 'command'
  | 'perform'
  | 'claim'
  | 'describe'
  | 'pull'
  | 'digest'
  | 'group'
  | 'load'
  | 'dismiss'
>;

export interface Ports {
  store: CoordinatorStore;
  leadership: Leadership;
  hosts: Hosts;
  clock: Clock;
  /** 32 hexadecimal digits that nobody has. */
  freshId: () => string;
  /** In [0, 1). */
  random: () => number;
  log: Log;
  settings: Settings;
}

/** Date and time for people. */
export function timeOf(clock: Clock): string {
  return new Date(clock.now().clockMs).toISOString();
}
