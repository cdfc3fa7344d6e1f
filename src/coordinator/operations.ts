// Operations on volumes: each is written down before anything of it is sent, driven by the resolver while its volume is held, and its
// outcome is kept. Whoever leads next ends what was not ended.
//
// Invariants: an operation keeps its id until it has ended, so a snapshot is taken once however often it is asked for. One that a host may
// have performed is not forgotten when its time is over: it is settled before anything else is done to its volume.

import type { Operation } from '../model/cell/operation.js';
import type { End } from '../model/cell/resolution.js';
import type { Head, Route } from '../model/cell/route.js';
import { backoffMs } from './backoff.js';
import { type DecisionBook, recordOf } from './decisions.js';
import type { EvidenceBook } from './evidence.js';
import type { Highest } from './highest.js';
import type { Locks } from './locks.js';
import { type Ports, timeOf } from './ports.js';
import { deleted, quarantined, refusalOf } from './refusals.js';
import { type Resolved, type ResolverParts, resolve } from './resolver.js';
import { mayBeStored } from './state-errors.js';
import type { Change, OperationRecord } from './store.js';
import { type Troubles, whyOf } from './troubles.js';

export type OperationsParts = Ports &
  ResolverParts & {
    locks: Locks;
    highest: Highest;
    decisions: DecisionBook;
    evidence: EvidenceBook;
    troubles: Troubles;
    /** Why nothing may be done to this volume now; null: it may. */
    whyHeld: (volume: string) => Promise<Error | null>;
    /** What has to be stored when the owner of a volume has deleted a snapshot. */
    deletedAtOwner: (route: Route, snapshot: { id: string; name: string }) => Change[];
    /** Something is to be done about this volume that nobody waits for. */
    wake: (volume: string) => void;
  };

export interface Performed {
  id: string;
  /** The cell. */
  at: string;
  host: string;
  epoch: number;
  head: Head | null;
  rule: string;
  afterwards: string;
  route: Route;
}

export class Operations {
  readonly #parts: OperationsParts;
  /** What was begun and has not ended, by volume. */
  readonly #unfinished = new Map<string, OperationRecord[]>();
  /** Those of them, by id, that a host may have performed without anybody having heard of it. */
  readonly #maybeDone = new Set<string>();
  /** Volumes whose unfinished operations are being settled. */
  readonly #settling = new Set<string>();

  constructor(parts: OperationsParts) {
    this.#parts = parts;
  }

  /** What another leader, or this one before it was started again, has begun. */
  async takeUp(): Promise<void> {
    for (const record of await this.#parts.store.list('operation')) {
      this.#remember(record);
      this.#maybeDone.add(record.id);
    }
    for (const volume of this.#unfinished.keys()) this.settle(volume);
  }

  unfinished(volume: string): readonly OperationRecord[] {
    return this.#unfinished.get(volume) ?? [];
  }

  async run(route: Route, operation: Operation, askedBy: string, forMs?: number): Promise<Performed> {
    return this.#parts.locks.run(route.volume, () => this.runHeld(route.volume, operation, askedBy, forMs));
  }

  /** By whoever holds the volume. `forMs`: for so long it is tried, once at least. */
  async runHeld(
    volume: string,
    operation: Operation,
    askedBy: string,
    forMs: number = this.#parts.settings.operationMs,
  ): Promise<Performed> {
    const { clock, freshId } = this.#parts;
    const untilMs = clock.now().uptimeMs + forMs;
    const before = await this.#endEarlier(volume, operation, untilMs);
    // Before it is written down: what is refused is not done later, when nobody expects it.
    const held = before ? null : await this.#parts.whyHeld(volume);
    if (held) throw held;
    const record = before ?? { id: freshId(), volume, operation: operation, begun: timeOf(clock), askedBy };
    try {
      if (!before && isWrittenDown(operation)) await this.#writeDown(record);
      return await this.#carryOut(record, untilMs);
    } catch (error) {
      // What is left of it would else be ended by whoever leads next, long after anybody wanted it.
      this.settle(volume);
      throw error;
    }
  }

  async #writeDown(record: OperationRecord): Promise<void> {
    try {
      await this.#parts.store.put([{ kind: 'operation', key: record.id, value: record }]);
    } catch (error) {
      if (mayBeStored(error)) this.#remember(record);
      throw error;
    }
    this.#remember(record);
  }

  /** Ends what is unfinished of a volume, however long it takes; nobody waits for it. */
  settle(volume: string): void {
    if (this.#settling.has(volume) || this.unfinished(volume).length === 0) return;
    this.#settling.add(volume);
    void this.#settleAll(volume).finally(() => this.#settling.delete(volume));
  }

  async #settleAll(volume: string): Promise<void> {
    const { locks, term, log, random, settings, troubles } = this.#parts;
    for (let tries = 1; !term.isOver && this.unfinished(volume).length > 0; tries++) {
      try {
        await locks.run(volume, async () => {
          for (const record of [...this.unfinished(volume)]) await this.#carryOut(record, this.#soon());
        });
      } catch (error) {
        if (term.isOver) return;
        for (const { operation } of this.unfinished(volume))
          troubles.note(volume, operationText(operation), whyOf(error));
        log.warn({ event: 'operation-not-ended', volume, err: error }, 'an operation could not be ended yet');
      }
      if (this.unfinished(volume).length > 0) await term.sleep(backoffMs(settings, tries, random));
    }
  }

  /** One try. */
  #soon(): number {
    return this.#parts.clock.now().uptimeMs;
  }

  /** Gives the one that is the same as this, which is then gone on with. */
  async #endEarlier(
    volume: string,
    operation: Operation,
    untilMs: number,
  ): Promise<OperationRecord | undefined> {
    let same: OperationRecord | undefined;
    for (const record of [...this.unfinished(volume)]) {
      if (isSame(record.operation, operation)) same = record;
      else await this.#carryOut(record, untilMs).catch((error) => this.#throwIfUnfinished(record, error));
    }
    return same;
  }

  /** That an earlier operation has failed is none of the later one's business; that it is not over is. */
  #throwIfUnfinished({ volume, id }: OperationRecord, error: unknown): void {
    this.#parts.term.check();
    if (this.unfinished(volume).some((record) => record.id === id)) throw error;
  }

  async #carryOut(record: OperationRecord, untilMs: number): Promise<Performed> {
    const { settings, whyHeld, settleOwners } = this.#parts;
    const { volume, operation } = record;
    const held = await whyHeld(volume);
    if (held) throw held;
    const route = await settleOwners(volume);
    if (!route) {
      await this.#end(record, []);
      throw deleted(volume);
    }
    const standing = await this.#whyNot(route, operation);
    if (standing) {
      await this.#end(record, []);
      throw standing;
    }
    const resolved = await resolve(this.#parts, route, { operation, untilMs });
    this.#parts.term.check();
    if (resolved.mayBeDone) this.#maybeDone.add(record.id);
    const mayBeDone = resolved.end.result === 'retry' && this.#maybeDone.has(record.id);
    const now = resolved.route ?? route;
    const { end } = resolved;
    if (end.result === 'performed') return this.#performed(record, resolved, now, end);
    if (end.result === 'gone' && operation.kind === 'delete')
      return this.#performed(record, resolved, now, {
        result: 'performed',
        at: now.active.cell,
        head: null,
        rule: 'gone',
        afterwards: 'deleted',
      });
    const decision = await this.#decided(record, resolved, resultText(end, mayBeDone));
    if (mayBeDone) await this.#parts.store.put(decision);
    else await this.#end(record, decision);
    if (operation.kind !== 'settle') this.#parts.wake(volume);
    throw refusalOf(now, operation, { end, mayBeDone, settings });
  }

  /** What the route alone says. */
  async #whyNot(route: Route, operation: Operation): Promise<Error | null> {
    if (route.status === 'quarantined') {
      const evidence = await this.#parts.evidence.of(route.volume);
      return quarantined(route.name, evidence?.trials.at(-2)?.because ?? 'an operator has to decide');
    }
    return route.status === 'gone' && operation.kind !== 'delete' ? deleted(route.name) : null;
  }

  async #performed(
    record: OperationRecord,
    resolved: Resolved,
    route: Route,
    end: Extract<End, { result: 'performed' }>,
  ): Promise<Performed> {
    const { book, highest, wake } = this.#parts;
    const { volume, operation, id } = record;
    // Before the operation is forgotten: else its tombstones would be nobody's.
    const now =
      operation.kind === 'delete'
        ? ((await book.change(volume, (last) =>
            last.status === 'gone' ? null : { ...last, status: 'gone' },
          )) ?? route)
        : route;
    const { primary, epoch } = now.active;
    const raised =
      operation.kind === 'delete' || end.at !== now.active.cell
        ? []
        : highest.raise(primary, [{ id: volume, epoch, head: end.head, state: 'ACTIVE' }]);
    await this.#end(record, [
      ...raised,
      ...(operation.kind === 'snapshot-delete' ? this.#parts.deletedAtOwner(now, operation) : []),
      ...(await this.#decided(record, resolved, `performed at ${end.at}`)),
    ]);
    if (operation.kind !== 'locate' && operation.kind !== 'settle') wake(volume);
    return {
      id,
      at: end.at,
      host: primary,
      epoch,
      head: end.head,
      rule: end.rule,
      afterwards: end.afterwards,
      route: now,
    };
  }

  async #decided(record: OperationRecord, resolved: Resolved, result: string): Promise<Change[]> {
    const { decisions, clock } = this.#parts;
    const { volume, operation } = record;
    if (operation.kind === 'locate') return [];
    const changes: Change[] = [];
    for (const decision of resolved.decisions) {
      const isLast = decision === resolved.decisions.at(-1);
      const about = { volume, at: timeOf(clock), operation: operationText(operation) };
      const became = isLast ? result : 'carried out, and asked again';
      changes.push(...(await decisions.note(recordOf({ ...about, result: became }, decision))));
    }
    return changes;
  }

  async #end({ id, volume, operation }: OperationRecord, changes: Change[]): Promise<void> {
    const gone: Change[] = isWrittenDown(operation) ? [{ kind: 'operation', key: id, value: null }] : [];
    if (gone.length + changes.length > 0) await this.#parts.store.put([...gone, ...changes]);
    this.#maybeDone.delete(id);
    this.#parts.troubles.note(volume, operationText(operation), null);
    const rest = this.unfinished(volume).filter((record) => record.id !== id);
    if (rest.length > 0) this.#unfinished.set(volume, rest);
    else this.#unfinished.delete(volume);
  }

  #remember(record: OperationRecord): void {
    this.#unfinished.set(record.volume, [...this.unfinished(record.volume), record]);
  }
}

/** What changes nothing by itself needs no record: whoever leads next has nothing to end. */
function isWrittenDown({ kind }: Operation): boolean {
  return kind !== 'locate' && kind !== 'settle';
}

/** Asked for again after its time was over. */
function isSame(a: Operation, b: Operation): boolean {
  if (a.kind === 'snapshot') return b.kind === 'snapshot' && a.name === b.name;
  if (a.kind === 'resize') return b.kind === 'resize' && a.sizeBytes === b.sizeBytes;
  if (a.kind === 'snapshot-delete') return b.kind === 'snapshot-delete' && a.id === b.id;
  return a.kind === b.kind;
}

export function operationText(operation: Operation): string {
  if (operation.kind === 'snapshot') return `snapshot ${operation.name}`;
  if (operation.kind === 'snapshot-delete') return `delete snapshot ${operation.name}`;
  return operation.kind === 'resize' ? `resize to ${operation.sizeBytes} bytes` : operation.kind;
}

function resultText(end: Exclude<End, { result: 'performed' }>, mayBeDone: boolean): string {
  switch (end.result) {
    case 'failed':
      return `failed at ${end.at}: ${end.code}`;
    case 'retry':
      return `unavailable: ${end.because}${mayBeDone ? '; it may have been done' : ''}`;
    case 'quarantined':
      return `quarantined: ${end.because}`;
    default:
      return end.result;
  }
}
