// Hosts as people look at them; emptied, and readmitted after they came back older than they were.

import { CellblockError } from '../base/errors.js';
import { type HostAnswer, precedes } from '../model/cell/answer.js';
import type { HostCommand } from '../model/cell/host-record.js';
import { awaitsPromotion, type Route } from '../model/cell/route.js';
import type { Arguments } from '../protocol/verbs.js';
import { askHost } from './asking.js';
import type { Bases } from './bases.js';
import type { VolumeFacts } from './facts.js';
import type { Highest } from './highest.js';
import { allHosts, connected, hostNamed, hostsForCopy } from './hosts-view.js';
import type { Locks } from './locks.js';
import { type MoveAsked, startMoves } from './many-moves.js';
import type { MoveVerbs } from './move-verbs.js';
import type { Operations } from './operations.js';
import type { Ports } from './ports.js';
import { hostSilent } from './refusals.js';
import type { DrainResult, HostDetails, HostSummary, ReadmitResult } from './results.js';
import { hostsOf, type RouteBook } from './route-book.js';
import type { HostRecord } from './store.js';
import type { Strays } from './strays.js';
import type { UnfinishedGroups } from './unfinished-groups.js';

export type HostVerbsParts = Ports & {
  book: RouteBook;
  highest: Highest;
  locks: Locks;
  bases: Bases;
  strays: Strays;
  unfinished: UnfinishedGroups;
  moves: MoveVerbs;
  operations: Operations;
  wake: (volume: string) => void;
};

export class HostVerbs {
  readonly #parts: HostVerbsParts;

  constructor(parts: HostVerbsParts) {
    this.#parts = parts;
  }

  async list(): Promise<{ hosts: HostSummary[] }> {
    const { book } = this.#parts;
    const primaries = new Map<string, number>();
    const copies = new Map<string, number>();
    for await (const route of book.all())
      for (const host of hostsOf(route)) {
        const counts = route.active.primary === host ? primaries : copies;
        counts.set(host, (counts.get(host) ?? 0) + 1);
      }
    const hosts = await allHosts(this.#parts);
    return {
      hosts: hosts.map((record) =>
        this.#summary(record, {
          primaryOf: primaries.get(record.host) ?? 0,
          copies: copies.get(record.host) ?? 0,
        }),
      ),
    };
  }

  async show({ host }: Arguments<'host-show'>): Promise<HostDetails> {
    const record = await hostNamed(this.#parts, host);
    const volumes: HostDetails['volumes'] = [];
    for await (const route of this.#parts.book.all()) {
      const part = partOf(route, host);
      if (part) volumes.push({ name: route.name, id: route.volume, part, epoch: route.epoch });
    }
    const primaryOf = volumes.filter(({ part }) => part === 'primary').length;
    return {
      ...this.#summary(record, { primaryOf, copies: volumes.length - primaryOf }),
      volumes,
      bases: await this.#basesAt(host),
      strays: await this.#parts.strays.at(host),
    };
  }

  /** New copies go elsewhere from now on; what it is the primary of is moved to other hosts of its cell. */
  async drain(
    { host, dryRun, bases = 'refuse' }: Arguments<'host-drain'>,
    askedBy: string,
  ): Promise<DrainResult> {
    const { store, book, moves } = this.#parts;
    const record = await hostNamed(this.#parts, host);
    if (!dryRun) await store.put([{ kind: 'host', key: host, value: { ...record, draining: true } }]);
    const asked: MoveAsked[] = [];
    for await (const route of book.all())
      if (route.active.primary === host && route.status === 'open') asked.push({ route, cell: record.cell });
    const together = await moves.together();
    // Said once for all of them.
    if (
      asked.length > 0 &&
      (await hostsForCopy(this.#parts, record.cell, together.counts, [host])).length === 0
    )
      throw new CellblockError(
        'no-host-for-copy',
        `Cell ${record.cell} has no other host that takes copies.`,
        {
          hint: 'Move its volumes to another cell with `cellblock cell split` or `cellblock move`.',
          facts: { host, cell: record.cell },
        },
      );
    return { host, moves: await startMoves(moves, asked, { dryRun, bases, askedBy, together }) };
  }

  /** An operator says that what the host has now is what there is. Volumes of which others have more are not served by that. */
  async readmit({ host }: Arguments<'host-readmit'>): Promise<ReadmitResult> {
    const { store, unfinished, highest, log } = this.#parts;
    const { returned = false, ...record } = await hostNamed(this.#parts, host);
    if (!record.regressed)
      throw new CellblockError('host-not-regressed', `Host ${host} is not held back.`, {
        hint: `Run \`cellblock host show ${host}\`.`,
        facts: { host },
      });
    const hello = connected(this.#parts, host);
    // Before anything is readmitted: what is provisional there goes with the word, and may be decided.
    await unfinished.settleAt(host);
    const result: ReadmitResult = { host, readmitted: [], faulted: [], missing: [] };
    const now: VolumeFacts[] = [];
    for (const facts of hello.volumes) {
      const because = await this.#readmitVolume(host, facts, returned);
      // It stays regressed, or nobody could ask for the rest of it again.
      if (because === SILENT) throw hostSilent(host, this.#parts.settings);
      if (because === null) result.readmitted.push(facts.id);
      else result.faulted.push({ volume: facts.id, because });
      now.push(facts);
    }
    const missing: string[] = [];
    for await (const { name, volume, ...places } of this.#parts.book.all())
      if (hostsOf(places).includes(host) && !now.some(({ id }) => id === volume)) {
        result.missing.push(name);
        missing.push(volume);
      }
    const { storeId, boot } = hello;
    await store.put([
      { kind: 'host', key: host, value: { ...record, storeId, boot, regressed: false } },
      ...highest.reset(host, now),
    ]);
    // What was left alone because of it may go on.
    for (const id of [...now.map((facts) => facts.id), ...missing]) this.#parts.wake(id);
    await Promise.all(result.faulted.map(({ volume }) => this.#settle(host, volume)));
    log.warn({ event: 'host-readmitted', host }, 'an operator has readmitted a host');
    return result;
  }

  /** Null: it is readmitted; else why not. */
  async #readmitVolume(host: string, { id, epoch }: VolumeFacts, returned: boolean): Promise<string | null> {
    const { locks, book, highest } = this.#parts;
    return locks.run(id, async () => {
      const route = await book.route(id);
      if (!route || route.active.primary !== host)
        return (
          (await this.#sealFirst(host, { id, epoch }, { route, returned })) ??
          this.#command(host, id, { do: 'readmit' })
        );
      const known = route.lineageHead;
      const answer = await askHost(this.#parts, host, { volume: id, seqs: known ? [known.seq] : [] });
      if (!answer) return SILENT;
      if (
        answer.epoch < route.epoch &&
        !waitsForPromotion(route, answer, highest.of(host).get(id)?.epoch ?? 0)
      )
        return `its epoch is ${answer.epoch}, that of the volume ${route.epoch}`;
      if (precedes(known, answer) !== true) return `it is without snapshot ${known?.seq}, which was taken`;
      return this.#command(host, id, { do: 'readmit' });
    });
  }

  /** What stays faulted is for the table, or for an operator, who is told so when he looks. Tried once: others may be silent. */
  async #settle(host: string, volume: string): Promise<void> {
    const { book, operations } = this.#parts;
    const route = await book.route(volume);
    if (route?.active.primary !== host || route.status !== 'open') return;
    await operations.run(route, { kind: 'settle' }, 'coordinator', 0).catch(() => undefined);
  }

  /** What another host owns by now is never served here again; nor what has lost its route since the host was forgotten: it was deleted, or given up. */
  async #sealFirst(
    host: string,
    { id, epoch }: Pick<VolumeFacts, 'id' | 'epoch'>,
    { route, returned }: { route: Route | null; returned: boolean },
  ): Promise<string | null> {
    if (!route && !returned) return null;
    const answer = await askHost(this.#parts, host, { volume: id, seqs: [] });
    if (!answer) return SILENT;
    if (answer.state !== 'FAULTED' && answer.state !== 'ACTIVE' && answer.state !== 'OUTGOING') return null;
    if (answer.replica || answer.move?.role === 'destination') return null;
    const releasedTo = Math.max(route?.epoch ?? 0, epoch + 1);
    return this.#command(host, id, { do: 'fence', releasedTo });
  }

  async #command(host: string, volume: string, command: HostCommand): Promise<string | null> {
    const { hosts, settings } = this.#parts;
    const outcome = await hosts.command(host, { volume, command }, settings.commandMs);
    if (outcome.kind === 'done') return null;
    if (outcome.kind === 'silent') return SILENT;
    return outcome.kind === 'refused' ? outcome.because : outcome.message;
  }

  async #basesAt(host: string): Promise<HostDetails['bases']> {
    const { bases, book, clock } = this.#parts;
    return Promise.all(
      bases.at(host).map(async (record) => {
        const { isUnderWay, keptMs } = await bases.need(record);
        const routes = await Promise.all(record.needed.map(({ volume }) => book.route(volume)));
        const keptUntil = new Date(clock.now().clockMs + keptMs).toISOString();
        return {
          name: record.name,
          id: record.volume,
          seq: record.through.seq,
          complete: record.complete,
          for: [...new Set(record.needed.map(({ volume }, at) => routes[at]?.name ?? volume))],
          keptUntil: isUnderWay || keptMs === 0 ? null : keptUntil,
        };
      }),
    );
  }

  #summary(
    { host, cell, regressed, draining, storeId, boot, nbd }: HostRecord,
    counts: { primaryOf: number; copies: number },
  ): HostSummary {
    const isConnected = this.#parts.hosts.isConnected(host);
    return { host, cell, connected: isConnected, regressed, draining, storeId, boot, nbd, ...counts };
  }
}

const SILENT = 'it does not answer';

/** A replica that an operator has put in the place of its primary, and that has not been told yet: it gets the epoch with the word. `seen`: the highest it ever had. */
function waitsForPromotion({ active }: Route, { replica }: HostAnswer, seen: number): boolean {
  return replica !== null && awaitsPromotion(active) && seen < active.epoch;
}

function partOf({ active, alternate }: Route, host: string): HostDetails['volumes'][number]['part'] | null {
  if (active.primary === host) return 'primary';
  if (active.replicas.includes(host)) return 'replica';
  return alternate?.primary === host || alternate?.replicas.includes(host) ? 'alternate' : null;
}
