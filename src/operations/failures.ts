// A container whose write-back failed while it was open (D8): what counts of it goes into LevelDB at once, without its data plane;
// then it is read on from there, read-only, until `volume repair`. While LevelDB cannot take it, reads of the volume are answered
// EIO (what LevelDB holds may be older than what counts), and it is tried again, later and later.

import type { Catalog } from '../catalog/catalog.js';
import type { Container } from '../model/entities.js';
import { planReplay } from '../model/replay.js';
import type { Device, Devices } from './devices.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { errnoName } from './plane-client.js';
import { knownLine, LineReplay, setApplied } from './recover.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';

const FIRST_RETRY_MS = 5000;
const LONGEST_RETRY_MS = 60_000;
/** Requests of the volume wait this long for LevelDB, if it does not answer at all. */
const PATIENCE_MS = 10_000;

interface FailedDevice {
  record: RecordOf<'failed'>;
  device: Device;
  container: Container;
}

export class Failures {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;
  readonly #retries = new Set<NodeJS.Timeout>();
  #stopped = false;

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
    await this.#try({ record, device, container }, 1);
  }

  /** From now on nothing is tried again. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#retries) clearTimeout(timer);
  }

  async #try(failure: FailedDevice, attempt: number): Promise<void> {
    const { record, device, container } = failure;
    const { plane } = this.#client;
    const impatience = setTimeout(() => plane.refuseReads(device.handle), PATIENCE_MS);
    impatience.unref();
    try {
      // Under the mutex: a round or a cut that is under way ends (with an error) before.
      await this.#devices.mutexOf(container.id).run(() => this.#keepWhatCounts(failure, attempt));
      if (attempt > 1)
        this.#log.info({ volume: container.name }, 'what counts of a failed volume is in LevelDB now');
    } catch (error) {
      plane.refuseReads(device.handle);
      const retryMs = Math.min(FIRST_RETRY_MS * 2 ** (attempt - 1), LONGEST_RETRY_MS);
      this.#log.error(
        { ...trouble(error, attempt), volume: container.name, errno: errnoName(record.error), retryMs },
        'what counts of a failed volume is not in LevelDB yet; its reads are answered EIO, and it is tried again',
      );
      this.#later(failure, attempt + 1, retryMs);
    } finally {
      clearTimeout(impatience);
    }
  }

  #later(failure: FailedDevice, attempt: number, retryMs: number): void {
    if (this.#stopped) return;
    const timer = setTimeout(() => {
      this.#retries.delete(timer);
      if (this.#devices.byHandle(failure.device.handle) === failure.device) void this.#try(failure, attempt);
    }, retryMs);
    timer.unref();
    this.#retries.add(timer);
  }

  async #keepWhatCounts({ record, device, container }: FailedDevice, attempt: number): Promise<void> {
    // Deleted while this waited for the mutex: its line may be gone, and nothing of it may come back.
    if (this.#devices.byHandle(record.handle) !== device) return;
    container.failure ??= {
      at: new Date().toISOString(),
      error: errnoName(record.error),
      after: record.after,
    };
    // The first attempt's group stays queued whatever the answer.
    if (attempt === 1) await this.#catalog.change().container(container).commit();
    else await this.#catalog.barrier();
    const counting = record.entries.filter(({ position }) => position <= record.after);
    const plan = planReplay(counting, (line) => knownLine(this.#catalog, line), { sameIncarnation: true });
    const line = this.#catalog.lines.get(device.line)!;
    await new LineReplay(this.#catalog, line, this.#blocksPerWindow).run(plan.changes.get(line.id) ?? []);
    await setApplied(this.#catalog, line.id, record.position);
    this.#client.plane.reopen(device.handle, record.position);
    device.settledBelow = device.version;
  }
}
