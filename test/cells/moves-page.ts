// docs/moves-measured.md.

import type { Machine } from '../../bench/machine.js';
import { isHiddenName } from '../../src/model/names.js';

export interface Move {
  title: string;
  tookMs: number;
  /** The longest time that one of the clients had no answer. */
  silenceMs: number;
  /** Answered while it was under way. */
  writes: number;
  /** `changedBytes`: in blocks whose bytes differ from those of `since`; null: one of both is there no more. */
  snapshots: { snapshot: string; since: string | null; receivedBytes: number; changedBytes: number | null }[];
  problems: string[];
}

const KIB = 1024;

const kib = (bytes: number) => (bytes / KIB).toLocaleString('en', { maximumFractionDigits: 0 });

const sum = (numbers: number[]) => numbers.reduce((all, one) => all + one, 0);

function summary(move: Move): string {
  const { title, snapshots, tookMs, silenceMs, writes, problems } = move;
  const known = snapshots.filter(({ changedBytes }) => changedBytes !== null);
  const hidden = snapshots.filter(({ snapshot }) => isHiddenName(snapshot));
  const cells = [
    title,
    `${snapshots.length - hidden.length} + ${hidden.length}`,
    kib(sum(snapshots.map(({ receivedBytes }) => receivedBytes))),
    known.length === 0
      ? '-'
      : `${kib(sum(known.map(({ receivedBytes }) => receivedBytes)))} of ${kib(sum(known.map(({ changedBytes }) => changedBytes!)))}`,
    (tookMs / 1000).toFixed(1),
    writes === 0 ? '-' : silenceMs.toFixed(0),
    writes,
    problems.length === 0 ? 'none' : problems.length,
  ];
  return `| ${cells.join(' | ')} |`;
}

function details({ title, snapshots }: Move): string {
  const rows = snapshots.map(({ snapshot, since, receivedBytes, changedBytes }) => {
    const changed = changedBytes === null ? '-' : kib(changedBytes);
    return `| ${snapshot} | ${since ?? '-'} | ${changed} | ${kib(receivedBytes)} |`;
  });
  return `### ${title}\n\n| snapshot | compared with | changed, KiB | sent, KiB |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

export function movesPage(moves: readonly Move[], machine: Machine): string {
  const { cores, cpu, memory_bytes, kernel, versions } = machine;
  return `# Moves, measured

Made by \`npm run show:moves\` on ${new Date().toISOString().slice(0, 10)}, cellblock ${versions.cellblock}, Node ${versions.node}: ${cores} cores (${cpu}),
${(memory_bytes / 2 ** 30).toFixed(0)} GiB of memory, Linux ${kernel}. Two agents, three coordinators and three members of etcd are processes in network
namespaces of that one machine, so times say little about two machines; bytes are what they are.

Four clients write blocks of 4 KiB all the time (but to the golden volume), each one request after the other with a pause of 1 ms, and go on at
whoever serves the volume. "Silence" is the longest time that one of them had no answer, all of the move taken together: the cut-over is in it. Between two
snapshots 2 MiB of random data are written besides. After each move all that was acknowledged is read back, and every snapshot at both hosts is compared with
what it was; "problems" are what was found so.

"Changed": both snapshots are read whole at the source when the move is over, and their blocks of 4 KiB compared byte by byte; a block that is zeros now is not
counted, because none is sent. A first snapshot is compared with an empty disk. Snapshots called \`.carry-…\` (counted behind the \`+\`) carry what was written while the
move was under way; a row has no "changed" where the source has given one back before it could be read.

| move | snapshots | sent in all, KiB | sent of changed, KiB | took, s | silence, ms | writes meanwhile | problems |
|---|---|---|---|---|---|---|---|
${moves.map(summary).join('\n')}

## Snapshot by snapshot

${moves.map(details).join('\n')}`;
}
