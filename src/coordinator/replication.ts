// Replicas of a volume in the cell that owns it: each pulls every snapshot from the primary.
//
// A snapshot is complete in the cell when a majority of the volume's hosts there have it.

import type { HostAnswer } from '../model/cell/answer.js';
import type { Head, Route } from '../model/cell/route.js';
import { askHost } from './asking.js';
import type { Copies } from './copies.js';
import { whyNoCopy } from './hosts-view.js';
import type { Ports } from './ports.js';
import type { Next } from './tender.js';
import { REST } from './tender.js';
import { type Why, whyNotDone, whySilent } from './troubles.js';

export type ReplicationParts = Pick<Ports, 'hosts' | 'store' | 'settings' | 'log'> & { copies: Copies };

export class Replication {
  readonly #parts: ReplicationParts;
  /** As the replicas said last. */
  readonly #through = new Map<string, Map<string, Head | null>>();

  constructor(parts: ReplicationParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const { active, lineageHead, volume } = route;
    if (active.replicas.length === 0) {
      this.#through.delete(volume);
      return REST;
    }
    const states = await Promise.all(active.replicas.map((host) => this.#bringUp(route, host)));
    const behind = active.replicas.filter((_, at) => !states[at]!.isDone);
    if (behind.length === 0 || lineageHead === null) return REST;
    return {
      do: 'wait',
      milliseconds: this.#parts.settings.copyPollMs,
      hosts: [...behind, active.primary],
      why: states.flatMap(({ why }) => why ?? [])[0] ?? null,
    };
  }

  /** What each replica is complete through, as far as is known. */
  of(volume: string): ReadonlyMap<string, Head | null> {
    return this.#through.get(volume) ?? new Map();
  }

  /** The last snapshot that a majority of the hosts has, the primary among them. */
  completeThrough({ volume, active, lineageHead }: Route): Head | null {
    const heads = [lineageHead, ...active.replicas.map((host) => this.of(volume).get(host) ?? null)];
    const majority = Math.floor(heads.length / 2) + 1;
    return heads.sort((a, b) => (b?.seq ?? 0) - (a?.seq ?? 0))[majority - 1] ?? null;
  }

  /** Whether it has everything there is, and if not, what stands in the way. */
  async #bringUp(
    { volume, active, lineageHead }: Route,
    host: string,
  ): Promise<{ isDone: boolean; why: Why | null }> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) return { isDone: false, why: whySilent(host) };
    if (!answer.replica || answer.epoch < active.epoch)
      return this.#begin(volume, host, active.epoch, answer);
    const { completeThrough } = answer.replica;
    this.#note(volume, host, completeThrough);
    if (completeThrough?.id === lineageHead?.id) {
      this.#parts.copies.end(volume, host);
      return { isDone: true, why: null };
    }
    await this.#parts.copies.want({
      volume,
      move: null,
      from: active,
      to: host,
      after: completeThrough,
      through: lineageHead!,
    });
    return { isDone: false, why: this.#parts.copies.why(volume, host) };
  }

  async #begin(
    volume: string,
    host: string,
    epoch: number,
    { state }: HostAnswer,
  ): Promise<{ isDone: false; why: Why | null }> {
    const { hosts, settings, log } = this.#parts;
    const heldBack = await whyNoCopy(this.#parts, host);
    if (heldBack) return { isDone: false, why: heldBack };
    const outcome = await hosts.command(
      host,
      { volume, command: { do: 'replicate', epoch } },
      settings.commandMs,
    );
    if (outcome.kind === 'done') return { isDone: false, why: null };
    log.warn(
      { event: 'replica-not-begun', volume, host, state, outcome },
      'a host has not become a replica yet',
    );
    return { isDone: false, why: whyNotDone(host, 'replicate', outcome) };
  }

  #note(volume: string, host: string, through: Head | null): void {
    const heads = this.#through.get(volume) ?? new Map<string, Head | null>();
    this.#through.set(volume, heads.set(host, through));
  }
}
