// What the agent knows of its own installation, gathered when it is asked.

import type { OperationsStatus } from '../operations/types.js';
import type { Diagnosis } from './diagnosis-schema.js';
import { processFacts } from './process-facts.js';
import type { Settings } from './settings.js';
import { settingsFiles } from './settings-files.js';
import type { Trend } from './space-trend.js';
import { storePlace } from './store-place.js';
import { withoutCredentials } from './without-credentials.js';

const JOURNAL_CELL_BYTES = 64n;

export interface DiagnosisSource {
  settings: Settings;
  version: string;
  /** Absolute; null: it was started without one. */
  configuration: string | null;
  keepsClients: boolean;
  /** ISO 8601. */
  started: string;
  status(): OperationsStatus;
  trend(): Trend | null;
  /** Null: no coordinator has been heard. */
  clockDifferenceMs(): number | null;
}

export async function diagnose(source: DiagnosisSource): Promise<Diagnosis> {
  const { settings, version, configuration, keepsClients, started } = source;
  const { plane } = source.status();
  const { coordinator } = settings;
  return {
    program: {
      version,
      node: process.versions.node,
      engine: plane.engine,
      engineWanted: settings.engine.kind,
      configuration,
      started,
      keepsClients,
      maxConnections: settings.nbd.maxConnections,
    },
    process: { pid: process.pid, ...(await processFacts('self')) },
    store: { ...(await storePlace(settings.store.directory)), trend: source.trend() },
    journal: {
      sizeBytes: plane.journalCells * JOURNAL_CELL_BYTES,
      usedBytes: plane.journalUsedCells * JOURNAL_CELL_BYTES,
    },
    cache: { limitBytes: settings.store.cacheBytes, residentBytes: plane.residentBytes },
    inFlightBytes: plane.inFlightBytes,
    files: await settingsFiles(settings),
    coordinator: coordinator && {
      addresses: coordinator.addresses.map(withoutCredentials),
      clockDifferenceMs: source.clockDifferenceMs(),
    },
  };
}
