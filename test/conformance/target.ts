// What the conformance cases are run against, and how: a case is one claim about a server at an address, so the same cases
// judge cellblock and, when asked by environment (see peer.ts), any other server.
import type { Test } from 'tap';
import { OPT, REP } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';

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
  /** Where a case would negotiate structured replies, it negotiates extended headers instead. */
  extended?: boolean;
}

export type Need =
  | 'readOnly'
  | 'bitmap'
  | 'forbidden'
  | 'defaultExport'
  | 'description'
  | 'promises'
  | 'compact';

export interface Case {
  name: string;
  needs?: Need | Need[];
  run: (t: Test, target: Target) => Promise<void>;
}

function reasonToSkip({ needs = [] }: Case, target: Target): string | false {
  const has = (need: Need): boolean => (need === 'compact' ? !target.extended : Boolean(target[need]));
  const missing = [needs].flat().find((need) => !has(need));
  if (missing === 'compact') return 'its claim does not hold with extended headers';
  return missing !== undefined && `the server at hand has no ${missing}`;
}

/** A connection in transmission, its answers in chunks unless told otherwise, as the target has it. */
export function openTarget(
  target: Target,
  options: { name?: string | null; structured?: boolean; contexts?: string[] } = {},
): ReturnType<typeof RawNbd.open> {
  const { name, ...rest } = options;
  return RawNbd.open(target.address, name ?? target.writable, {
    ...rest,
    extended: target.extended ?? false,
  });
}

/** A connection in the handshake with answers in chunks negotiated. */
export async function negotiateTarget(target: Target): Promise<RawNbd> {
  const client = await RawNbd.negotiate(target.address);
  await client.negotiateChunks({ extended: target.extended ?? false });
  return client;
}

/** Whether the server knows extended headers at all: who does not is told apart from who gets them wrong. */
export async function offersExtendedHeaders({ address }: Target): Promise<boolean> {
  const client = await RawNbd.negotiate(address);
  const end = await client.optionEnd(OPT.extendedHeaders);
  client.close();
  return end !== REP.errUnsup;
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
