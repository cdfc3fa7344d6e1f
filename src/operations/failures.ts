// A container whose write-back failed while it was open (D8): what counts of it goes into LevelDB at once, without its data plane;
// then it is read on from there, read-only, until `volume repair`.

import type { Catalog } from '../catalog/catalog.js';
import type { Container } from '../model/entities.js';
import { planReplay } from '../model/replay.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { errnoName } from './plane-client.js';
import { knownLine, LineReplay, setApplied } from './recover.js';
import type { Logger } from './types.js';

const RETRY_MS = 5000;

export class Failures {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    log: Logger,
    options: { blocksPerWindow: number },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
    this.#blocksPerWindow = options.blocksPerWindow;
  }

  async failed(record: RecordOf<'failed'>): Promise<void> {
    const device = this.#devices.byHandle(record.handle);
    const container = device && this.#catalog.containers.get(device.container);
    if (!device || !container) return;
    device.failed = true;
    const facts = { volume: container.name, errno: errnoName(record.error) };
    this.#log.error(
      facts,
      'a volume failed: its data could not be written back; it is read-only until it is repaired',
    );
    try {
      // Under the mutex: a round or a cut that is under way ends (with an error) before.
      await this.#devices.mutexOf(container.id).run(() => this.#keepWhatCounts(record, device, container));
    } catch (error) {
      this.#log.error(
        { err: error, ...facts },
        'what counts of a failed volume is not in LevelDB yet; it is tried again',
      );
      setTimeout(() => void this.failed(record), RETRY_MS).unref();
    }
  }

  async #keepWhatCounts(record: RecordOf<'failed'>, device: Device, container: Container): Promise<void> {
    // Deleted while this waited for the mutex: its line may be gone, and nothing of it may come back.
    if (this.#devices.byHandle(record.handle) !== device) return;
    container.failure ??= {
      at: new Date().toISOString(),
      error: errnoName(record.error),
      after: record.after,
    };
    await this.#catalog.change().container(container).commit();
    const counting = record.entries.filter(({ position }) => position <= record.after);
    const plan = planReplay(counting, (line) => knownLine(this.#catalog, line), { sameIncarnation: true });
    const line = this.#catalog.lines.get(device.line)!;
    await new LineReplay(this.#catalog, line, this.#blocksPerWindow).run(plan.changes.get(line.id) ?? []);
    await setApplied(this.#catalog, line.id, record.position);
    this.#client.plane.reopen(device.handle, record.position);
    device.settledBelow = device.version;
  }
}
