// The service manager of this process, with what it takes to tell it anything.

import type { Logger } from 'pino';
import { ServiceManager } from '../agent/service-manager.js';
import { loadServiceNotifications } from '../plane/addon.js';

export function managerOf({ env, pid }: NodeJS.Process, log: Logger): ServiceManager {
  return new ServiceManager({ environment: env, pid, log, notifications: loadServiceNotifications });
}
