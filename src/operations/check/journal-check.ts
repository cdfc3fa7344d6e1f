// Checks the journal of a store against its metadata. While an agent writes to the ring only the header is looked at.

import type { FileHandle } from 'node:fs/promises';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

import { systemCode } from '../../base/errors.js';
import { liveNumbers } from '../../model/chain.js';
import { fileOfSlot } from '../../model/slot.js';
import { blocksPerWindow } from '../../model/units.js';
import type { Findings } from './findings.js';
import { reasonOf } from './findings.js';
import type { StoreImage } from './image.js';
import type { JournalHeader, SeenEntry } from './journal-file.js';
import { JOURNAL_FORMAT, readJournalEntries, readJournalHeader } from './journal-file.js';

export async function checkJournal(
  directory: string,
  image: StoreImage,
  findings: Findings,
  mode: { running: boolean },
): Promise<{ entries: bigint }> {
  let file: FileHandle;
  try {
    file = await open(join(directory, 'journal'), 'r');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT')
      findings.add('journal-unreadable', `The journal cannot be opened: ${reasonOf(error)}.`);
    else if (!image.clean && image.lines.size > 0)
      findings.add('journal-missing', `There is no file ${join(directory, 'journal')}.`);
    return { entries: 0n };
  }
  try {
    const header = await checkHeader(file, image, findings);
    if (!header || header.clean || mode.running) return { entries: 0n };
    let entries = 0n;
    for await (const some of readJournalEntries(file, header)) {
      for (const entry of some) checkEntry(entry, image, findings);
      entries += BigInt(some.length);
    }
    return { entries };
  } catch (error) {
    findings.add('journal-unreadable', `The journal cannot be read: ${reasonOf(error)}.`);
    return { entries: 0n };
  } finally {
    await file.close();
  }
}

async function checkHeader(
  file: FileHandle,
  image: StoreImage,
  findings: Findings,
): Promise<JournalHeader | null> {
  const read = await readJournalHeader(file);
  if ('header' in read) {
    const { storeId } = read.header;
    if (image.storeId === null || image.storeId === storeId) return read.header;
    findings.add('journal-foreign', `The journal belongs to store ${storeId}, not ${image.storeId}.`);
  } else if ('newer' in read) {
    findings.add(
      'journal-newer',
      `The journal has format ${read.newer}; ${JOURNAL_FORMAT} is the newest known.`,
    );
  } else if ('damaged' in read) {
    findings.add('journal-damaged', `The journal is damaged: ${read.damaged}.`);
  } else if (!image.clean && image.lines.size > 0) {
    // Made anew at the next start, as if it was not there.
    findings.add('journal-missing', 'The journal has no header.');
  }
  return null;
}

function checkEntry(entry: SeenEntry, image: StoreImage, findings: Findings): void {
  if (entry.kind === 'cut') {
    for (const { line } of entry.members) checkKnown(entry, line, image, findings);
    return;
  }
  const line = checkKnown(entry, entry.line, image, findings);
  if (!line || entry.kind === 'commit' || entry.kind === 'failed') return;
  const who = called(entry, entry.line);
  const toReplay = entry.position > (image.applied.get(line.id) ?? -1n);
  const current = line.versions.find(({ state }) => state === 'current')?.version;
  if (
    toReplay &&
    current !== undefined &&
    entry.version <= current &&
    !liveNumbers(line).includes(entry.version)
  ) {
    findings.add('journal-version-dead', `${who} is of version ${entry.version}, which is not live.`);
  }
  if (entry.kind === 'cut-off') {
    if (entry.end !== null && entry.end <= entry.first)
      findings.add('journal-entry-invalid', `${who} cuts off nothing.`);
    return;
  }
  if (entry.count === 0 || entry.start + entry.count > blocksPerWindow(image.windowBytes)) {
    findings.add(
      'journal-entry-invalid',
      `${who} names blocks ${entry.start} to ${entry.start + entry.count}.`,
    );
  }
  if (entry.kind !== 'own' || !toReplay) return;
  const file = image.files.get(fileOfSlot(entry.slot));
  if (file?.container !== line.container) {
    findings.add(
      'journal-entry-invalid',
      `${who} names file ${fileOfSlot(entry.slot)}, which is not of its volume.`,
    );
  }
}

/** Lines that are gone are no fault: their entries are skipped. Ones that never were are. */
function checkKnown(
  entry: SeenEntry,
  id: number,
  image: StoreImage,
  findings: Findings,
): ReturnType<StoreImage['lines']['get']> {
  if (image.counters?.line !== undefined && id >= image.counters.line) {
    findings.add('journal-line-invalid', `${called(entry, id)} names a line that was never made.`);
  }
  return image.lines.get(id);
}

function called(entry: SeenEntry, line: number): string {
  return `The ${entry.kind} entry at position ${entry.position} of line ${line}`;
}
