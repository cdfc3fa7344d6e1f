// What every gate process does for its test: it tells what passes, holds what it is told to, and lets it go.

import type { GateOrder, GateReport } from './gate.js';

interface Hold {
  id: number;
  label: string;
}

const wanted: Hold[] = [];
/** What lets the held ones go. */
const released = new Map<number, () => void>();

export const tell = (report: GateReport) => void process.send?.(report);

/** Whether the message of this label is to be held: then `go` is called when it may pass. */
export function isHeld(label: string, go: () => void): boolean {
  const at = wanted.findIndex((hold) => hold.label === label);
  if (at < 0) return false;
  const [{ id }] = wanted.splice(at, 1) as [Hold];
  released.set(id, go);
  tell({ said: 'held', id });
  return true;
}

/** When everything is in its place. */
export function obey(): void {
  process.on('message', (order: GateOrder) => {
    if (order.do === 'hold') wanted.push({ id: order.id, label: order.label });
    if (order.do === 'forget') wanted.splice(0, wanted.length, ...wanted.filter(({ id }) => id !== order.id));
    if (order.do === 'release') {
      released.get(order.id)?.();
      released.delete(order.id);
    }
    if (order.do === 'ask')
      void ask(order.url).then((answer) => tell({ said: 'answer', id: order.id, answer }));
  });
  process.once('disconnect', () => process.exit());
  tell({ said: 'ready' });
}

/** Of a member of etcd; null: it says nothing. */
async function ask(url: string): Promise<unknown> {
  try {
    const answer = await fetch(url, { method: 'POST', body: '{}', signal: AbortSignal.timeout(1_000) });
    return await answer.json();
  } catch {
    return null;
  }
}
