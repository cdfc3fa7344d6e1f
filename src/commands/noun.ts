// Volumes and files as the command line speaks of them: the same verbs, with what is a file's own.

import type { Attributes, FileDetails, VolumeDetails } from '../agent/api-schema.js';
import { type CaptureSource, captureAttributes, newAttributes } from './file-attributes.js';
import { formatBytes, formatTime } from './format.js';
import { settingFacts } from './volume-settings.js';

export interface Noun {
  kind: 'volume' | 'file';
  title: string;
  /** In paths of the API. */
  collection: 'volumes' | 'files';
  /** The command that lists them. */
  look: string;
  description: string;
  sizeExample: string;
  size(bytes: bigint): string;
  /** What a new one gets besides name and size. */
  extras(): { attributes?: Attributes };
  /** The same when it is made from a file: what that has. */
  extrasOf(source: CaptureSource): Promise<{ attributes?: Attributes }>;
  /** Rows for `show`. */
  facts(details: VolumeDetails | FileDetails): [string, string][];
}

export const VOLUME: Noun = {
  kind: 'volume',
  title: 'Volume',
  collection: 'volumes',
  look: '`cellblock volume list`',
  description: 'virtual disks',
  sizeExample: '10G',
  size: formatBytes,
  extras: () => ({}),
  extrasOf: async () => ({}),
  facts: (details) => settingFacts(details as VolumeDetails),
};

export const FILE: Noun = {
  kind: 'file',
  title: 'File',
  collection: 'files',
  look: '`cellblock file list`',
  description: 'containers of an exact length in bytes, with owner, mode and extended attributes',
  sizeExample: '4097',
  size: (bytes) => `${bytes} ${bytes === 1n ? 'byte' : 'bytes'}`,
  extras: () => ({ attributes: newAttributes() }),
  extrasOf: async (source) => ({ attributes: await captureAttributes(source) }),
  facts(details) {
    const { attributes } = details as FileDetails;
    return attributes === null ? [] : attributeFacts(attributes);
  },
};

function attributeFacts({ owner, group, mode, xattrs, birth, modified }: Attributes): [string, string][] {
  return [
    ['Owner', `${owner}:${group}`],
    ['Mode', mode.toString(8).padStart(4, '0')],
    ['Attributes', Object.keys(xattrs).join(', ') || '-'],
    ['Born', formatTime(birth)],
    ['Modified', formatTime(modified)],
  ];
}
