// Copies of volumes from other hosts: one at a time for each volume, a few at a time in all; and digests of what is here.
//
// Invariant: when stop() has resolved nothing of the volume is written any more, and nothing is told of it.

import { CellblockError } from '../../base/errors.js';
import type { Snapshot } from '../../model/entities.js';
import { NbdClient } from '../../nbd-client/nbd-client.js';
import type { Digest, Pull } from '../../protocol/exchange.js';
import { systemClock } from '../../protocol/timing.js';
import type { Device } from '../devices.js';
import type { Logger } from '../types.js';
import { CopyRun } from './copy-run.js';
import { digestOf, sideOf } from './digest.js';
import { checkDescription } from './landing.js';
import { RateLimit } from './rate-limit.js';
import type { CopyCounts, CopyOptions, CopyParts } from './snapshot-copy.js';
import type { Copies, CopyHost } from './treaty.js';

export interface VolumeCopiesOptions extends CopyOptions {
  /** Copies that run; the others wait. */
  atOnce: number;
  /** Of all of them together; null: as much as there is. */
  bytesPerSecond: bigint | null;
}

export const COPY_DEFAULTS: VolumeCopiesOptions = {
  credentials: () => null,
  clock: systemClock,
  connect: NbdClient.connect,
  connections: 4,
  pieceBytes: 1 << 20,
  connectMs: 10_000,
  silenceMs: 30_000,
  firstPauseMs: 250,
  longestPauseMs: 10_000,
  giveUpMs: 120_000,
  atOnce: 4,
  bytesPerSecond: null,
};

interface Run {
  copy: CopyRun;
  ended: Promise<void>;
}

export class VolumeCopies implements Copies {
  readonly #parts: CopyParts;
  readonly #host: CopyHost;
  readonly #log: Logger;
  readonly #options: VolumeCopiesOptions;
  readonly #rate: RateLimit;
  readonly #runs = new Map<string, Run>();
  /** Those whose turn has not come, in order. */
  readonly #waiting = new Set<() => void>();
  #running = 0;
  #stopping = false;
  readonly counts: CopyCounts = {
    snapshots: 0,
    receivedBytes: 0n,
    changedBytes: 0n,
    mismatches: 0,
    breaks: 0,
  };

  constructor(
    collaborators: { parts: CopyParts; host: CopyHost; log: Logger },
    options: Partial<VolumeCopiesOptions> = {},
  ) {
    this.#parts = collaborators.parts;
    this.#host = collaborators.host;
    this.#log = collaborators.log;
    this.#options = { ...COPY_DEFAULTS, ...options };
    const { bytesPerSecond, clock, pieceBytes } = this.#options;
    this.#rate = new RateLimit(bytesPerSecond === null ? null : Number(bytesPerSecond), {
      clock,
      largestPiece: pieceBytes,
    });
  }

  /** Volumes that are being copied, or wait for it. */
  get volumes(): readonly string[] {
    return [...this.#runs.keys()];
  }

  /** `copy-invalid`, `volume-exists`, `name-...`, `store-stopping`; what goes wrong later is told by the host's failed(). */
  async pull(volume: string, pull: Pull): Promise<void> {
    if (this.#stopping) throw stopping();
    checkDescription(this.#parts.catalog, pull.description, this.#host.containerOf(volume) !== null);
    if (this.#runs.get(volume)?.copy.update(pull)) return;
    await this.stop(volume);
    if (this.#stopping) throw stopping();
    // Asked for again while that ended.
    if (this.#runs.get(volume)?.copy.update(pull)) return;
    const copy = new CopyRun(
      { volume, pull },
      { parts: this.#parts, host: this.#host, log: this.#log, counts: this.counts, rate: this.#rate },
      this.#options,
    );
    const run: Run = { copy, ended: this.#inTurn(copy) };
    this.#runs.set(volume, run);
    run.ended = run.ended.finally(() => {
      if (this.#runs.get(volume) === run) this.#runs.delete(volume);
    });
  }

  async stop(volume: string): Promise<void> {
    const run = this.#runs.get(volume);
    run?.copy.abort();
    await run?.ended;
  }

  /** Every copy; from now on none is begun. */
  async stopAll(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.volumes.map((volume) => this.stop(volume)));
  }

  async #inTurn(copy: CopyRun): Promise<void> {
    if (this.#running < this.#options.atOnce) this.#running++;
    else if (!(await this.#turn(copy.signal))) return;
    try {
      await copy.run();
    } finally {
      const [next] = this.#waiting;
      // It takes the place of this one.
      if (next) next();
      else this.#running--;
    }
  }

  /** False: it was stopped before its turn came. */
  #turn(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (hasCome: boolean) => {
        this.#waiting.delete(proceed);
        signal.removeEventListener('abort', stopped);
        resolve(hasCome);
      };
      const proceed = () => settle(true);
      const stopped = () => settle(false);
      this.#waiting.add(proceed);
      signal.addEventListener('abort', stopped);
      if (signal.aborted) stopped();
    });
  }

  /** `snapshot-not-found`. Of any snapshot that is here, since any other one that is. */
  async digest(_volume: string, what: { snapshot: string; since: string | null }): Promise<Digest> {
    const { devices, meta } = this.#parts;
    const snapshot = this.#require(what.snapshot);
    const since = what.since === null ? null : this.#require(what.since);
    if (since) devices.pin(since.line, since.version);
    let view: Device | null = null;
    try {
      if (since) await devices.settle(since.line, since.version);
      view = await devices.acquireView(snapshot);
      return await digestOf(
        { ...this.#parts, windowBytes: meta.windowBytes },
        { ...sideOf(snapshot), handle: view.handle },
        { since: since && sideOf(since) },
      );
    } finally {
      if (view) devices.release(view);
      if (since) devices.unpin(since.line, since.version);
    }
  }

  #require(id: string): Snapshot {
    const snapshot = this.#parts.catalog.snapshots.get(id);
    if (snapshot) return snapshot;
    throw new CellblockError('snapshot-not-found', `The snapshot with the id ${id} is not here.`, {
      hint: 'See `cellblock snapshot list`.',
    });
  }
}

function stopping(): CellblockError {
  return new CellblockError('store-stopping', 'The store is being stopped.', {
    hint: 'Try again when the agent runs again.',
  });
}
