// Appends numbered records to a file, each stable before the next, and says at SIGTERM how many there were and how long the longest took.
import { fdatasyncSync, openSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';

const fd = openSync(process.argv[2]!, 'w');
let writes = 0;
let longestMs = 0;
let error: string | null = null;
let stopped = false;
process.on('SIGTERM', () => {
  stopped = true;
});
while (!stopped && error === null) {
  const begun = performance.now();
  try {
    writeSync(fd, `${String(writes).padStart(99)}\n`);
    fdatasyncSync(fd);
    writes++;
  } catch (failure) {
    error = String(failure);
  }
  longestMs = Math.max(longestMs, performance.now() - begun);
  if (writes === 1) console.log('begun');
  await nextTurn();
}
console.log(JSON.stringify({ writes, longestMs: Math.round(longestMs), error }));
