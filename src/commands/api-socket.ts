// Where the agent is when nobody says it.

import { existsSync } from 'node:fs';

const LOCAL_SOCKET = './data/api.sock';
const SYSTEM_SOCKET = '/run/cellblock/api.sock';

/** The socket to talk to when none is named. */
export function defaultApiSocket(environment: NodeJS.ProcessEnv = process.env): string {
  const named = environment.CELLBLOCK_API;
  if (named !== undefined && named !== '') return named;
  return existsSync(LOCAL_SOCKET) ? LOCAL_SOCKET : SYSTEM_SOCKET;
}
