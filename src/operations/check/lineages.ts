// Checks the records of volumes of cells: what they name is there, what is hidden is named, and lineages know their ends.

import type { Lineage } from '../../model/lineage.js';
import { isHiddenName } from '../../model/names.js';
import type { Findings } from './findings.js';
import type { StoreImage } from './image.js';

export function checkLineages(image: StoreImage, findings: Findings): void {
  const containers = new Map<number, string>();
  for (const lineage of image.lineages.values()) {
    checkContainer(lineage, image, { containers, findings });
    checkEnds(lineage, image, findings);
  }
  checkHidden(image, findings);
  checkGroups(image, findings);
  for (const volume of image.lineageIds.keys()) {
    const state = image.lineages.get(volume)?.record.state;
    if (state === undefined || state === 'GONE')
      findings.add(
        'lineage-id-strange',
        `The volume ${volume} is ${state ?? 'unknown'}, and its snapshots have ids.`,
      );
  }
}

function checkContainer(
  { record, container }: Lineage,
  image: StoreImage,
  { containers, findings }: { containers: Map<number, string>; findings: Findings },
): void {
  const who = `The volume ${record.volume} (${record.state})`;
  const mustBeThere = record.state !== 'GONE' && record.state !== 'RECEIVING';
  if (container === null) {
    if (mustBeThere) findings.add('lineage-container-missing', `${who} names no volume.`);
    return;
  }
  const other = containers.get(container);
  if (image.containers.get(container)?.state !== 'live')
    findings.add('lineage-container-missing', `${who} names volume ${container}, which is not there.`);
  else if (other !== undefined)
    findings.add('lineage-container-missing', `${who} names volume ${container}, which is that of ${other}.`);
  containers.set(container, record.volume);
}

function checkEnds({ record }: Lineage, image: StoreImage, findings: Findings): void {
  const { volume, head, state, sealedHead, released } = record;
  const who = `The volume ${volume} (${state})`;
  const ids = image.lineageIds.get(volume);
  if (head && ids?.get(head.seq) !== head.id)
    findings.add(
      'lineage-head-unknown',
      `${who} ends with snapshot ${head.id}, and has another id for seq ${head.seq}.`,
    );
  // It could be opened again from that one only.
  if (state === 'SEALED' && released === null && sealedHead && !image.snapshots.has(sealedHead.id))
    findings.add(
      'lineage-head-unknown',
      `${who} was sealed at snapshot ${sealedHead.id}, which is not there.`,
    );
}

function checkHidden(image: StoreImage, findings: Findings): void {
  const named = new Set<string>();
  for (const { record, hidden } of image.lineages.values())
    for (const id of hidden) {
      named.add(id);
      if (!image.snapshots.has(id))
        findings.add(
          'lineage-hidden-strange',
          `The volume ${record.volume} names the hidden snapshot ${id}, which is not there.`,
        );
    }
  for (const { id, name } of image.snapshots.values())
    if (isHiddenName(name) && !named.has(id))
      findings.add('lineage-hidden-strange', `The snapshot ${id} is hidden, and no volume names it.`);
}

function checkGroups(image: StoreImage, findings: Findings): void {
  for (const { id, phase, members } of image.groupCuts.values()) {
    if (phase !== 'cut') continue;
    for (const { volume, snapshot } of members)
      if (!image.snapshots.has(snapshot) || !image.lineages.get(volume)?.hidden.includes(snapshot))
        findings.add(
          'group-cut-strange',
          `The group ${id} names snapshot ${snapshot} of the volume ${volume}.`,
        );
  }
}
