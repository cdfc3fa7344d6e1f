// How long to wait before the next try: twice as long each time, up to a bound; half of it for certain, the rest at random.

export interface BackoffOptions {
  backoffMs: { first: number; last: number };
}

/** `tries`: how many have failed, 1 or more. */
export function backoffMs(
  { backoffMs: { first, last } }: BackoffOptions,
  tries: number,
  random: () => number,
): number {
  const full = Math.min(last, first * 2 ** Math.min(tries - 1, 30));
  return full / 2 + random() * (full / 2);
}
