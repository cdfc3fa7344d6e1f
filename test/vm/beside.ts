// A guest, and what runs on the machine beside it.
import { GuestNetwork } from './guest-network.js';
import type { Beside } from './machine.js';
import type { GuestRun } from './uml.js';

/** Runs a guest and what is to be beside it; `because`: why the latter has failed, or null. Both have ended when it resolves. */
export async function runWithBeside(
  beside: Beside,
  runGuest: (network: GuestNetwork, show: (line: string) => void) => Promise<GuestRun>,
  show: (line: string) => void,
): Promise<GuestRun & { because: string | null }> {
  const network = new GuestNetwork();
  const teardowns: (() => unknown)[] = [];
  try {
    let ready = (): void => undefined;
    const said = new Promise<void>((resolve) => {
      ready = resolve;
    });
    const ran = runGuest(network, (line) => {
      if (line === 'ready') ready();
      else show(line);
    });
    const over = ran.then(() => {
      guest.isOver = true;
    });
    const never = over.then(() => {
      throw new Error('the guest has ended before it was ready');
    });
    const guest = { isReady: Promise.race([said, never]), over, isOver: false };
    guest.isReady.catch(() => undefined);
    const because = await beside(
      { teardown: (clean) => void teardowns.push(clean) },
      { network, guest, say: show },
    ).then(
      () => null,
      (error: Error) => error.stack ?? error.message,
    );
    return { ...(await ran), because };
  } finally {
    for (const clean of teardowns.reverse()) await clean();
    network.end();
  }
}
