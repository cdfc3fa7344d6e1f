// A daemon for one row, on a store of its own: nothing another row left open is counted, and it may be started otherwise.
import type { Bench } from './bench.js';
import { Cellblock, type CellblockOptions } from './cellblock.js';

export async function withDaemon<T>(
  bench: Bench,
  options: Pick<CellblockOptions, 'label' | 'tcp'>,
  work: (daemon: Cellblock) => Promise<T>,
): Promise<T> {
  const { root, sockets } = bench.options;
  const store = bench.path(`store-${options.label}`);
  const daemon = new Cellblock({ root, sockets, store, ...options });
  await daemon.start();
  try {
    return await work(daemon);
  } finally {
    await daemon.stop();
    await bench.remove(store);
  }
}
