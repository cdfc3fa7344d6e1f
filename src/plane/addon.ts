// Finds the addon and answers the data plane it implements. The only file that knows where a build puts it.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { CellblockError } from '../base/errors.js';
import type { Plane } from './treaty.js';
import { PLANE_COUNTERS } from './treaty.js';

const ADDON = 'cellblock.node';

/** Bytes of a file: the first data at or behind `offset`, or null when only a hole follows. Moves the offset of `fd`. */
/** Makes a range of a file a hole. Throws with `code`; EOPNOTSUPP: its file system knows none. */
export type PunchHole = (fd: number, offset: bigint, length: bigint) => void;

export type NextExtent = (fd: number, offset: bigint) => { start: bigint; end: bigint } | null;

/** What a program needs that hands the socket of its client over to the agent. */
export interface HandOver {
  /** Sends `descriptor` with the name of the export; answers the connection that ends when the client's does. Throws with `code`. */
  handOver(path: string, exportName: string, descriptor: number): number;
  /** Ends both directions of a socket, for everybody who has it. */
  shutDown(descriptor: number): void;
}

/** What a program tells its service manager, and what it hands on to the next process. All throw with `code`. */
export interface ServiceNotifications {
  /** Lines of sd_notify(3) to the socket at `address`; descriptors stay open here. Waits a few seconds for a manager that is busy. */
  notifyServiceManager(address: string, message: string, descriptors: number[]): void;
  /** Descriptor of a file in memory that nobody can change. */
  sealedFile(name: string, content: Uint8Array): number;
  /** Names a socket as long as it lives, in whatever process; 0n: it is none. */
  socketCookie(descriptor: number): bigint;
}

interface Addon extends HandOver, ServiceNotifications {
  NativePlane: new () => Plane;
  nextExtent: NextExtent;
  punchHole: PunchHole;
  listeningAddress: (descriptor: number) => string;
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

/** Throws `addon-missing`, also when the addon does not keep the treaty. */
export function loadPlane(): Plane {
  const plane = new (loadAddon().NativePlane)();
  const breach = breachOf(plane);
  if (breach !== null) throw missing(breach);
  return plane;
}

/** What of the treaty a data plane that is not open yet can be seen not to keep; null: nothing. */
export function breachOf(plane: Pick<Plane, 'counters'>): string | null {
  const counters = plane.counters() as unknown as Record<string, unknown>;
  const wrong = Object.entries(PLANE_COUNTERS).find(([name, type]) => typeof counters[name] !== type);
  return wrong ? `it does not supply the counter ${wrong[0]}, so it is of another version` : null;
}

/** Finds the data of sparse files. Throws `addon-missing`. */
export function loadNextExtent(): NextExtent {
  const { nextExtent } = loadAddon();
  if (typeof nextExtent !== 'function') throw missing('it is older than this program');
  return nextExtent;
}

/** Throws `addon-missing`. */
export function loadPunchHole(): PunchHole {
  const { punchHole } = loadAddon();
  if (typeof punchHole !== 'function') throw missing('it is older than this program');
  return punchHole;
}

/** Throws `addon-missing`. */
export function loadHandOver(): HandOver {
  const addon = loadAddon();
  if (typeof addon.handOver !== 'function') throw missing('it is older than this program');
  return addon;
}

/** Throws `addon-missing`. */
export function loadServiceNotifications(): ServiceNotifications {
  const addon = loadAddon();
  if (typeof addon.notifyServiceManager !== 'function') throw missing('it is older than this program');
  return addon;
}

/** Address of a listening stream socket, `unix:PATH` or `tcp:HOST:PORT`. Throws an Error whose message says what is wrong with it. */
export function listeningAddress(descriptor: number): string {
  return loadAddon().listeningAddress(descriptor);
}

/** A local build first, else the prebuilt one of this platform. */
function loadAddon(): Addon {
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
  return loaded;
}

function missing(why: string, cause?: unknown): CellblockError {
  return new CellblockError('addon-missing', `The native part of cellblock cannot be loaded: ${why}.`, {
    hint: 'Run `npm install` in the directory of cellblock; it builds the native part.',
    cause,
  });
}
