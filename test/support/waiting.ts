// Waiting for a state of the outside world. Every wait has a condition that ends it, and gives up with a sentence after a
// bound that only a hang reaches.
import net from 'node:net';

const LOOK_AGAIN_MS = 10;
const HANG_MS = 120_000;

/** Resolves once `condition` gives something true, which is what it resolves to. `condition` may throw to give up. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  { everyMs = LOOK_AGAIN_MS, hangMs = HANG_MS } = {},
): Promise<NonNullable<T>> {
  const giveUp = Date.now() + hangMs;
  for (;;) {
    const value = await condition();
    if (value) return value as NonNullable<T>;
    if (Date.now() > giveUp) throw new Error(`gave up waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

/** Whether somebody accepts connections at a unix socket. */
export function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
