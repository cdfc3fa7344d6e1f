// At start, before anybody is served: what an earlier run left between the cut of a snapshot, which is durable in the journal, and the
// record that belongs to it, which is not. Nobody has heard of such a snapshot.
//
// Invariant: afterwards each snapshot in the current line of a volume that this host owns is in its lineage, is one of its hidden ones, or
// was there before the volume had a lineage; and what a copy had not been told of is not there.

import type { Catalog } from '../../catalog/catalog.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { Lineage } from '../../model/lineage.js';
import { isHiddenName } from '../../model/names.js';
import type { Snapshots } from '../snapshots.js';
import type { Logger } from '../types.js';
import type { Commands } from './commands.js';
import { isOwner, type Lineages } from './lineages.js';

export class Reconciling {
  readonly #catalog: Catalog;
  readonly #snapshots: Snapshots;
  readonly #lineages: Lineages;
  readonly #commands: Commands;
  readonly #log: Logger;

  constructor(collaborators: {
    catalog: Catalog;
    snapshots: Snapshots;
    lineages: Lineages;
    commands: Commands;
    log: Logger;
  }) {
    this.#catalog = collaborators.catalog;
    this.#snapshots = collaborators.snapshots;
    this.#lineages = collaborators.lineages;
    this.#commands = collaborators.commands;
    this.#log = collaborators.log;
  }

  async run(): Promise<void> {
    for (const lineage of this.#lineages.all()) {
      const container = this.#lineages.containerOf(lineage.record.volume);
      if (container) await this.#reconcile(lineage, container);
      else if (lineage.container !== null) await this.#lost(lineage);
    }
    for (const volume of this.#catalog.lineages.volumesWithIds()) {
      const record = this.#lineages.of(volume)?.record;
      if (!record || record.state === 'GONE') await this.#commands.forgetIds(volume);
    }
  }

  async #reconcile(lineage: Lineage, container: Container): Promise<void> {
    const { record } = lineage;
    const strays = this.#straysOf(lineage, container);
    const joining = isOwner(record) ? strays.filter(({ name }) => !isHiddenName(name)) : [];
    for (const snapshot of joining) await this.#join(record.volume, snapshot);
    const others = strays.filter((snapshot) => !joining.includes(snapshot));
    if (others.length === 0) return;
    await this.#snapshots.remove(others);
    this.#log.info(
      { volume: container.name, snapshots: others.map(({ id }) => id) },
      'snapshots are removed that a stop had interrupted',
    );
  }

  /** In the current line, behind everything that is known: a line that a sync has ended holds its undo point, which is no part of it. */
  #straysOf({ record, hidden }: Lineage, container: Container): Snapshot[] {
    const line = this.#catalog.lines.get(container.line)!;
    const strays: Snapshot[] = [];
    for (const { snapshot: id } of [...line.versions].reverse()) {
      if (id === null) continue;
      if (hidden.includes(id) || this.#lineages.seqOf(record.volume, id) !== null) break;
      strays.push(this.#catalog.snapshots.get(id)!);
    }
    return strays.reverse();
  }

  /** It was cut, and listed by the recovery: it is the head. */
  async #join(volume: string, snapshot: Snapshot): Promise<void> {
    const { record } = this.#lineages.of(volume)!;
    const head = { id: snapshot.id, seq: (record.head?.seq ?? 0) + 1 };
    const change = this.#catalog.change();
    this.#lineages.note(change, { ...record, head });
    this.#lineages.append(change, volume, head);
    await change.commit();
    this.#log.info(
      { volume, snapshot: snapshot.name, seq: head.seq },
      'a snapshot that a stop had interrupted counts',
    );
  }

  /** Cannot be, but by damage: it is not served, and says so. */
  async #lost({ record }: Lineage): Promise<void> {
    this.#log.error({ volume: record.volume }, 'the record of a volume names a container that is not there');
    await this.#commands.fault(record.volume);
  }
}
