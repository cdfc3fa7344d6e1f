// The command line of the bench.
import { parseArgs } from 'node:util';
import type { Sizes } from './bench.js';
import { availableMemory } from './machine.js';

const GIB = 2 ** 30;
const TIB = 2 ** 40;

export interface Arguments {
  /** Row ids in capitals; empty: all. */
  readonly rows: readonly string[];
  readonly quick: boolean;
  readonly peersOnly: boolean;
  readonly against: string | null;
  readonly keep: boolean;
  readonly rounds: number;
  readonly runtime_ms: number;
  readonly out: string;
  readonly directory: string | null;
}

export const USAGE = `usage: npm run bench -- [options]
  --rows B1,B2,...   only these rows; the report keeps what it has of the others
  --quick            small sizes, 3 rounds, short measurements
  --rounds N         rounds (5, quick: 3)
  --runtime-ms N     of one measurement (3000, quick: 1500)
  --peers-only       measure the peers and the limit without cellblock
  --against DIR      two builds of cellblock instead of peers: this one and that in DIR, for the rows B1 to B6
  --out DIR          where benchmarks.md, benchmarks.json and the plots go (docs)
  --dir DIR          where the data goes, on the file system to be measured (build/bench)
  --keep             leave the data where it is
`;

export class UsageError extends Error {
  override name = 'UsageError';
}

function count(text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new UsageError(`${text} is not a whole number above 0`);
  return value;
}

function parse(words: readonly string[]): Record<string, string | boolean | undefined> {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  try {
    return parseArgs({
      args: [...words],
      options: {
        rows: text,
        quick: flag,
        rounds: text,
        'runtime-ms': text,
        'peers-only': flag,
        against: text,
        out: text,
        dir: text,
        keep: flag,
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Ids of rows. */
export interface KnownRows {
  readonly all: readonly string[];
  /** Those that compare builds. */
  readonly compared: readonly string[];
}

export function readArguments(words: readonly string[], { all, compared }: KnownRows): Arguments {
  const values = parse(words);
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const rows = (text('rows') ?? '')
    .split(',')
    .filter((row) => row !== '')
    .map((row) => row.toUpperCase());
  const quick = values.quick === true;
  const against = text('against') ?? null;
  const known = against === null ? all : compared;
  const unknown = rows.find((row) => !known.includes(row));
  if (unknown !== undefined)
    throw new UsageError(`there is no row ${unknown}: the rows are ${known.join(', ')}`);
  if (against !== null && values['peers-only'] === true)
    throw new UsageError('--against is about cellblock, --peers-only about everybody else');
  return {
    rows,
    quick,
    peersOnly: values['peers-only'] === true,
    against,
    keep: values.keep === true,
    rounds: count(text('rounds'), quick ? 3 : 5),
    runtime_ms: count(text('runtime-ms'), quick ? 1500 : 3000),
    out: text('out') ?? 'docs',
    directory: text('dir') ?? null,
  };
}

/** The cached volume exists three times (raw, qcow2, ours), with snapshots: all of it must stay in the page cache. */
export async function chooseSizes(quick: boolean): Promise<Sizes> {
  const room = Math.floor(((await availableMemory()) / 10 / GIB) * 4) * (GIB / 4);
  const cached_bytes = Math.max(GIB / 4, Math.min(quick ? GIB / 2 : 2 * GIB, room));
  if (quick) {
    return {
      cached_bytes,
      huge_bytes: 256 * GIB,
      trimmed_bytes: 128 * GIB,
      deleted_bytes: GIB,
      touched_windows: 2000,
      depths: [0, 10, 100],
      coordinator: { volumes: 10_000, hosts: 100 },
    };
  }
  return {
    cached_bytes,
    huge_bytes: 4 * TIB,
    trimmed_bytes: 2 * TIB,
    deleted_bytes: 10 * GIB,
    touched_windows: 10_000,
    depths: [0, 10, 100, 1000],
    coordinator: { volumes: 100_000, hosts: 1_000 },
  };
}

/** About what all rows together need at one time, in bytes. */
export function roomNeeded(quick: boolean): number {
  return (quick ? 10 : 60) * GIB;
}
