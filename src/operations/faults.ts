// Answers faults: what every line of a device's chain says about a few windows, newest first, from one LevelDB snapshot. A window ends
// with the record that leaves no block of it open, so what is read and handed down does not grow with the versions below.
// Invariant: what is asked (fault-plan.ts) is decided in the same instant as the snapshot is taken; memory is never behind LevelDB
// there, as it is changed first. How it is read (fault-reading.ts) makes no difference to the answer.

import type { Catalog } from '../catalog/catalog.js';
import type { FaultRecord } from '../plane/treaty.js';
import type { Device, Devices } from './devices.js';
import { FaultAnswer } from './fault-answer.js';
import { FaultChains } from './fault-chains.js';
import type { WindowRange } from './fault-plan.js';
import { lookUpVersions, planFault } from './fault-plan.js';
import { FaultReading } from './fault-reading.js';
import type { CursorSource } from './line-cursor.js';
import type { PlaneClient, RecordOf } from './plane-client.js';
import { EIO } from './plane-client.js';
import { trouble } from './trouble.js';
import type { Logger } from './types.js';

const QUIET_MS = 10_000;

/** So many lines are scanned, each by itself, before it is worth knowing which of them wrote the very windows. */
const SCANNED_LINES = 4;

export class Faults {
  readonly #catalog: Catalog;
  readonly #devices: Devices;
  readonly #client: PlaneClient;
  readonly #log: Logger;
  readonly #blocksPerWindow: number;
  readonly #scannedLines: number;
  readonly #chains: FaultChains;
  #failures = 0;
  #quietUntilMs = 0;

  constructor(
    catalog: Catalog,
    devices: Devices,
    client: PlaneClient,
    log: Logger,
    options: { blocksPerWindow: number; scannedLines?: number; longChain?: number },
  ) {
    this.#catalog = catalog;
    this.#devices = devices;
    this.#client = client;
    this.#log = log;
    this.#chains = new FaultChains(catalog, options);
    this.#blocksPerWindow = options.blocksPerWindow;
    this.#scannedLines = options.scannedLines ?? SCANNED_LINES;
  }

  async answer(fault: RecordOf<'fault'>): Promise<void> {
    try {
      const device = this.#devices.byHandle(fault.handle);
      if (!device) throw new Error(`a fault of handle ${fault.handle}, which is not open`);
      const records = await this.#catalog.queue.readSnapshot((level, snapshot) => {
        return this.collect(device, fault, { level, snapshot });
      });
      this.#failures = 0;
      this.#client.faultReply(fault.ticket, records, 0);
    } catch (error) {
      this.#failures++;
      this.#tell(fault, error);
      this.#client.faultReply(fault.ticket, [], EIO);
    }
  }

  /** A client that reads on while the metadata cannot be read must not fill the log. */
  #tell(fault: RecordOf<'fault'>, error: unknown): void {
    const now = performance.now();
    if (this.#failures > 1 && now < this.#quietUntilMs) return;
    this.#quietUntilMs = now + QUIET_MS;
    const { handle, first } = fault;
    this.#log.error(
      { ...trouble(error, this.#failures), handle, window: first.toString(), failures: this.#failures },
      'a fault could not be answered',
    );
  }

  /** @internal What is said about a range of windows: called in the turn in which the snapshot was taken. */
  async collect(device: Device, range: WindowRange, source: CursorSource): Promise<FaultRecord[]> {
    const lines = planFault(this.#chains.linksOf(device, range), range);
    if (lines.length > this.#scannedLines) lookUpVersions(this.#catalog, lines, source);
    for (const { versions } of lines)
      for (const version of versions ?? []) if (version.reading) await version.reading;
    const answer = new FaultAnswer(range, this.#blocksPerWindow);
    await new FaultReading(device, answer, lines, source).run();
    return answer.records();
  }
}
