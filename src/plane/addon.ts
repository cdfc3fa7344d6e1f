// Finds the addon and answers the data plane it implements. The only file that knows where a build puts it.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { CellblockError } from '../base/errors.js';
import type { Plane } from './treaty.js';

const ADDON = 'cellblock.node';

interface Addon {
  NativePlane: new () => Plane;
}

/** The directory that holds package.json, above this file wherever it was compiled to. */
function packageRoot(): string {
  let at = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(at, 'package.json'))) {
    const up = dirname(at);
    if (up === at) break;
    at = up;
  }
  return at;
}

function isAddon(loaded: unknown): loaded is Addon {
  return typeof loaded === 'object' && loaded !== null && typeof (loaded as Addon).NativePlane === 'function';
}

/** Loads the addon: a local build first, else the prebuilt one of this platform. Throws `addon-missing`. */
export function loadPlane(): Plane {
  const root = packageRoot();
  const places = [
    join(root, 'build', 'Release', ADDON),
    join(root, 'prebuilt', `${process.platform}-${process.arch}`, ADDON),
  ];
  const found = places.find((place) => existsSync(place));
  if (!found) throw missing(`it is neither at ${places.join(' nor at ')}`);
  let loaded: unknown;
  try {
    loaded = createRequire(import.meta.url)(found);
  } catch (error) {
    throw missing(error instanceof Error ? error.message : String(error), error);
  }
  if (!isAddon(loaded)) throw missing(`${found} is not the addon of this version`);
  return new loaded.NativePlane();
}

function missing(why: string, cause?: unknown): CellblockError {
  return new CellblockError('addon-missing', `The native part of cellblock cannot be loaded: ${why}.`, {
    hint: 'Run `npm install` in the directory of cellblock; it builds the native part.',
    cause,
  });
}
