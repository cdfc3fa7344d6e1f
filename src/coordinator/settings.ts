// How long things may take, and how much at once. Milliseconds of the monotonic clock, but for the time of grace, which outlives a process.

export interface Settings {
  /** An answer to a probe. */
  probeMs: number;
  /** A change of a host's record. */
  commandMs: number;
  /** A snapshot, a resize or a delete at its host. */
  performMs: number;
  /** The digest of a snapshot, which is read for it. */
  digestMs: number;
  /** What was asked for ends by then, or is unavailable. */
  operationMs: number;
  /** Told to whoever is turned away. */
  retryAfterMs: number;
  /** Between two tries: doubled from the first to the last, half of it at random. */
  backoffMs: { first: number; last: number };
  /** Clients of a group are held so long at most; each host keeps to it by itself. */
  holdMs: number;
  /** How often a copy is asked after that says nothing of itself. */
  copyPollMs: number;
  /** A copy that has not come nearer for so long is asked for again. */
  copyStallMs: number;
  /** The last delta of a move is this small, or was carried in this time: then its source is sealed. */
  close: { bytes: number; milliseconds: number; rounds: number };
  /** Copies that a host receives at once; further moves wait. */
  copiesAtOnce: number;
  /** Null: as fast as it goes. */
  copyBytesPerSecond: number | null;
  /** How long what a move has left at its source is kept. */
  graceMs: number;
  /** Two looks at what was written, to tell how busy volumes are. */
  loadMs: number;
}

export const DEFAULT_SETTINGS: Settings = {
  probeMs: 3_000,
  commandMs: 10_000,
  performMs: 30_000,
  digestMs: 60 * 60 * 1_000,
  operationMs: 60_000,
  retryAfterMs: 5_000,
  backoffMs: { first: 100, last: 5_000 },
  holdMs: 5_000,
  copyPollMs: 2_000,
  copyStallMs: 60_000,
  close: { bytes: 64 * 1024 * 1024, milliseconds: 1_000, rounds: 8 },
  copiesAtOnce: 2,
  copyBytesPerSecond: null,
  graceMs: 60 * 60 * 1_000,
  loadMs: 2_000,
};
