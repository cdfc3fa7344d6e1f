// The records of what a copy brings: the puller's side of lineages (CopyHost), and which copies may be begun at all.
//
// Invariants: a snapshot joins the lineage in the group that lists it; what is complete is judged and durable before anybody is told of it.

import { CellblockError } from '../../base/errors.js';
import type { Catalog, Change } from '../../catalog/catalog.js';
import type { HostRecord, Judgement } from '../../model/cell/host-record.js';
import { judge, replicated } from '../../model/cell/host-record.js';
import { type Head, sameHead } from '../../model/cell/route.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { SaidOutcome } from '../../protocol/client.js';
import type { Digest, Pull, SnapshotFacts } from '../../protocol/exchange.js';
import type { CopyHost } from '../copy/treaty.js';
import type { CoordinatorLink } from './coordinator-link.js';
import type { HiddenSnapshots } from './hidden-snapshots.js';
import type { Lineages } from './lineages.js';
import type { Serial } from './serial.js';
import { untilKnown } from './until-known.js';

interface Completed {
  move: string | null;
  through: Head;
  lineageHead: Head | null;
}

export class Receiving implements CopyHost {
  readonly #catalog: Catalog;
  readonly #lineages: Lineages;
  readonly #hidden: HiddenSnapshots;
  readonly #serial: Serial;
  readonly #link: CoordinatorLink;

  constructor(collaborators: {
    catalog: Catalog;
    lineages: Lineages;
    hidden: HiddenSnapshots;
    serial: Serial;
    link: CoordinatorLink;
  }) {
    this.#catalog = collaborators.catalog;
    this.#lineages = collaborators.lineages;
    this.#hidden = collaborators.hidden;
    this.#serial = collaborators.serial;
    this.#link = collaborators.link;
  }

  /** Why the copy may not be begun, or need not be; null: it is to be. */
  async judgePull(volume: string, { move, through }: Pull): Promise<SaidOutcome | null> {
    await this.#catalog.barrier();
    const record = this.#lineages.of(volume)?.record ?? null;
    if (!record || (record.state !== 'RECEIVING' && record.state !== 'STAGED'))
      return refuse('WRONG_STATE', `a volume that is ${record?.state ?? 'NONE'} here receives nothing`);
    if (move === null ? !record.replica : record.move?.id !== move)
      return refuse('OTHER_MOVE', `move ${record.move?.id ?? 'none'} is under way`);
    if (record.state === 'RECEIVING') return null;
    return through && sameHead(record.move?.completeThrough ?? null, through)
      ? { kind: 'done', head: record.head }
      : refuse('WRONG_STATE', 'the copy is complete, and was not told to go on');
  }

  containerOf(volume: string): Container | null {
    return this.#lineages.containerOf(volume);
  }

  adopt(volume: string, container: Container, change: Change): void {
    this.#lineages.note(change, this.#require(volume), { container: container.id });
  }

  arrived(volume: string, { id, seq, hidden, deletedBefore = [] }: SnapshotFacts, change: Change): void {
    this.#require(volume);
    if (hidden) this.#lineages.hide(change, volume, [id]);
    else for (const one of [...deletedBefore, { id, seq }]) this.#lineages.append(change, volume, one);
  }

  snapshot(id: string): Snapshot | null {
    return this.#catalog.snapshots.get(id) ?? null;
  }

  async complete(volume: string, { move, through, lineageHead }: Completed): Promise<void> {
    const record = await this.#serial.run(volume, async () => {
      const noted = await untilKnown(this.#catalog, () =>
        this.#completed(volume, { move, through, lineageHead }),
      );
      await this.#hidden.tidy(volume);
      return noted;
    });
    this.#link.event({ name: 'staged', record, move, through, message: '' });
  }

  async #completed(volume: string, what: Completed): Promise<HostRecord> {
    await this.#catalog.barrier();
    const before = this.#lineages.of(volume)?.record ?? null;
    const next = judgedCompletion(volume, before, what);
    const { id } = what.through;
    if (!this.#catalog.snapshots.has(id)) throw refused(`the snapshot ${id} is not here`);
    if (next === before) return next;
    const change = this.#catalog.change();
    this.#lineages.note(change, next);
    await change.commit();
    return next;
  }

  failed(
    volume: string,
    { move, code, message }: { move: string | null; code: string; message: string },
  ): void {
    const record = this.#lineages.of(volume)?.record;
    if (record)
      this.#link.event({ name: 'copy-failed', record, move, through: null, message: `${code}: ${message}` });
  }

  progress(
    volume: string,
    { move, done, total }: { move: string | null; done: bigint; total: bigint | null },
  ): void {
    this.#link.progress({
      volume,
      move,
      stage: 'copy',
      done: Number(done),
      total: total === null ? null : Number(total),
    });
  }

  digestOf(volume: string, of: { host: string; snapshot: string; since: string | null }): Promise<Digest> {
    return this.#link.digestOf(volume, of);
  }

  /** `copy-refused`: the volume was deleted, say, and whoever copies it has not heard yet. */
  #require(volume: string): HostRecord {
    const record = this.#lineages.of(volume)?.record ?? null;
    if (record && (record.state === 'RECEIVING' || record.state === 'STAGED')) return record;
    throw refused(`a volume that is ${record?.state ?? 'NONE'} here receives nothing`);
  }
}

function judgedCompletion(volume: string, before: HostRecord | null, what: Completed): HostRecord {
  const { move, through, lineageHead } = what;
  const judged: Judgement =
    move === null && before
      ? replicated(before, lineageHead)
      : judge(volume, before, { do: 'staged', move: move ?? '', through, lineageHead });
  if (!judged.ok) throw refused(judged.because);
  return judged.already ? before! : judged.next;
}

function refuse(refusal: 'WRONG_STATE' | 'OTHER_MOVE', because: string): SaidOutcome {
  return { kind: 'refused', refusal, because };
}

function refused(because: string): CellblockError {
  return new CellblockError('copy-refused', `The copy does not go on: ${because}.`, {
    hint: 'Begin it again if it is still wanted.',
  });
}
