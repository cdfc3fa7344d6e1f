// Between whoever keeps the records of lineages and the puller, which brings snapshots from other hosts.

import type { Change } from '../../catalog/catalog.js';
import type { Head } from '../../model/cell/route.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { Digest, Pull, SnapshotFacts } from '../../protocol/exchange.js';

/** What the puller needs of whoever keeps the records of lineages. */
export interface CopyHost {
  /** The container that receives the volume; null: none yet. */
  containerOf(volume: string): Container | null;
  /** In the same change that makes it: this container holds the volume from now on. Nobody is served. */
  adopt(volume: string, container: Container, change: Change): void;
  /** In the same change that lists it: the snapshot is here and belongs to the lineage. */
  arrived(volume: string, facts: SnapshotFacts, change: Change): void;
  /** The snapshots of any volume with an id that are here (lineage ids), for the cheapest base; null: it is not here. */
  snapshot(id: string): Snapshot | null;
  /** Everything through this is here and stable: judged, durable and told when it resolves. */
  complete(
    volume: string,
    what: { move: string | null; through: Head; lineageHead: Head | null },
  ): Promise<void>;
  /** It goes on only when it is told to again. */
  failed(volume: string, what: { move: string | null; code: string; message: string }): void;
  progress(volume: string, what: { move: string | null; done: bigint; total: bigint | null }): void;
  /** The digest as the source has it, by the coordinator. */
  digestOf(volume: string, what: { host: string; snapshot: string; since: string | null }): Promise<Digest>;
}

export interface Copies {
  /** Begins, or goes on with, the copy as this says; resolves when it is begun. */
  pull(volume: string, pull: Pull): Promise<void>;
  /** Stops what is under way of this volume; resolves when nothing of it writes any more. */
  stop(volume: string): Promise<void>;
  digest(volume: string, what: { snapshot: string; since: string | null }): Promise<Digest>;
}
