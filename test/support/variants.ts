// The ways a daemon can do its disk work. A test that says "whatever the engine" runs once for each.
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Configuration } from './daemon.js';
import { tooLongForQuick } from './effort.js';

export interface Variant {
  name: string;
  configuration: Configuration;
  /** Why this run leaves it out, or false. */
  skip: string | false;
}

/** Some file systems (an older tmpfs) refuse O_DIRECT. */
function directRefused(): string | false {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'cellblock-direct-'));
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT;
    closeSync(openSync(path.join(directory, 'probe'), flags));
    return false;
  } catch {
    return `the file system of ${os.tmpdir()} refuses O_DIRECT`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const noDirect = directRefused();

/** What a daemon does when nobody says anything. Where io_uring is forbidden, automatic is workers as well. */
export const usual: Variant = { name: 'automatic engine, page cache', configuration: {}, skip: false };

/** A quick run takes the one that differs in both. */
export const others: Variant[] = [
  {
    name: 'automatic engine, O_DIRECT',
    configuration: { store: { direct: true } },
    skip: tooLongForQuick || noDirect,
  },
  {
    name: 'workers, page cache',
    configuration: { engine: { kind: 'workers' } },
    skip: tooLongForQuick,
  },
  {
    name: 'workers, O_DIRECT',
    configuration: { engine: { kind: 'workers' }, store: { direct: true } },
    skip: noDirect,
  },
];
