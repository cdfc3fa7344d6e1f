// What the coordinators can know of a host that comes back from a backup.

import type { SimEtcd } from './sim-etcd.js';
import type { Backup } from './sim-host.js';

/** Whether they know that it lacks something; what nobody was told of nobody can miss. `boots`: what it says in its next hello. */
export async function isKnownToBeOlder(
  etcd: SimEtcd,
  name: string,
  { boots, marks: then }: Pick<Backup, 'boots' | 'marks'>,
): Promise<boolean> {
  const store = etcd.state.store();
  const known = await store.get('host', name);
  // One that was forgotten begins anew when it has nothing, and is held back with whatever it has.
  if (known?.forgotten !== undefined) return then.size > 0;
  if (known?.regressed || (known && known.boot > boots)) return true;
  const marks = await store.list('highest', `${name}/`);
  return marks.some(({ volume, epoch, seq }) => {
    const had = then.get(volume);
    if (!had || epoch > had.epoch) return true;
    // What is no owner may have fewer than the owner it once was.
    return epoch === had.epoch && seq > had.seq && !['RECEIVING', 'STAGED', 'GONE'].includes(had.state);
  });
}
