// Two hosts in one process: real stores with the real data plane, the one served over NBD, the other copying from it.

import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Container, Snapshot } from '../../src/model/entities.js';
import { type COPY_DEFAULTS, VolumeCopies } from '../../src/operations/copy/volume-copies.js';
import { Operations } from '../../src/operations/operations.js';
import type { OperationsOptions } from '../../src/operations/types.js';
import { loadPlane } from '../../src/plane/addon.js';
import type { Pull, SnapshotFacts } from '../../src/protocol/exchange.js';
import { TestCopyHost } from './copy-host.js';
import { quiet } from './store-harness.js';
import { testIdentity } from './test-identity.js';

export const WINDOW = 64 << 10;
const READ_BYTES = 16n << 20n;

/** A store and what it is called by others. */
export class CopyEnd {
  readonly directory: string;
  operations!: Operations;
  copies!: VolumeCopies;
  host!: TestCopyHost;
  readonly #options: Partial<OperationsOptions>;
  readonly #names = new Map<string, string>();
  #starts = 0;

  constructor(options: Partial<OperationsOptions> = {}) {
    this.directory = mkdtempSync(join(tmpdir(), 'cellblock-copy-'));
    this.#options = options;
  }

  async start(
    source: CopyEnd | null,
    options: Partial<typeof COPY_DEFAULTS> = {},
    operationsOptions: Partial<OperationsOptions> = {},
  ): Promise<void> {
    this.operations = await Operations.open({
      directory: join(this.directory, 'store'),
      plane: loadPlane(),
      log: quiet,
      windowBytes: WINDOW,
      journalBytes: 1n << 20n,
      reserveBytes: 0n,
      ballastBytes: 0,
      idleCloseMs: 1_000_000,
      identity: () => testIdentity(),
      ...this.#options,
      ...operationsOptions,
    });
    this.host = new TestCopyHost(
      () => this.operations,
      (what) => source!.copies.digest('', what),
      this.#names,
    );
    const { parts } = this.operations;
    this.copies = new VolumeCopies(
      { parts, host: this.host, log: quiet },
      { firstPauseMs: 1, longestPauseMs: 20, ...options },
    );
    this.#starts++;
  }

  /** As `kill -9`: nothing is put in order, and what a copy still awaits never comes. */
  async kill(): Promise<void> {
    const { plane, parts } = this.operations;
    plane.close(false);
    await parts.queue.stop();
    await parts.level.close();
  }

  async end(): Promise<void> {
    await this.copies.stopAll();
    await this.operations.close();
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Serves NBD on a socket of its own. */
  listen(): string {
    return this.operations.listen(`unix:${join(this.directory, `nbd-${this.#starts}.sock`)}`);
  }

  container(name: string): Container {
    return this.operations.parts.catalog.containerNamed(name)!;
  }

  async write(name: string, offset: number, data: Uint8Array): Promise<void> {
    await this.#using(name, (handle) => this.operations.parts.client.write(handle, BigInt(offset), data));
  }

  async zero(name: string, offset: number, bytes: number): Promise<void> {
    await this.#using(name, (handle) =>
      this.operations.parts.client.zero(handle, BigInt(offset), BigInt(bytes)),
    );
  }

  async #using(name: string, work: (handle: number) => Promise<void>): Promise<void> {
    const { devices } = this.operations.parts;
    const device = await devices.acquire(this.container(name));
    try {
      await work(device.handle);
    } finally {
      devices.release(device);
    }
  }

  /** All of a snapshot. */
  async bytesOf(snapshot: Snapshot): Promise<Buffer> {
    const { devices, client } = this.operations.parts;
    const view = await devices.acquireView(snapshot);
    try {
      const parts: Uint8Array[] = [];
      for (let at = 0n; at < snapshot.sizeBytes; at += READ_BYTES) {
        const left = snapshot.sizeBytes - at;
        parts.push(await client.read(view.handle, at, Number(left < READ_BYTES ? left : READ_BYTES)));
      }
      return Buffer.concat(parts);
    } finally {
      devices.release(view);
    }
  }

  snapshotsOf(name: string): Snapshot[] {
    return this.operations.parts.catalog.snapshotsOf(this.container(name));
  }

  /** What a pull of the volume says, as a coordinator would. `volumeIds`: of the containers by name. */
  describe(name: string, volumeIds: ReadonlyMap<string, string> = new Map()): Pull['description'] {
    const container = this.container(name);
    const snapshots = this.snapshotsOf(name);
    return {
      name,
      kind: container.kind,
      sizeBytes: container.sizeBytes.toString(),
      attributes: container.attributes as Record<string, unknown> | null,
      description: container.description,
      base: null,
      allow: container.allow,
      snapshots: snapshots.map((snapshot, index) => this.#facts(snapshot, index, volumeIds)),
      more: false,
    };
  }

  #facts(snapshot: Snapshot, index: number, volumeIds: ReadonlyMap<string, string>): SnapshotFacts {
    const { id, name, sizeBytes, created, expires } = snapshot;
    const base = this.#baseOf(snapshot);
    const owner = base && this.operations.parts.catalog.containers.get(base.container)!.name;
    const volume = owner === null ? undefined : volumeIds.get(owner);
    return {
      id,
      seq: index + 1,
      hidden: false,
      name,
      sizeBytes: sizeBytes.toString(),
      created,
      expires,
      base: base && volume !== undefined ? { volume, snapshot: base.id } : null,
    };
  }

  /** The snapshot that its map continues, when that is one. */
  #baseOf({ line: id, version }: Snapshot): Snapshot | null {
    const { lines, snapshots } = this.operations.parts.catalog;
    const line = lines.get(id)!;
    const before = line.versions.findLast((one) => one.version < version);
    if (before) return before.snapshot === null ? null : snapshots.get(before.snapshot)!;
    if (!line.base) return null;
    const based = lines.get(line.base.line)!.versions.find((one) => one.version === line.base!.version);
    return based?.snapshot ? snapshots.get(based.snapshot)! : null;
  }
}

export function freshVolume(): string {
  return randomBytes(16).toString('hex');
}

export interface PullWishes {
  description: Pull['description'];
  addresses: string[];
  bytesPerSecond?: number | null;
  through?: Pull['through'];
}

export function pullOf({ description, addresses, bytesPerSecond = null, through = null }: PullWishes): Pull {
  return {
    move: null,
    from: { host: 'one', cell: 'east', addresses },
    description,
    through,
    bytesPerSecond,
  };
}
