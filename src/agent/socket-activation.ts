// Listening sockets the process was started with (the protocol of sd_listen_fds: LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES). They are
// descriptors 3 and up, named `nbd`, as those without a name are, or `api`; and what an earlier run left with the service manager.
// What is not meant for this process is left alone.

import { activationError } from '../operations/listen-error.js';
import { FILE_NAME, type PassedClients, SOCKET_NAME } from './kept-clients.js';

export interface PassedSockets {
  nbd: readonly number[];
  api: number | null;
  clients: PassedClients;
}

export const NO_SOCKETS: PassedSockets = { nbd: [], api: null, clients: { files: [], sockets: [] } };

const FIRST_DESCRIPTOR = 3;
/** As many as a manager may keep for us, and some to listen on. */
const MAX_DESCRIPTORS = 100_000;

/** What systemd calls a socket nobody named. */
const UNNAMED = 'unknown';

/** Takes the variables out of the environment, so that no child takes the sockets for its own. `socket-activation-invalid`. */
export function takePassedSockets(environment: NodeJS.ProcessEnv, pid: number): PassedSockets {
  const { LISTEN_PID: meant, LISTEN_FDS: count, LISTEN_FDNAMES: names } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  if (count === undefined || meant !== String(pid)) return NO_SOCKETS;
  return sort(namesOf(numberOf(count), names));
}

function numberOf(count: string): number {
  if (/^\d{1,9}$/.test(count) && Number(count) <= MAX_DESCRIPTORS) return Number(count);
  throw activationError(
    `LISTEN_FDS is ${JSON.stringify(count)}, which is no number from 0 to ${MAX_DESCRIPTORS}.`,
  );
}

function namesOf(count: number, text: string | undefined): string[] {
  if (text === undefined) return Array.from({ length: count }, () => UNNAMED);
  // No name at all is an empty text.
  const names = count === 0 && text === '' ? [] : text.split(':');
  if (names.length === count) return names;
  throw activationError(`LISTEN_FDNAMES names ${names.length} sockets, and LISTEN_FDS says ${count}.`);
}

function sort(names: readonly string[]): PassedSockets {
  const of = (wanted: readonly string[]) =>
    names.flatMap((name, index) => (wanted.includes(name) ? [FIRST_DESCRIPTOR + index] : []));
  const nbd = of(['nbd', UNNAMED, '']);
  const api = of(['api']);
  const clients = { files: of([FILE_NAME]), sockets: of([SOCKET_NAME]) };
  const usual = ['nbd', UNNAMED, '', 'api', FILE_NAME, SOCKET_NAME];
  const strange = names.find((name) => !usual.includes(name));
  if (strange !== undefined) {
    throw activationError(`A socket passed at the start is named ${JSON.stringify(strange)}.`);
  }
  if (api.length > 1) throw activationError(`${api.length} sockets passed at the start are named api.`);
  return { nbd, api: api[0] ?? null, clients };
}
