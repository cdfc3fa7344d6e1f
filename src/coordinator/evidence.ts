// Why volumes are, or were, in quarantine. Few ever are: of all others it is known without a reading that there is nothing.
//
// Invariant: every volume of which there is evidence is known here before it is stored. One too many costs a reading, so whoever deletes evidence
// says nothing.

import type { CoordinatorStore, EvidenceRecord } from './store.js';

export class EvidenceBook {
  readonly #store: CoordinatorStore;
  readonly #volumes: Set<string>;

  private constructor(store: CoordinatorStore, volumes: Set<string>) {
    this.#store = store;
    this.#volumes = volumes;
  }

  static async load(store: CoordinatorStore): Promise<EvidenceBook> {
    const kept = await store.list('evidence');
    return new EvidenceBook(store, new Set(kept.map(({ volume }) => volume)));
  }

  async of(volume: string): Promise<EvidenceRecord | null> {
    return this.#volumes.has(volume) ? this.#store.get('evidence', volume) : null;
  }

  keep(record: EvidenceRecord): Promise<void> {
    this.#volumes.add(record.volume);
    return this.#store.put([{ kind: 'evidence', key: record.volume, value: record }]);
  }
}
