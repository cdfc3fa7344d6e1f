// Whether the time of day of a peer was set. Only seen and told: no deadline, order or decision goes by it.

import { TIMES } from './limits.js';

export interface Clocks {
  /** Time of day, in milliseconds since 1970. */
  clockMs: number;
  /** Monotonic, from any start. */
  uptimeMs: number;
}

export class ClockWatch {
  #last: Clocks | undefined;

  /** How far the time of day went beyond the time that has passed since the last look; undefined: not far. */
  look(now: Clocks): number | undefined {
    const last = this.#last;
    this.#last = now;
    if (!last) return undefined;
    const jumpMs = now.clockMs - last.clockMs - (now.uptimeMs - last.uptimeMs);
    return Math.abs(jumpMs) > TIMES.clockJumpMs ? jumpMs : undefined;
  }
}
