// Connects the control API's questions about the inside of the store to the operations that answer them.

import { differencePage } from '../agent/difference.js';
import type { CheckReport, CheckWatcher, Inspection, StoreSpace } from '../agent/inspection.js';
import type { CheckOptions, CheckResult } from '../operations/check.js';
import { checkStore } from '../operations/check.js';
import type { Operations } from '../operations/operations.js';
import { storeUsage } from '../operations/usage.js';

export function inspectionOf(operations: Operations): Inspection {
  return {
    diff: (question) => differencePage(operations, question),
    space: () => storeSpace(operations),
    check: (watcher) => check(operations, watcher),
  };
}

/** What was written up to now counts: open volumes bring it to LevelDB first. */
async function storeSpace(operations: Operations): Promise<StoreSpace> {
  const { catalog, devices, rounds, meta, options, space } = operations.parts;
  for (const device of devices.all()) {
    if (device.view || device.failed) continue;
    await devices.mutexOf(device.container).run(async () => {
      if (devices.byHandle(device.handle) === device && !device.failed) await rounds.run(device);
    });
  }
  const { volumes, snapshots, fileSystem } = await storeUsage(catalog, {
    directory: options.directory,
    windowBytes: meta.windowBytes,
    reserveBytes: space.reserveBytes,
  });
  return { volumes, snapshots, fileSystem };
}

async function check({ parts }: Operations, watcher: CheckWatcher): Promise<CheckReport> {
  const { options, queue, catalog } = parts;
  const isKnownFile = (number: number): boolean => catalog.files.has(number);
  return checkReport(
    await checkStore({ directory: options.directory, queue, isKnownFile }, checkOptions(watcher)),
  );
}

export function checkOptions(watcher: CheckWatcher): CheckOptions {
  return {
    signal: watcher.signal,
    onProgress: (records) => watcher.onProgress(records, null),
    onFinding: ({ severity, code, message }) => watcher.onProblem({ severity, code, message }),
  };
}

export function checkReport({ clean, findings, counts }: CheckResult): CheckReport {
  const problems = findings.map(({ severity, code, message }) => ({ severity, code, message }));
  return { clean, problems, recordsSeen: counts.records };
}
