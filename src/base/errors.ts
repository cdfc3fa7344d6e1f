// The one table of errors: a few kinds, which edges map (exit code, HTTP status, errno), and many codes, which are logged.
// Invariant: a code is born at the cause and belongs to exactly one kind; nothing is ever parsed out of a message.

/** What an edge matches on. */
export type ErrorKind =
  | 'invalid'
  | 'not-found'
  | 'exists'
  | 'in-use'
  | 'busy'
  | 'refused'
  | 'no-space'
  | 'io'
  | 'corrupt'
  | 'version'
  | 'cancelled'
  | 'internal';

/** Every code there is, with its kind. Append only: a code that left the program stays here with a note. */
export const ERROR_CODES = {
  'name-empty': 'invalid',
  'name-too-long': 'invalid',
  'name-bad-character': 'invalid',
  'name-reserved': 'invalid',
  'snapshot-reference-malformed': 'invalid',
  'size-not-a-number': 'invalid',
  'size-zero': 'invalid',
  'size-negative': 'invalid',
  'size-too-large': 'invalid',
  'option-invalid': 'invalid',
  'shrink-needs-force': 'refused',
  'volume-not-found': 'not-found',
  'snapshot-not-found': 'not-found',
  'task-not-found': 'not-found',
  'file-not-found': 'not-found',
  'volume-exists': 'exists',
  'snapshot-exists': 'exists',
  'volume-in-use': 'in-use',
  'volume-has-snapshots': 'in-use',
  'store-locked': 'in-use',
  'volume-busy': 'busy',
  'store-stopping': 'busy',
  'volume-failed': 'refused',
  'volume-not-failed': 'refused',
  'store-read-only': 'refused',
  'task-not-cancellable': 'refused',
  'snapshot-unrelated': 'refused',
  'file-system-unsuitable': 'refused',
  'permission-denied': 'refused',
  'no-space': 'no-space',
  'catalog-write-failed': 'io',
  'catalog-read-failed': 'io',
  'data-plane-failed': 'io',
  'snapshot-failed': 'io',
  'addon-missing': 'internal',
  'record-corrupt': 'corrupt',
  'catalog-corrupt': 'corrupt',
  'journal-missing': 'corrupt',
  'journal-damaged': 'corrupt',
  'store-incomplete': 'corrupt',
  'store-newer': 'version',
  'store-not-a-store': 'refused',
  'task-cancelled': 'cancelled',
  internal: 'internal',
  'configuration-invalid': 'invalid',
  'configuration-missing': 'not-found',
  'address-invalid': 'invalid',
  'address-in-use': 'in-use',
  'listen-failed': 'io',
  'request-invalid': 'invalid',
  'route-not-found': 'not-found',
  'request-too-large': 'invalid',
  'group-too-large': 'invalid',
  'store-older': 'version',
  'identity-damaged': 'refused',
  'identity-invalid': 'invalid',
  'sync-source-larger': 'refused',
  'sync-not-found': 'not-found',
  'sync-nothing-to-undo': 'refused',
  'sync-takes-keys': 'refused',
  'hold-expired': 'busy',
  'identity-not-restored': 'corrupt',
  'container-kind-wrong': 'invalid',
  'disks-unpaired': 'invalid',
  'vm-not-found': 'not-found',
  'volume-in-vm': 'in-use',
  'vm-snapshot-incomplete': 'refused',
  'tls-invalid': 'invalid',
  'access-entry-malformed': 'invalid',
  'description-invalid': 'invalid',
  'socket-activation-invalid': 'invalid',
  'limits-invalid': 'invalid',
  'transaction-log-name-bad': 'invalid',
  'transaction-log-name-taken': 'exists',
  'transaction-log-unsuitable': 'refused',
  'transaction-logs-off': 'refused',
  'attachment-exists': 'exists',
  'attachment-not-found': 'not-found',
  'attachment-unsuitable': 'refused',
  'kernel-driver-missing': 'refused',
  'kernel-device-in-use': 'in-use',
  'kernel-device-failed': 'io',
  'token-file-invalid': 'invalid',
  'coordinator-address-invalid': 'invalid',
  'coordinator-not-configured': 'refused',
  'coordinator-unreachable': 'busy',
  'coordinator-silent': 'busy',
  'coordinator-failed': 'refused',
  'volume-routed': 'refused',
  'volume-not-served': 'refused',
  'volume-unknown-here': 'not-found',
  'snapshot-pinned': 'in-use',
  'copy-refused': 'refused',
  'coordinator-absent': 'refused',
  'group-failed': 'refused',
  'group-published-already': 'refused',
  'group-dropped-already': 'refused',
  'credentials-invalid': 'invalid',
  'not-leader': 'busy',
  'coordinator-state-unreachable': 'io',
  'coordinator-state-uncertain': 'io',
  'coordinator-state-failed': 'io',
  'coordinator-state-full': 'no-space',
  'coordinator-state-refused': 'refused',
  'coordinator-state-too-large': 'invalid',
  'coordinator-state-locked': 'in-use',
  'coordinator-state-foreign': 'refused',
  'coordinator-state-newer': 'version',
  'coordinator-state-corrupt': 'corrupt',
  'coordinator-state-closed': 'busy',
  'copy-invalid': 'invalid',
  'copy-mismatch': 'corrupt',
  'copy-source-unreachable': 'io',
  'copy-source-refuses': 'refused',
  'copy-source-wrong': 'corrupt',
  'volume-unavailable': 'busy',
  'volume-creating': 'busy',
  'volume-quarantined': 'refused',
  'volume-not-quarantined': 'refused',
  'owned-elsewhere': 'refused',
  'owner-unproven': 'refused',
  'volume-lost': 'not-found',
  'volume-pinned': 'in-use',
  'volume-not-claimed': 'refused',
  'route-exists': 'exists',
  'route-in-use': 'in-use',
  'host-failed': 'io',
  'host-not-found': 'not-found',
  'host-not-connected': 'busy',
  'host-connected': 'in-use',
  'host-needed': 'in-use',
  'host-not-regressed': 'refused',
  'host-regressed': 'refused',
  'stray-not-found': 'not-found',
  'cell-not-found': 'not-found',
  'cell-exists': 'exists',
  'no-host-for-copy': 'refused',
  'move-under-way': 'in-use',
  'move-not-found': 'not-found',
  'move-too-late': 'refused',
  'move-bases-missing': 'refused',
  'move-bases-not-carried': 'refused',
  'primary-answers': 'refused',
  'replica-not-found': 'not-found',
  'replica-exists': 'exists',
  'replica-empty': 'refused',
  'loss-not-accepted': 'refused',
  'group-dropped': 'busy',
  'group-unfinished': 'busy',
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Facts that go with an error into logs and the API's answer; never needed to understand the sentence. */
export type ErrorFacts = Record<string, string | number | boolean>;

export interface ErrorOptions {
  /** What the operator should do, one sentence. */
  hint: string;
  facts?: ErrorFacts;
  cause?: unknown;
}

/** An error that may be shown to people: `message` says what is wrong, `hint` what to do, one sentence each. */
export class CellblockError extends Error {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly hint: string;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, options: ErrorOptions) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'CellblockError';
    this.code = code;
    this.kind = ERROR_CODES[code];
    this.hint = options.hint;
    this.facts = options.facts ?? {};
  }
}

/** The `code` of a system error (`ENOSPC`), or an empty string. Looks through LevelDB's wrapping too. */
export function systemCode(error: unknown): string {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code)) return code;
  }
  return '';
}

/** Makes any thrown value a CellblockError; what is none yet is a defect of the program. */
export function asCellblockError(error: unknown): CellblockError {
  if (error instanceof CellblockError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new CellblockError('internal', `Something went wrong inside cellblock: ${message}.`, {
    hint: 'Please report this together with the log of the agent.',
    cause: error,
  });
}
