// Whoever keeps the records of lineages, as small as it can be: in memory, but changed in the groups that copies hand it, and what it was told.

import type { Change } from '../../src/catalog/catalog.js';
import type { Head } from '../../src/model/cell/route.js';
import type { Container, Snapshot } from '../../src/model/entities.js';
import type { CopyHost } from '../../src/operations/copy/treaty.js';
import type { Operations } from '../../src/operations/operations.js';
import type { Digest, SnapshotFacts } from '../../src/protocol/exchange.js';

type Told =
  | { event: 'complete'; move: string | null; through: Head; lineageHead: Head | null }
  | { event: 'failed'; move: string | null; code: string; message: string };

export class TestCopyHost implements CopyHost {
  /** Names of containers, by the volumes they hold; outlives the agent. */
  readonly #names: Map<string, string>;
  readonly #operations: () => Operations;
  readonly told: Told[] = [];
  readonly arrivals: string[] = [];
  readonly progressed: { done: bigint; total: bigint | null }[] = [];
  askDigest: (what: { snapshot: string; since: string | null }) => Promise<Digest>;
  #wake: () => void = () => undefined;

  constructor(
    operations: () => Operations,
    askDigest: TestCopyHost['askDigest'],
    names = new Map<string, string>(),
  ) {
    this.#operations = operations;
    this.askDigest = askDigest;
    this.#names = names;
  }

  containerOf(volume: string): Container | null {
    const name = this.#names.get(volume);
    return (name !== undefined && this.#operations().parts.catalog.containerNamed(name)) || null;
  }

  adopt(volume: string, container: Container, _change: Change): void {
    this.#names.set(volume, container.name);
  }

  /** It was here before. */
  has(volume: string, name: string): void {
    this.#names.set(volume, name);
  }

  arrived(_volume: string, facts: SnapshotFacts, _change: Change): void {
    this.arrivals.push(facts.id);
  }

  snapshot(id: string): Snapshot | null {
    return this.#operations().parts.catalog.snapshots.get(id) ?? null;
  }

  async complete(
    _volume: string,
    what: { move: string | null; through: Head; lineageHead: Head | null },
  ): Promise<void> {
    this.#tell({ event: 'complete', ...what });
  }

  failed(_volume: string, what: { move: string | null; code: string; message: string }): void {
    this.#tell({ event: 'failed', ...what });
  }

  progress(_volume: string, { done, total }: { done: bigint; total: bigint | null }): void {
    this.progressed.push({ done, total });
  }

  digestOf(_volume: string, what: { snapshot: string; since: string | null }): Promise<Digest> {
    return this.askDigest(what);
  }

  /** The next thing that it is told of the end of a copy. */
  async end(): Promise<Told> {
    while (this.told.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.told.shift()!;
  }

  #tell(told: Told): void {
    this.told.push(told);
    this.#wake();
  }
}
