// How the functions of this folder see a disk: they are computations that ask for the bytes they need and hand out the bytes they
// change, one step at a time. So they are pure, run over anything that has bytes (a held volume, a file, a buffer of a test), and need
// no more memory than they ask for.
// Invariant: what a step has written, later reads of the same computation see.

/** Asks for `bytes` bytes at `at`; what lies behind the end of the disk reads as zero. At most MAX_STEP_BYTES. */
export interface ReadStep {
  readonly do: 'read';
  readonly at: bigint;
  readonly bytes: number;
}

/** Changes bytes; never behind the end of the disk. At most MAX_STEP_BYTES. */
export interface WriteStep {
  readonly do: 'write';
  readonly at: bigint;
  readonly data: Uint8Array;
}

/** Makes a range read as zero without writing it: a change of the map. */
export interface ZeroStep {
  readonly do: 'zero';
  readonly at: bigint;
  readonly bytes: bigint;
}

export type Step = ReadStep | WriteStep | ZeroStep;

export const MAX_STEP_BYTES = 4 << 20;

/** A computation that only reads. Every yield is answered with the bytes asked for. */
export type Reading<T> = Generator<ReadStep, T, Uint8Array>;
/** A computation that changes the disk. Yields that read nothing are answered with an empty array. */
export type Writing<T> = Generator<Step, T, Uint8Array>;

export function* readAt(at: bigint, bytes: number): Reading<Buffer> {
  const data = yield { do: 'read', at, bytes };
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

export function* writeAt(at: bigint, data: Uint8Array): Writing<void> {
  yield { do: 'write', at, data };
}

export function* zeroAt(at: bigint, bytes: bigint): Writing<void> {
  yield { do: 'zero', at, bytes };
}

/** A range of a disk that is looked at as a disk of its own: a partition. In bytes. */
export interface Area {
  readonly at: bigint;
  readonly bytes: bigint;
}

/** The computation over an area as a computation over the disk the area lies on. Steps that leave the area throw a RangeError. */
export function* within<S extends Step, T>(
  area: Area,
  work: Generator<S, T, Uint8Array>,
): Generator<S, T, Uint8Array> {
  let answer: Uint8Array | undefined;
  for (;;) {
    const next = answer === undefined ? work.next(new Uint8Array(0)) : work.next(answer);
    if (next.done) return next.value;
    const step: S = next.value;
    answer = step.do === 'read' ? yield* readWithin(area, step) : yield moved(area, step);
  }
}

/** What lies behind the end of the area reads as zero, whatever follows there on the disk. */
function* readWithin<S extends Step>(area: Area, step: ReadStep): Generator<S, Uint8Array, Uint8Array> {
  if (step.at < 0n) throw new RangeError(`a read at ${step.at}`);
  const left = area.bytes - step.at;
  if (left >= BigInt(step.bytes)) return yield { ...step, at: area.at + step.at } as ReadStep as S;
  const whole = new Uint8Array(step.bytes);
  if (left > 0n) whole.set(yield { ...step, at: area.at + step.at, bytes: Number(left) } as ReadStep as S);
  return whole;
}

function moved<S extends Step>(area: Area, step: S): S {
  const bytes = step.do === 'write' ? BigInt(step.data.length) : BigInt(step.bytes);
  if (step.at < 0n || step.at + bytes > area.bytes)
    throw new RangeError(`bytes ${step.at} to ${step.at + bytes} of an area of ${area.bytes}`);
  return { ...step, at: area.at + step.at };
}
