// Runs an agent or a coordinator until it is told to stop. SIGTERM or SIGINT: a clean stop; a second one: an immediate end, as after a crash, which the
// next start recovers from. SIGHUP: its files of TLS and tokens are read again. Its service manager is told of all that. An error nobody caught: logged, then the end, because its state cannot be trusted.

import type { Logger } from 'pino';
import { EXIT_CODES } from '../agent/exit-codes.js';
import type { ServiceManager } from '../agent/service-manager.js';
import { asCellblockError } from '../base/errors.js';

export interface RunningProgram {
  /** Reads again what may be changed while it runs. */
  reload(): void;
  /** Resolves when nothing hangs. */
  pulse(): Promise<void>;
  /** What it does, in a few words. */
  describe(): string;
  /** Ends everything in order; idempotent. */
  stop(): Promise<void>;
}

/** Answers the exit code. What `start` throws is thrown on. */
export async function runUntilStopped<P extends RunningProgram>(
  { log, manager }: { log: Logger; manager: ServiceManager },
  start: () => Promise<P>,
  whenReady: (program: P) => void = () => undefined,
): Promise<number> {
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, (error: unknown) => {
      log.fatal({ err: error }, 'an error that nobody caught; ending at once');
      process.exit(EXIT_CODES.internal);
    });
  }
  const asked = stopAsked(log);
  let reload = () => {}; // a start reads everything anyway
  process.on('SIGHUP', () => reload());
  const program = await start().catch((error: unknown) => {
    manager.failed(asCellblockError(error).message);
    throw error;
  });
  reload = () => manager.reload(() => program.reload());
  log.info('ready');
  manager.ready(() => program.describe());
  manager.watch(() => program.pulse());
  whenReady(program);
  const signal = await asked;
  log.info({ signal }, 'stopping');
  manager.stopping();
  try {
    await program.stop();
  } catch (error) {
    const { kind, message } = asCellblockError(error);
    log.error({ err: error }, `stopped, but not cleanly: ${message}`);
    return EXIT_CODES[kind];
  }
  log.info('stopped');
  return 0;
}

/** Resolves at the first signal; a second one ends the process. A signal during the start stops right after it. */
function stopAsked(log: Logger): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        if (asked) {
          log.warn({ signal }, 'asked again; ending at once');
          process.exit(EXIT_CODES.cancelled);
        }
        asked = true;
        resolve(signal);
      });
    }
  });
}
