// Which parts of a line may have window records, coarsely: so that a fault through a chain of a thousand clones asks only those
// that wrote near there. A superset: a region is added before its first record is durable and never taken out.

export const REGION_WINDOWS = 64n;
const BUCKETS = 4096n;

/** Number of the bucket a window's region falls into. */
export function regionOf(window: bigint): number {
  return Number((window / REGION_WINDOWS) % BUCKETS);
}

/** The buckets of windows [first, first + count); null: any. */
export function bucketsOf(first: bigint, count: number): readonly number[] | null {
  const last = (first + BigInt(count) - 1n) / REGION_WINDOWS;
  const buckets: number[] = [];
  for (let region = first / REGION_WINDOWS; region <= last; region++) {
    if (BigInt(buckets.length) === BUCKETS) return null;
    buckets.push(Number(region % BUCKETS));
  }
  return buckets;
}

/** True when windows of these buckets may have records. A fault asks it of a thousand lines. */
export function hasAnyOf(regions: ReadonlySet<number>, buckets: readonly number[] | null): boolean {
  if (buckets === null) return regions.size > 0;
  for (const bucket of buckets) if (regions.has(bucket)) return true;
  return false;
}

/** True when windows [first, first + count) may have records. */
export function mayHaveRecords(regions: ReadonlySet<number>, first: bigint, count: number): boolean {
  return regions.size > 0 && hasAnyOf(regions, bucketsOf(first, count));
}

const LIST_AT_MOST = 150;

/** A short list of numbers, else a bitmap in base64: a line's record stays small however much is written. */
export function encodeRegions(regions: ReadonlySet<number>): number[] | string {
  if (regions.size <= LIST_AT_MOST) return [...regions];
  const bitmap = Buffer.alloc(Number(BUCKETS) / 8);
  for (const region of regions) bitmap[region >> 3]! |= 1 << (region & 7);
  return bitmap.toString('base64');
}

/** Throws when it is neither. */
export function decodeRegions(stored: unknown): Set<number> {
  if (
    Array.isArray(stored) &&
    stored.every((region) => Number.isInteger(region) && region >= 0 && region < Number(BUCKETS))
  ) {
    return new Set(stored as number[]);
  }
  const bitmap = typeof stored === 'string' ? Buffer.from(stored, 'base64') : null;
  if (bitmap?.length !== Number(BUCKETS) / 8) throw new Error('the set of regions is malformed');
  const regions = new Set<number>();
  for (let region = 0; region < Number(BUCKETS); region++)
    if (bitmap[region >> 3]! & (1 << (region & 7))) regions.add(region);
  return regions;
}
