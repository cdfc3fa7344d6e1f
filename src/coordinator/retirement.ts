// The alternate cell of a volume that is not on the move any more: it is kept for a time of grace, then its copy is purged and the route
// names it no more.
//
// Invariants: nothing is purged but with the owner's word that it has every snapshot of the copy; a former owner only when it has released the
// volume. What an operator has to look after is left alone.

import { type CellAnswer, precedes } from '../model/cell/answer.js';
import type { Place, Route } from '../model/cell/route.js';
import { owns } from '../model/cell/states.js';
import { askBoth, askHost } from './asking.js';
import type { Bases } from './bases.js';
import { endedRecord } from './mover.js';
import type { Operations } from './operations.js';
import { type Ports, timeOf } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { MoveRecord } from './store.js';
import { AGAIN, type Next, REST } from './tender.js';
import { whyNotDone, whySilent } from './troubles.js';

export type RetirementParts = Pick<Ports, 'hosts' | 'store' | 'clock' | 'settings' | 'log'> & {
  book: RouteBook;
  operations: Operations;
  bases: Bases;
};

export class Retirement {
  readonly #parts: RetirementParts;

  constructor(parts: RetirementParts) {
    this.#parts = parts;
  }

  async step(route: Route): Promise<Next> {
    const { alternate, journal, active } = route;
    if (alternate === null || journal !== null || alternate.mustSeal !== null || alternate.needsRepair)
      return REST;
    const hosts = [active.primary, alternate.primary];
    const move = await this.#moveOf(route);
    const leftMs = this.#graceLeft(move);
    const [x, said] = await askBoth(this.#parts, route, []);
    const y = said.state === 'UNKNOWN' ? ((await this.#replicaLeft(route, alternate)) ?? said) : said;
    const silent = [
      ...(x.state === 'UNKNOWN' ? [hosts[0]!] : []),
      ...(y.state === 'UNKNOWN' ? [hosts[1]!] : []),
    ];
    if (silent.length > 0) return { do: 'retry', hosts, why: whySilent(...silent) };
    if (!owns(x.state) || owns(y.state)) return this.#settle(route);
    const isLeft = y.state === 'NONE' || y.state === 'FAULTED';
    if (isLeft && alternate.replicas.length > 0) return this.#purgeReplicas(route, alternate);
    if (y.state === 'FAULTED') return REST;
    if (y.state === 'NONE') return this.#prune(route);
    const isKept = y.state === 'SEALED' || y.replica !== null;
    // Other volumes are on the move from there, and their changes are told since snapshots of this one.
    if (isKept && (await this.#parts.bases.isNeeded(route.volume)))
      return { do: 'wait', milliseconds: this.#parts.settings.copyStallMs, hosts: [], why: null };
    if (isKept && leftMs > 0) return { do: 'wait', milliseconds: leftMs, hosts: [], why: null };
    if (y.state === 'SEALED' && y.released === null) return this.#fence(route, y);
    return this.#purge(route, { x, y, alternate });
  }

  /** A former owner that came back from a backup of its time as a replica, and was readmitted: it says nothing that counts, and is there. */
  async #replicaLeft({ volume }: Route, { primary, storeId }: Place): Promise<CellAnswer | null> {
    const answer = await askHost(this.#parts, primary, { volume, seqs: [] });
    return answer?.replica && answer.storeId === storeId ? answer : null;
  }

  /** Whose end was not noted by whoever led then is noted now. */
  async #moveOf(route: Route): Promise<MoveRecord | null> {
    const { store, clock } = this.#parts;
    const move = await store.get('move', route.volume);
    if (!move || move.ended !== null) return move;
    const ended = endedRecord(move, route, timeOf(clock));
    await store.put([{ kind: 'move', key: route.volume, value: ended }]);
    return ended;
  }

  #graceLeft(move: MoveRecord | null): number {
    if (move?.ended == null) return 0;
    return Date.parse(move.ended) + this.#parts.settings.graceMs - this.#parts.clock.now().clockMs;
  }

  /** The table says who owns it. */
  async #settle({ volume }: Route): Promise<Next> {
    await this.#parts.operations.runHeld(volume, { kind: 'settle' }, 'coordinator');
    return AGAIN;
  }

  async #fence({ volume, epoch, alternate }: Route, y: CellAnswer): Promise<Next> {
    const releasedTo = Math.max(epoch, y.epoch + 1);
    return this.#command(volume, alternate!.primary, { do: 'fence', releasedTo });
  }

  async #purge(
    { volume }: Route,
    { x, y, alternate }: { x: CellAnswer; y: CellAnswer; alternate: Place },
  ): Promise<Next> {
    let has = precedes(y.lineageHead, x);
    if (has === null) {
      const answer = await this.#parts.hosts.probe(
        // The owner has answered already: it is asked for one more id.
        (await this.#parts.book.route(volume))!.active.primary,
        { volume, seqs: [y.lineageHead!.seq] },
        this.#parts.settings.probeMs,
      );
      has = answer && precedes(y.lineageHead, answer);
    }
    if (has === true) return this.#command(volume, alternate.primary, { do: 'purge' });
    this.#parts.log.warn(
      { event: 'copy-not-purged', volume, host: alternate.primary },
      'a copy has a snapshot that the owner is not known to have: it is kept',
    );
    const why = {
      because: `Host ${alternate.primary} has a snapshot that the owner is not known to have, so its copy is kept.`,
      hint: 'Compare both sides with `cellblock route show NAME --explain`.',
    };
    return { do: 'wait', milliseconds: this.#parts.settings.copyStallMs, hosts: [], why };
  }

  /** Before the place is: the route names them no more then. */
  async #purgeReplicas({ volume }: Route, { primary, replicas }: Place): Promise<Next> {
    for (const host of replicas) {
      const answer = await askHost(this.#parts, host, { volume, seqs: [] });
      if (!answer) return { do: 'retry', hosts: [host], why: whySilent(host) };
      if (answer.state !== 'NONE') return this.#command(volume, host, { do: 'purge' });
    }
    return this.#change(volume, primary, (alternate) => ({ ...alternate, replicas: [] }));
  }

  async #prune({ volume, alternate }: Route): Promise<Next> {
    return this.#change(volume, alternate!.primary, () => null);
  }

  async #change(volume: string, primary: string, change: (alternate: Place) => Place | null): Promise<Next> {
    await this.#parts.book.change(volume, (route) =>
      route.journal === null && route.alternate?.primary === primary
        ? { ...route, alternate: change(route.alternate) }
        : null,
    );
    return AGAIN;
  }

  async #command(
    volume: string,
    host: string,
    command: { do: 'purge' } | { do: 'fence'; releasedTo: number },
  ): Promise<Next> {
    const { hosts, settings } = this.#parts;
    const outcome = hosts.isConnected(host)
      ? await hosts.command(host, { volume, command }, settings.commandMs)
      : ({ kind: 'silent' } as const);
    if (outcome.kind === 'done') return AGAIN;
    return { do: 'retry', hosts: [host], why: whyNotDone(host, command.do, outcome) };
  }
}
