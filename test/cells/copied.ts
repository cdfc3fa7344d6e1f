// What a host has received of the snapshots of a volume, as its log says it of each.

import type { HostParty } from './parties.js';

export interface Copied {
  snapshot: string;
  /** What it was compared with; null: nothing, everything came. */
  since: string | null;
  receivedBytes: number;
}

/** The host keeps only the last of its output: it is looked at so often that nothing of it is missed. */
const LOOK_MS = 50;

export class CopyLog {
  readonly #host: HostParty;
  readonly #lines = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(host: HostParty) {
    this.#host = host;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  end(): Copied[] {
    this.#look();
    clearInterval(this.#timer);
    return [...this.#lines].map((line) => JSON.parse(line) as Copied);
  }

  /** Those of before are not meant. */
  static begin(host: HostParty): CopyLog {
    const log = new CopyLog(host);
    log.#look();
    const before = new Set(log.#lines);
    log.#lines.clear();
    log.#isOld = (line) => before.has(line);
    return log;
  }

  #isOld: (line: string) => boolean = () => false;

  #look(): void {
    const whole = this.#host.output.split('\n').slice(0, -1);
    for (const line of whole)
      if (line.startsWith('{') && line.includes('"msg":"a snapshot was copied"') && !this.#isOld(line))
        this.#lines.add(line);
  }
}
