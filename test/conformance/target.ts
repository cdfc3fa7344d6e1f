// What the conformance cases are run against, and how: a case is one claim about a server at an address, so the same cases
// judge cellblock and, when asked by environment (see peer.ts), any other server.
import type { Test } from 'tap';

export interface Target {
  /** `unix:PATH` or `tcp:HOST:PORT`. */
  address: string;
  /** A writable export that nobody else uses. At least 256 MiB; all its content may be changed. */
  writable: string;
  size: bigint;
  /** A read-only export, or null where the server has none. */
  readOnly: string | null;
  /** X of a context qemu:dirty-bitmap:X of the writable export, or null. */
  bitmap: string | null;
  /** An export that is there but not for this client, or null. */
  forbidden: string | null;
  /** The export the empty name means, of the size above, or null. */
  defaultExport: string | null;
  /** What the writable export says of itself, or null where that is not known. */
  description: string | null;
  /** The server promises what NBD.md says beyond the protocol's SHOULD and MAY. */
  promises: boolean;
  /** To watch its memory; null where it is not ours to watch. */
  processId: number | null;
}

export interface Case {
  name: string;
  needs?: 'readOnly' | 'bitmap' | 'forbidden' | 'defaultExport' | 'description' | 'promises';
  run: (t: Test, target: Target) => Promise<void>;
}

function reasonToSkip({ needs }: Case, target: Target): string | false {
  if (needs === undefined) return false;
  return !target[needs] && `the server at hand has no ${needs}`;
}

/** Runs the cases one after another, each as a test of its own. */
export async function runCases(t: Test, group: string, cases: Case[], target: () => Target): Promise<void> {
  await t.test(group, async (t) => {
    for (const one of cases) {
      const skip = reasonToSkip(one, target());
      await t.test(one.name, { skip }, (t) => one.run(t, target()));
    }
  });
}
