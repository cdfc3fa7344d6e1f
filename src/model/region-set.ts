// Which parts of a line may have window records, coarsely: so that a fault through a chain of a thousand clones asks only those
// that wrote near there. A superset: a region is added before its first record is durable and never taken out.

export const REGION_WINDOWS = 64n;
const BUCKETS = 4096n;

/** Number of the bucket a window's region falls into. */
export function regionOf(window: bigint): number {
  return Number((window / REGION_WINDOWS) % BUCKETS);
}

/** True when windows [first, first + count) may have records. */
export function mayHaveRecords(regions: ReadonlySet<number>, first: bigint, count: number): boolean {
  if (regions.size === 0) return false;
  const last = (first + BigInt(count) - 1n) / REGION_WINDOWS;
  for (let region = first / REGION_WINDOWS; region <= last; region++) {
    if (regions.has(Number(region % BUCKETS))) return true;
    if (region - first / REGION_WINDOWS >= BUCKETS) return true;
  }
  return false;
}
