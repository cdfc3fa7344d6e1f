// Copies that hosts pull from one another: asked for once, and again when their host has come back, when they failed or stand still.
//
// Invariant: nothing here says that a copy is complete; only the record of its host does, when it is probed.

import type { Head, Place } from '../model/cell/route.js';
import type { HostEvent, Progress, Pull, VolumeDescription } from '../protocol/exchange.js';
import type { Ports } from './ports.js';
import { hostError, hostSilent } from './refusals.js';
import type { Why } from './troubles.js';

export interface Wanted {
  volume: string;
  /** Null: a replica. */
  move: string | null;
  from: Place;
  /** The host that pulls. */
  to: string;
  /** What is there already; null: nothing is known to be. */
  after: Head | null;
  through: Head;
}

export interface CopyState {
  stage: string;
  done: number;
  total: number | null;
  /** What it failed with last; null: it goes on. */
  failed: string | null;
}

interface Copy {
  through: string;
  state: CopyState;
  /** How often it has failed on the way to this one. */
  failures: number;
  /** When it was asked for or came nearer, of the monotonic clock. */
  nearerMs: number;
}

export class Copies {
  readonly #ports: Pick<Ports, 'hosts' | 'clock' | 'settings'>;
  readonly #copies = new Map<string, Copy>();

  constructor(ports: Pick<Ports, 'hosts' | 'clock' | 'settings'>) {
    this.#ports = ports;
  }

  /** Sees to it that the host pulls this. False: it waits for its turn, since the host receives others. */
  async want(wanted: Wanted): Promise<boolean> {
    const { clock, settings } = this.#ports;
    const key = keyOf(wanted.volume, wanted.to);
    const now = clock.now().uptimeMs;
    const copy = this.#copies.get(key);
    if (copy?.through === wanted.through.id && now - copy.nearerMs < this.#patience(copy)) return true;
    if (!copy && this.#receivedBy(wanted.to) >= settings.copiesAtOnce) return false;
    this.#copies.set(key, {
      through: wanted.through.id,
      nearerMs: now,
      failures: copy?.through === wanted.through.id ? copy.failures : 0,
      state: { stage: 'asked', done: 0, total: null, failed: copy?.state.failed ?? null },
    });
    try {
      await this.#ask(wanted);
      return true;
    } catch (error) {
      // The next one is free to go; this one is asked for again.
      this.#copies.delete(key);
      throw error;
    }
  }

  state(volume: string, host: string): CopyState | null {
    return this.#copies.get(keyOf(volume, host))?.state ?? null;
  }

  /** Why it does not go on; null: it does, or nobody has asked for it. */
  why(volume: string, host: string): Why | null {
    const failed = this.state(volume, host)?.failed ?? null;
    if (failed === null) return null;
    return {
      because: `The copy at host ${host} has failed: ${failed.replace(/\.$/, '')}.`,
      hint: `It is tried again by itself; the log of ${host} says more.`,
    };
  }

  /** It is over, or nobody wants it any more. */
  end(volume: string, host: string): void {
    this.#copies.delete(keyOf(volume, host));
  }

  progressed(host: string, { volume, stage, done, total }: Progress): void {
    const copy = volume === null ? undefined : this.#copies.get(keyOf(volume, host));
    if (!copy) return;
    copy.nearerMs = this.#ports.clock.now().uptimeMs;
    copy.state = { stage, done, total, failed: null };
  }

  failed(host: string, { volume, message }: HostEvent): void {
    const copy = this.#copies.get(keyOf(volume.id, host));
    if (!copy) return;
    copy.failures += 1;
    copy.nearerMs = this.#ports.clock.now().uptimeMs;
    copy.state = { ...copy.state, stage: 'failed', failed: message };
  }

  /** A host whose session is a new one may have forgotten what it was asked for. */
  joined(host: string): void {
    for (const [key, copy] of this.#copies) if (key.endsWith(`/${host}`)) copy.nearerMs = -Infinity;
  }

  /** How long it is left alone: one that has failed the longer, the more often it did. */
  #patience({ state, failures }: Copy): number {
    const { copyStallMs, copyPollMs } = this.#ports.settings;
    return state.stage === 'failed' ? Math.min(copyStallMs, copyPollMs * 2 ** (failures - 1)) : copyStallMs;
  }

  #receivedBy(host: string): number {
    return [...this.#copies.keys()].filter((key) => key.endsWith(`/${host}`)).length;
  }

  async #ask(wanted: Wanted): Promise<void> {
    const { hosts, settings } = this.#ports;
    const { volume, move, from, to, through } = wanted;
    const description = await this.#describe(wanted);
    const last = description.snapshots.at(-1);
    const pull: Pull = {
      move,
      from: { host: from.primary, cell: from.cell, addresses: this.#addressesOf(from.primary) },
      description,
      // Of a lineage that is longer than a message the first part, and then the next.
      through: description.more && last ? { id: last.id, seq: last.seq } : through,
      bytesPerSecond: settings.copyBytesPerSecond,
    };
    const outcome = await hosts.pull(to, { volume, pull }, settings.commandMs);
    if (outcome.kind === 'silent') throw hostSilent(to, settings);
    if (outcome.kind === 'failed') throw hostError(outcome.code, `${to}: ${outcome.message}`);
    if (outcome.kind === 'refused')
      throw hostError(outcome.refusal, `${to} does not pull: ${outcome.because}`);
  }

  /** What comes behind what is there; of a source that has that no more, all. */
  async #describe({ volume, from, after }: Wanted): Promise<VolumeDescription> {
    const { hosts, settings } = this.#ports;
    const ask = (behind: string | null) =>
      hosts.describe(from.primary, { volume, after: behind }, settings.commandMs);
    let asked = await ask(after?.id ?? null);
    if (asked.kind === 'failed' && after) asked = await ask(null);
    if (asked.kind === 'done') return asked.reply.description;
    if (asked.kind === 'silent') throw hostSilent(from.primary, settings);
    throw hostError(asked.code, `${from.primary}: ${asked.message}`);
  }

  #addressesOf(host: string): string[] {
    const hello = this.#ports.hosts.hosts.find((each) => each.host === host);
    if (!hello || hello.nbd.length === 0) throw hostSilent(host, this.#ports.settings);
    return hello.nbd;
  }
}

const keyOf = (volume: string, host: string) => `${volume}/${host}`;
