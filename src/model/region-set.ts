// Which parts of a line may have window records, coarsely: so that a fault through a chain of a thousand clones asks only those
// that wrote near there. A superset: a region is added before its first record is durable and never taken out.

export const REGION_WINDOWS = 64n;
export const BUCKET_COUNT = 4096;
const BUCKETS = BigInt(BUCKET_COUNT);
const BITMAP_BYTES = BUCKET_COUNT / 8;
const NO_BITS = new Uint8Array(0);

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

/** A bitmap of the buckets: a fault asks it of a thousand lines, whose hash tables would be all over the memory. */
export class RegionSet {
  /** Of a line nobody wrote to: none. */
  #bits: Uint8Array = NO_BITS;
  #size = 0;

  constructor(buckets: Iterable<number> = []) {
    for (const bucket of buckets) this.add(bucket);
  }

  get size(): number {
    return this.#size;
  }

  has(bucket: number): boolean {
    return (this.#bits[bucket >>> 3]! & (1 << (bucket & 7))) !== 0;
  }

  add(bucket: number): void {
    if (this.has(bucket)) return;
    if (this.#size === 0) this.#bits = new Uint8Array(BITMAP_BYTES);
    this.#bits[bucket >>> 3]! |= 1 << (bucket & 7);
    this.#size++;
  }

  /** True when windows of these buckets may have records; null: of any. */
  hasAnyOf(buckets: readonly number[] | null): boolean {
    if (buckets === null) return this.#size > 0;
    for (const bucket of buckets) if (this.has(bucket)) return true;
    return false;
  }

  /** Ascending. */
  all(): number[] {
    const buckets: number[] = [];
    for (let byte = 0; byte < this.#bits.length; byte++)
      for (let bits = this.#bits[byte]!; bits !== 0; bits &= bits - 1)
        buckets.push(byte * 8 + 31 - Math.clz32(bits & -bits));
    return buckets;
  }
}

/** True when windows [first, first + count) may have records. */
export function mayHaveRecords(regions: RegionSet, first: bigint, count: number): boolean {
  return regions.size > 0 && regions.hasAnyOf(bucketsOf(first, count));
}

const LIST_AT_MOST = 150;

/** A short list of numbers, else a bitmap in base64: a line's record stays small however much is written. */
export function encodeRegions(regions: RegionSet): number[] | string {
  if (regions.size <= LIST_AT_MOST) return regions.all();
  const bitmap = Buffer.alloc(BITMAP_BYTES);
  for (const region of regions.all()) bitmap[region >> 3]! |= 1 << (region & 7);
  return bitmap.toString('base64');
}

/** Throws when it is neither. */
export function decodeRegions(stored: unknown): RegionSet {
  if (
    Array.isArray(stored) &&
    stored.every((region) => Number.isInteger(region) && region >= 0 && region < BUCKET_COUNT)
  ) {
    return new RegionSet(stored as number[]);
  }
  const bitmap = typeof stored === 'string' ? Buffer.from(stored, 'base64') : null;
  if (bitmap?.length !== BITMAP_BYTES) throw new Error('the set of regions is malformed');
  const regions = new RegionSet();
  for (let region = 0; region < BUCKET_COUNT; region++)
    if (bitmap[region >> 3]! & (1 << (region & 7))) regions.add(region);
  return regions;
}
