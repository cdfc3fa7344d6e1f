// The one place where kinds of errors become exit codes, of the agent and of the command line. Documented in docs/cli.md and by
// `cellblock --help`.

import type { ErrorKind } from '../base/errors.js';

/** Besides the kinds of the table of errors: nobody answers; an examination found something wrong. */
export type FailureKind = ErrorKind | 'unreachable' | 'unhealthy';

export const EXIT_CODES: Readonly<Record<FailureKind, number>> = {
  internal: 1,
  invalid: 2,
  'not-found': 3,
  exists: 4,
  'in-use': 5,
  busy: 6,
  refused: 7,
  'no-space': 8,
  io: 9,
  corrupt: 10,
  version: 11,
  unreachable: 12,
  unhealthy: 13,
  cancelled: 130,
};

/** Whoever read our output went away, as after SIGPIPE. */
export const EXIT_BROKEN_PIPE = 141;

export const EXIT_CODE_MEANINGS: readonly (readonly [number, string])[] = [
  [0, 'done; for `store check`: the store is clean; for `doctor`: no problem'],
  [EXIT_CODES.internal, 'a defect of cellblock'],
  [EXIT_CODES.invalid, 'a wrong command, option, name, size or configuration'],
  [EXIT_CODES['not-found'], 'no such volume, snapshot, task or file'],
  [EXIT_CODES.exists, 'the name or file is taken'],
  [EXIT_CODES['in-use'], 'in use: by clients, by snapshots, or the store by another process'],
  [EXIT_CODES.busy, 'not now; try again'],
  [EXIT_CODES.refused, 'not allowed in this state, or permission denied'],
  [EXIT_CODES['no-space'], 'no space left'],
  [EXIT_CODES.io, 'a disk or file failed'],
  [EXIT_CODES.corrupt, 'the store is damaged; `store check` found problems'],
  [EXIT_CODES.version, 'the store was made by a newer version'],
  [EXIT_CODES.unreachable, 'no agent answers'],
  [EXIT_CODES.unhealthy, '`doctor` found a problem; warnings are none'],
  [EXIT_CODES.cancelled, 'interrupted or cancelled'],
  [EXIT_BROKEN_PIPE, 'the reader of the output went away'],
];

/** What they mean to whoever starts the agent. */
export const AGENT_EXIT_CODES: typeof EXIT_CODE_MEANINGS = [
  [0, 'stopped when asked to'],
  [EXIT_CODES.internal, 'a defect of cellblock'],
  [EXIT_CODES.invalid, 'a wrong option, address or configuration'],
  [EXIT_CODES['not-found'], 'no such configuration file'],
  [EXIT_CODES['in-use'], 'the store, a socket or a port is in use by another process'],
  [EXIT_CODES.refused, 'no store can be there, or permission denied'],
  [EXIT_CODES['no-space'], 'no space left'],
  [EXIT_CODES.io, 'a disk failed, or it cannot listen'],
  [EXIT_CODES.corrupt, 'the store is damaged'],
  [EXIT_CODES.version, 'the store was made by a newer version'],
  [EXIT_CODES.cancelled, 'asked to stop twice'],
];

/** What they mean to whoever starts a coordinator. */
export const COORDINATOR_EXIT_CODES: typeof EXIT_CODE_MEANINGS = [
  [0, 'stopped when asked to'],
  [EXIT_CODES.internal, 'a defect of cellblock'],
  [EXIT_CODES.invalid, 'a wrong option, address, certificate or file of tokens'],
  [EXIT_CODES['in-use'], 'the state is held by another coordinator, or the port by another process'],
  [EXIT_CODES.refused, 'no state can be there, or permission denied'],
  [EXIT_CODES['no-space'], 'no space left'],
  [EXIT_CODES.io, 'a disk failed, etcd does not answer, or it cannot listen'],
  [EXIT_CODES.corrupt, 'the state is damaged'],
  [EXIT_CODES.version, 'the state was made by a newer version'],
  [EXIT_CODES.cancelled, 'asked to stop twice'],
];

export function exitCodeLines(meanings: typeof EXIT_CODE_MEANINGS): string {
  return meanings.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}\n`).join('');
}
