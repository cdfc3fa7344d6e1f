// Checks the extents files on disk against what records name.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { systemCode } from '../../base/errors.js';
import { extentsPath } from '../../model/entities.js';
import type { Findings } from './findings.js';
import { reasonOf } from './findings.js';
import type { StoreImage } from './image.js';
import type { NamedFile } from './windows.js';

export interface ExtentsCheck {
  directory: string;
  image: StoreImage;
  named: ReadonlyMap<number, NamedFile>;
  /** Not every record could be read: what seems unneeded may be needed. */
  incomplete: boolean;
  /** Of a running agent: files made or removed since the metadata was looked at are nobody's fault. */
  knownNow: ((file: number) => boolean) | null;
}

export async function checkExtents(check: ExtentsCheck, findings: Findings): Promise<void> {
  const { directory, image, knownNow } = check;
  for (const number of image.files.keys()) {
    const bytes = await lengthOf(directory, number, findings);
    if (bytes === 'unreadable' || (knownNow && !knownNow(number))) continue;
    checkFile(number, bytes, check, findings);
  }
  try {
    for (const name of await readdir(join(directory, 'extents'))) {
      const number = /^[1-9]\d{0,14}$/.test(name) ? Number(name) : null;
      if (number === null)
        findings.add('extents-stranger', `There is ${JSON.stringify(name)} among the extents files.`);
      else if (!image.files.has(number) && !check.incomplete && !knownNow?.(number)) {
        findings.add('extents-orphan', `The file ${extentsPath(number)} is not known.`);
      }
    }
  } catch (error) {
    findings.add('extents-unreadable', `The extents files cannot be listed: ${reasonOf(error)}.`);
  }
}

/** Null: the file is not there. */
async function lengthOf(
  directory: string,
  number: number,
  findings: Findings,
): Promise<bigint | null | 'unreadable'> {
  try {
    return (await stat(join(directory, extentsPath(number)), { bigint: true })).size;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    findings.add(
      'extents-unreadable',
      `The file ${extentsPath(number)} cannot be looked at: ${reasonOf(error)}.`,
    );
    return 'unreadable';
  }
}

function checkFile(
  number: number,
  bytes: bigint | null,
  { image, named, incomplete }: ExtentsCheck,
  findings: Findings,
): void {
  const needed = named.get(number)?.endBytes ?? 0n;
  if (bytes === null && needed > 0n) {
    findings.add(
      'extents-missing',
      `The file ${extentsPath(number)} is not there; records name blocks up to byte ${needed}.`,
    );
  } else if (bytes !== null && bytes < needed) {
    findings.add(
      'extents-short',
      `The file ${extentsPath(number)} has ${bytes} bytes; records name blocks up to byte ${needed}.`,
    );
  }
  const { container, state } = image.files.get(number)!;
  const isNamed = (named.get(number)?.places.size ?? 0) > 0;
  if (!incomplete && state === 'live' && !isNamed && !image.containers.has(container)) {
    findings.add(
      'extents-unneeded',
      `The file ${extentsPath(number)} belongs to volume ${container}, which is gone.`,
    );
  }
}
