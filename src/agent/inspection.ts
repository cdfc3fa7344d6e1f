// What the control API asks about the inside of the store besides the operations: differences, space, and whether all is well.
// The parts that know are handed in by the composition.

export interface DifferencePage {
  from: string;
  to: string;
  /** Sorted; `zero`: reads as zeros in `to` now. */
  extents: { offset: bigint; lengthBytes: bigint; kind: 'data' | 'zero' }[];
  /** Where the next page begins; null: this was the last. */
  next: bigint | null;
}

export interface SpaceUse {
  /** `VOLUME` or `VOLUME@SNAPSHOT`. */
  name: string;
  logicalBytes: bigint;
  /** Blocks that read as data, whoever wrote them. */
  allocatedBytes: bigint;
  /** Blocks nobody else reads (a volume: nobody but it and its snapshots). */
  exclusiveBytes: bigint;
  /** What deleting it (a volume: with its snapshots) gives back. */
  reclaimableBytes: bigint;
  /** Held for deleted snapshots, and read by nobody any more. */
  unreadBytes: bigint;
}

export interface StoreSpace {
  volumes: SpaceUse[];
  snapshots: SpaceUse[];
  /** Of the file system the store lies on. */
  fileSystem: { sizeBytes: bigint; freeBytes: bigint; reserveBytes: bigint };
}

export interface CheckProblem {
  severity: 'error' | 'warning';
  code: string;
  /** One sentence: what is wrong and where. */
  message: string;
}

export interface CheckReport {
  /** No problem of severity error. */
  clean: boolean;
  problems: CheckProblem[];
  recordsSeen: bigint;
}

export interface CheckWatcher {
  signal: AbortSignal;
  onProblem(problem: CheckProblem): void;
  onProgress(done: bigint, total: bigint | null): void;
}

export interface Inspection {
  /** `to` names a snapshot, or a volume for its current state. */
  diff(question: { from: string; to: string; offset: bigint }): Promise<DifferencePage>;
  space(): Promise<StoreSpace>;
  /** Reads only. Throws `task-cancelled` after the signal. */
  check(watcher: CheckWatcher): Promise<CheckReport>;
}
