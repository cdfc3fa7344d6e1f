// The coordinator, put together: every part is built here, in order, and stopped in reverse. This list is the architecture of the process.

import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Logger } from 'pino';
import type { CoordinatorSettings } from '../coordinator/command-line.js';
import { Coordinator } from '../coordinator/coordinator.js';
import { HostCredentials } from '../coordinator/credentials.js';
import { openState } from '../coordinator/open-state.js';
import { listenError } from '../operations/listen-error.js';
import { freshId } from '../protocol/exchange.js';
import { CoordinatorServer } from '../protocol/server.js';
import { systemClock } from '../protocol/timing.js';
import type { RunningProgram } from './run-until-stopped.js';
import { Stops } from './stops.js';

/** Said goodbye to, connections get this long to close. */
const CLOSE_MS = 2_000;

export interface RunningCoordinator extends RunningProgram {
  /** Where agents reach it, port 0 resolved. */
  address: string;
}

export async function composeCoordinator(
  settings: CoordinatorSettings,
  log: Logger,
): Promise<RunningCoordinator> {
  const stops = new Stops(log);
  try {
    const { name } = settings;
    const credentials = new HostCredentials(settings, log);
    const { listener } = credentials;
    // Before the state is opened: a wrong address leaves nothing behind. Who comes before there is a server is told to come again.
    const port = await listen(listener, settings.listen);
    stops.add('listener', closing(listener));
    const address = withPort(settings.address, port);

    const state = await openState({ name, address, state: settings.state }, { clock: systemClock, log });
    stops.add('state', () => state.close());

    const coordinator = new Coordinator({
      store: state.store,
      leadership: state.leadership,
      clock: systemClock,
      log,
      freshId,
      random: Math.random,
    });
    const server = new CoordinatorServer({
      coordinator: name,
      identify: (request) => credentials.identify(request),
      application: coordinator,
      log,
    });
    stops.add('hosts', async () => server.stop());
    coordinator.start(server);
    // First to stop: another one may lead before the hosts are let go, and they find it.
    stops.add('decisions', () => coordinator.stop());
    server.attach(listener);
    state.start();
    log.info({ event: 'listening', address, name }, 'hosts may come');
    return {
      address,
      reload: () => void credentials.reload(),
      // One thread: who runs this hangs nowhere.
      pulse: async () => undefined,
      describe: () => (coordinator.isReady ? 'Leading' : 'Standing by'),
      stop: () => stops.run(),
    };
  } catch (error) {
    await stops.run();
    throw error;
  }
}

/** The port it is bound to. */
async function listen(
  listener: Server,
  { host, port, isTls }: CoordinatorSettings['listen'],
): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    listener.once('error', (error) =>
      reject(
        listenError(`${isTls ? 'wss' : 'ws'}://${host.includes(':') ? `[${host}]` : host}:${port}`, error),
      ),
    );
    listener.listen({ host, port }, resolve);
  });
  return (listener.address() as AddressInfo).port;
}

function withPort(address: string, port: number): string {
  return address.replace(/:0\/?$/, `:${port}`);
}

/** What it takes to close it: connections that were upgraded are the server's no more, and a host that hangs does not close its own. */
function closing(listener: Server): () => Promise<void> {
  const open = new Set<Socket>();
  listener.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  return async () => {
    const impatience = setTimeout(() => {
      for (const socket of open) socket.destroy();
    }, CLOSE_MS);
    await new Promise((resolve) => listener.close(resolve));
    clearTimeout(impatience);
  };
}
