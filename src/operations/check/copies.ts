// Checks the records of copies that are under way: the version that each is to complete is there, and somebody goes on with it.
//
// What a copy's changes are told since may be gone: then it begins anew with that snapshot, and nothing is lost.

import type { CopyRecord } from '../../model/copy.js';
import type { Findings } from './findings.js';
import type { StoreImage } from './image.js';

export function checkCopies(image: StoreImage, findings: Findings): void {
  for (const copy of image.copies.values()) {
    const missing = whatIsMissing(copy, image);
    const who = `The copy of volume ${copy.volume}`;
    if (missing !== null) findings.add('copy-target-missing', `${who} ${missing}.`);
    else if (!isReceived(copy.volume, image))
      findings.add('copy-unneeded', `${who} is that of a volume that is not received here.`);
  }
}

/** Null: nothing is. */
function whatIsMissing(
  { volume, container, line, version, snapshot }: CopyRecord,
  image: StoreImage,
): string | null {
  if (image.lineages.get(volume)?.container !== container)
    return `writes into volume ${container}, which is not the one its record names`;
  if (image.containers.get(container)?.state !== 'live')
    return `writes into volume ${container}, which is not there`;
  const versions = image.lines.get(line)?.container === container ? image.lines.get(line)!.versions : [];
  const target = versions.find((live) => live.version === version);
  const arrived = image.snapshots.get(snapshot);
  if (arrived && (arrived.line !== line || arrived.version !== version))
    return `brings snapshot ${snapshot}, which is here already, elsewhere`;
  // Cut, and not yet told to whoever keeps the lineage: it is when the copy goes on.
  if (target?.state === 'listed' && target.snapshot === snapshot) return null;
  if (target?.state !== 'current' || image.containers.get(container)!.line !== line)
    return `writes version ${version} of map ${line}, which is not the current one of volume ${container}`;
  return null;
}

function isReceived(volume: string, image: StoreImage): boolean {
  const record = image.lineages.get(volume)?.record;
  const state = record?.faultedFrom ?? record?.state;
  return state === 'RECEIVING' || state === 'STAGED';
}
