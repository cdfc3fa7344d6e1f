// What udev names devices by: for each that is attached a file with what it is of, which systemd/udev/60-cellblock.rules reads to make
// /dev/cellblock/NAME. A name is a comfort: where it cannot be given a warning says so, and the device is attached all the same.
//
// Invariant: a file is called what the kernel calls the connected device (its backend identifier, which no other has), so a file that was
// left by a death names nothing.

import { mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../../base/errors.js';
import type { Logger } from '../types.js';
import type { KernelFiles } from './kernel-files.js';

/** As udev does with labels of file systems: anything but these and what is not ASCII is written \\xHH. */
const REPLACED = /[^0-9A-Za-z#+.:=@_\u0080-\u{10ffff}-]/gu;

export function encodeDeviceName(name: string): string {
  return name.replace(REPLACED, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

export class DeviceNames {
  readonly #directory: string | null;
  readonly #files: KernelFiles;
  readonly #log: Logger;

  /** `directory`: of the files; null: nothing is named. */
  constructor(directory: string | null, files: KernelFiles, log: Logger) {
    this.#directory = directory;
    this.#files = files;
    this.#log = log;
  }

  /** `index`: of the device, when it is connected already: udev looks at it anew. */
  async give(identifier: string, name: string, index: number | null): Promise<void> {
    await this.#try('a device has no name under /dev/cellblock', index, async (directory) => {
      await mkdir(directory, { recursive: true, mode: 0o755 });
      const file = join(directory, identifier);
      // udev may read at any time, and reads whole names only.
      await writeFile(`${file}.new`, `CELLBLOCK_NAME=${encodeDeviceName(name)}\n`, { mode: 0o644 });
      await rename(`${file}.new`, file);
    });
  }

  /** `index`: of the device, when it may have been connected. */
  async take(identifier: string, index: number | null): Promise<void> {
    await this.#try(
      'a device that is detached may still have a name under /dev/cellblock',
      index,
      (directory) => rm(join(directory, identifier), { force: true }),
    );
  }

  /** Those of earlier runs that name nothing: all but `identifiers`. */
  async keepOnly(identifiers: ReadonlySet<string>): Promise<void> {
    await this.#try('names of devices of earlier runs may be left', null, async (directory) => {
      for (const file of await filesIn(directory))
        if (!identifiers.has(file)) await rm(join(directory, file), { force: true });
    });
  }

  async #try(what: string, index: number | null, work: (directory: string) => Promise<void>): Promise<void> {
    if (this.#directory === null) return;
    try {
      await work(this.#directory);
      if (index !== null) await this.#announce(index);
    } catch (error) {
      this.#log.warn({ err: error, device: index === null ? undefined : `nbd${index}` }, what);
    }
  }

  /** The device before its partitions, which take the name over from it. */
  async #announce(index: number): Promise<void> {
    for (const path of await this.#files.ueventsOf(index)) {
      const file = await open(path, 'r+');
      await file.write('change').finally(() => file.close());
    }
  }
}

async function filesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
