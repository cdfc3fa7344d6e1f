// Checks what the records of volumes, lines, snapshots and files say about one another.

import { liveNumbers } from '../../model/chain.js';
import { type Container, currentVersion, type Line, type Snapshot } from '../../model/entities.js';
import { checkName, isHiddenName } from '../../model/names.js';
import { checkSize } from '../../model/sizes.js';
import { fileOfSlot } from '../../model/slot.js';
import { isUnfinished } from '../../model/sync.js';
import { checkCopies } from './copies.js';
import type { Findings } from './findings.js';
import { reasonOf } from './findings.js';
import type { CounterName, StoreImage } from './image.js';
import { checkLineages } from './lineages.js';

export function checkRelations(image: StoreImage, findings: Findings): void {
  checkCounters(image, findings);
  checkContainers(image, findings);
  for (const line of image.lines.values()) checkLine(line, image, findings);
  checkCycles(image, findings);
  checkSnapshots(image, findings);
  checkSyncs(image, findings);
  checkVms(image, findings);
  checkLineages(image, findings);
  checkCopies(image, findings);
  for (const id of image.applied.keys()) {
    if (!image.lines.has(id))
      findings.add('applied-unknown', `A position is kept for line ${id}, which is not there.`);
  }
  for (const slot of image.punches.keys()) {
    if (!image.files.has(fileOfSlot(slot)))
      findings.add('punch-file-unknown', `A pending punch names file ${fileOfSlot(slot)}.`);
  }
}

function checkCounters(image: StoreImage, findings: Findings): void {
  const used: Record<CounterName, Iterable<number>> = {
    container: image.containers.keys(),
    line: image.lines.keys(),
    file: image.files.keys(),
  };
  for (const name of Object.keys(used) as CounterName[]) {
    let highest = 0;
    for (const id of used[name]) highest = Math.max(highest, id);
    const counter = image.counters?.[name] ?? 0;
    if (highest > 0 && highest >= counter) {
      findings.add(
        'counter-behind',
        `The counter of ${name} numbers is ${counter}, and ${highest} is in use.`,
      );
    }
  }
}

function checkContainers(image: StoreImage, findings: Findings): void {
  const names = new Map<string, number>();
  const writable = new Set<number>();
  for (const { container, state } of image.files.values()) if (state === 'live') writable.add(container);
  for (const container of image.containers.values()) {
    checkContainer(container, image, findings);
    if (container.state !== 'live') continue;
    const taken = names.get(container.name);
    if (taken !== undefined) {
      findings.add(
        'container-name-taken',
        `The volumes ${taken} and ${container.id} are both named ${JSON.stringify(container.name)}.`,
      );
    }
    names.set(container.name, container.id);
    if (!writable.has(container.id))
      findings.add('container-without-file', `${called(container)} has no extents file.`);
  }
}

function checkContainer(container: Container, image: StoreImage, findings: Findings): void {
  const who = called(container);
  try {
    checkName(container.name, 'volume');
    checkSize(container.sizeBytes);
    const { shrinkingTo } = container;
    if (shrinkingTo !== null && (shrinkingTo <= 0n || shrinkingTo > container.sizeBytes)) {
      throw new Error(`It is being shrunk to ${shrinkingTo} bytes`);
    }
  } catch (error) {
    findings.add('container-invalid', `${who}: ${reasonOf(error)}.`);
  }
  const line = image.lines.get(container.line);
  if (!line || line.container !== container.id) {
    // The line a container being deleted was written to may be gone while others of its lines are still being freed.
    if (container.state === 'live')
      findings.add('container-line-missing', `${who} names line ${container.line}, which is not its own.`);
    return;
  }
  const current = line.versions.filter(({ state }) => state === 'current').length;
  if (container.state === 'live' && current !== 1) {
    findings.add('container-state-wrong', `${who} has ${current} current versions.`);
  }
  const kept = line.versions.find(({ state }) => state !== 'deleted');
  if (container.state === 'deleting' && kept) {
    findings.add('container-state-wrong', `${who} is being deleted, but its version ${kept.version} is not.`);
  }
}

function checkLine(line: Line, image: StoreImage, findings: Findings): void {
  const who = `Line ${line.id}`;
  if (!image.containers.has(line.container)) {
    findings.add('line-container-missing', `${who} belongs to volume ${line.container}, which is not there.`);
  }
  if (line.versions.length === 0) findings.add('line-empty', `${who} has no versions.`);
  line.versions.forEach(({ version, state }, at) => {
    if (line.versions[at + 1]?.version === version)
      findings.add('version-order-wrong', `${who} has version ${version} twice.`);
    if (state === 'current' && at < line.versions.length - 1) {
      findings.add('version-order-wrong', `${who} has versions after its current one, ${version}.`);
    }
  });
  if (line.base) {
    const base = image.lines.get(line.base.line);
    if (!base?.versions.some(({ version }) => version === line.base!.version)) {
      findings.add(
        'base-missing',
        `${who} continues version ${line.base.version} of line ${line.base.line}, which is not live.`,
      );
    }
  }
  checkCutOffs(line, findings);
}

function checkCutOffs(line: Line, findings: Findings): void {
  const live = new Set(liveNumbers(line));
  const sorted = [...line.cutOffs].sort(
    (a, b) => a.version - b.version || (a.first < b.first ? -1 : a.first > b.first ? 1 : 0),
  );
  sorted.forEach(({ first, end, version }, at) => {
    const range = `[${first}, ${end ?? 'open'}) of version ${version} in line ${line.id}`;
    if (end !== null && end <= first) findings.add('cut-off-malformed', `The cut-off ${range} is empty.`);
    if (!live.has(version))
      findings.add('cut-off-malformed', `The cut-off ${range} names a version that is not live.`);
    const next = sorted[at + 1];
    if (next?.version === version && (end === null || next.first < end)) {
      findings.add('cut-off-malformed', `The cut-off ${range} overlaps the next one.`);
    }
  });
}

/** Members of VMs are there, and each is of one VM. */
function checkVms(image: StoreImage, findings: Findings): void {
  const members = new Map<number, string>();
  for (const { name, members: its } of image.vms.values()) {
    for (const { slot, container } of its) {
      const other = members.get(container);
      if (image.containers.get(container)?.state !== 'live' || other !== undefined)
        findings.add(
          'vm-member-missing',
          `Disk ${slot} of the virtual machine ${JSON.stringify(name)} is volume ${container}.`,
        );
      members.set(container, name);
    }
  }
  for (const { id, vm, name } of image.vmSnapshots.values()) {
    if (!image.vms.has(vm))
      findings.add(
        'vm-snapshot-strange',
        `The snapshot ${id} (${JSON.stringify(name)}) is of virtual machine ${vm}.`,
      );
  }
}

/** Both maps of a sync under way are there, and only it leaves two of them open. */
function checkSyncs(image: StoreImage, findings: Findings): void {
  const open = new Set<number>();
  for (const sync of [...image.syncs.values()].filter(isUnfinished)) {
    for (const { container, oldLine, newLine } of sync.members) {
      open.add(oldLine).add(newLine);
      const now = image.containers.get(container)?.line;
      const expected = sync.phase === 'captured' ? oldLine : newLine;
      if (!image.lines.has(oldLine) || now !== expected)
        findings.add(
          'sync-invalid',
          `Sync ${sync.id} is ${sync.phase}, and volume ${container} uses line ${now}.`,
        );
    }
  }
  for (const line of image.lines.values()) {
    const container = image.containers.get(line.container);
    if (container?.state !== 'live' || container.line === line.id || open.has(line.id)) continue;
    if (currentVersion(line) !== null)
      findings.add('line-left-open', `Line ${line.id} of ${called(container)} is not ended.`);
  }
}

/** Every line is walked once: a walk that meets itself is a circle, one that meets an older walk ends there. */
function checkCycles(image: StoreImage, findings: Findings): void {
  const walkOf = new Map<number, number>();
  for (const start of image.lines.keys()) {
    for (let id: number | undefined = start; id !== undefined; id = image.lines.get(id)?.base?.line) {
      const walked = walkOf.get(id);
      if (walked === start) findings.add('base-cycle', `Line ${id} continues itself.`);
      if (walked !== undefined) break;
      walkOf.set(id, start);
    }
  }
}

function checkSnapshots(image: StoreImage, findings: Findings): void {
  const names = new Set<string>();
  for (const snapshot of image.snapshots.values()) {
    checkSnapshot(snapshot, image, findings);
    const name = `${snapshot.container}@${snapshot.name}`;
    if (names.has(name))
      findings.add(
        'snapshot-invalid',
        `Volume ${snapshot.container} has two snapshots ${JSON.stringify(snapshot.name)}.`,
      );
    names.add(name);
  }
}

function checkSnapshot(snapshot: Snapshot, image: StoreImage, findings: Findings): void {
  const who = `Snapshot ${snapshot.id}`;
  try {
    if (!isHiddenName(snapshot.name)) checkName(snapshot.name, 'snapshot');
    checkSize(snapshot.sizeBytes);
    if (!/^[0-9a-f]{32}$/.test(snapshot.id)) throw new Error('Its id is malformed');
  } catch (error) {
    findings.add('snapshot-invalid', `${who}: ${reasonOf(error)}.`);
  }
  const line = image.lines.get(snapshot.line);
  if (!line) findings.add('snapshot-line-missing', `${who} names line ${snapshot.line}, which is not there.`);
  else if (line.container !== snapshot.container) {
    findings.add('snapshot-line-missing', `${who} names line ${snapshot.line}, which is not of its volume.`);
  }
  if (!image.containers.has(snapshot.container)) {
    findings.add('snapshot-line-missing', `${who} names volume ${snapshot.container}, which is not there.`);
  }
}

function called({ id, name }: Container): string {
  return `Volume ${id} (${JSON.stringify(name)})`;
}
