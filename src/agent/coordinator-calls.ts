// Verbs that are forwarded to the coordinator for a command line, and what becomes of them, as the control API says it.
//
// Invariant: what may have been done is never told as a failure: it has the id under which the same can be asked again, and is done once.

import type { TSchema } from '@sinclair/typebox';
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import { asCellblockError, CellblockError, ERROR_CODES, type ErrorCode } from '../base/errors.js';
import type { CallOptions, CallOutcome } from '../protocol/client.js';
import { type Call, freshId, type ProgressReport } from '../protocol/exchange.js';
import { VERBS, type Verb } from '../protocol/verbs.js';
import { Mailbox } from './mailbox.js';

export interface MembershipStatus {
  host: string;
  cell: string;
  connected: boolean;
  /** The coordinator that took this host last; null: none has. */
  coordinator: string | null;
  /** As that one knows it; null: nobody leads, or it is not known. */
  leader: string | null;
  /** Volumes of cells are served: the cold start is over. */
  serving: boolean;
}

/** As Membership is one. */
export interface CoordinatorCalls {
  readonly status: MembershipStatus;
  call(call: Call, options: CallOptions): Promise<CallOutcome>;
}

export const DEFAULT_TIMEOUT_SECONDS = 120;

export interface GivenCall {
  verb: string;
  arguments: Record<string, unknown>;
  id?: string;
  timeout_seconds?: number;
}

export interface CallAnswer {
  id: string;
  value: unknown;
}

export type CallLine =
  | ({ type: 'progress' } & Pick<ProgressReport, 'stage' | 'done' | 'total'>)
  | ({ type: 'result' } & CallAnswer)
  | { type: 'error'; kind: string; code: string; message: string; hint: string };

/** What the coordinator gives. Throws under the code and with the hint that it has told. */
export async function callCoordinator(
  coordinator: CoordinatorCalls | null,
  given: GivenCall,
  progress: (report: ProgressReport) => void = () => undefined,
): Promise<CallAnswer> {
  const call = checkedCall(given);
  if (!coordinator) throw notConfigured();
  if (!coordinator.status.connected) throw unreachable(coordinator.status);
  const { id = freshId(), timeout_seconds: seconds = DEFAULT_TIMEOUT_SECONDS } = given;
  const outcome = await coordinator.call(call, { id, timeoutMs: seconds * 1_000, progress });
  if (outcome.kind === 'done') return { id, value: outcome.value };
  throw outcome.kind === 'silent' ? silent(call, id) : failed(outcome);
}

/** The same as lines: how far it is, then what it gives or why not. */
export async function* callLines(
  coordinator: CoordinatorCalls | null,
  given: GivenCall,
): AsyncGenerator<CallLine> {
  const mailbox = new Mailbox<CallLine>();
  callCoordinator(coordinator, given, ({ stage, done, total }) =>
    mailbox.replace({ type: 'progress', stage, done, total }),
  ).then(
    (answer) => mailbox.keep({ type: 'result', ...answer }),
    (error: unknown) => {
      const { kind, code, message, hint } = asCellblockError(error);
      mailbox.keep({ type: 'error', kind, code, message, hint });
    },
  );
  for (;;) {
    const line = await mailbox.take();
    yield line;
    if (line.type !== 'progress') return;
  }
}

const checks = new Map<Verb, TypeCheck<TSchema>>();

/** A call that the protocol takes. Throws `request-invalid`. */
function checkedCall({ verb, arguments: given }: GivenCall): Call {
  if (!isVerb(verb)) throw invalid(`There is no verb ${JSON.stringify(verb)} of the coordinator`);
  const check = checks.get(verb) ?? TypeCompiler.Compile(VERBS[verb] as TSchema);
  checks.set(verb, check);
  const wrong = check.Errors(given).First();
  if (wrong) {
    const key = wrong.path.slice(1).replaceAll('/', '.');
    const where = key === '' ? `The arguments of ${verb} do` : `${JSON.stringify(key)} of ${verb} does`;
    throw invalid(`${where} not fit: ${wrong.message.replace(/^./, (first) => first.toLowerCase())}`);
  }
  return { verb, arguments: given } as Call;
}

function isVerb(verb: string): verb is Verb {
  return Object.hasOwn(VERBS, verb);
}

function invalid(message: string): CellblockError {
  return new CellblockError('request-invalid', `${message}.`, {
    hint: 'See docs/coordinator-protocol.md for the verbs and what they take.',
  });
}

export function notConfigured(): CellblockError {
  return new CellblockError(
    'coordinator-not-configured',
    'This host is in no cell: it knows no coordinator.',
    {
      hint: 'Write a section `coordinator` into the configuration of cellblockd; see docs/cells.md.',
    },
  );
}

function unreachable({ host, coordinator }: MembershipStatus): CellblockError {
  const last = coordinator === null ? 'none has answered since the start' : `the last one was ${coordinator}`;
  return new CellblockError(
    'coordinator-unreachable',
    `Host ${host} is connected to no coordinator; ${last}.`,
    { hint: 'Nothing was done. Look whether cellblock-coordinator runs, and at the log of cellblockd.' },
  );
}

function silent({ verb }: Call, id: string): CellblockError {
  return new CellblockError(
    'coordinator-silent',
    `The coordinator has not answered: ${verb} may have been done, now or later.`,
    {
      hint: `Ask the same again here with --again ${id} (API: the same id): the coordinator that was asked does it once.`,
      facts: { verb, id },
    },
  );
}

/** Under the code the coordinator told, if this program knows it. */
function failed({ code, message, hint }: CallOutcome & { kind: 'failed' }): CellblockError {
  const known = Object.hasOwn(ERROR_CODES, code);
  return new CellblockError(known ? (code as ErrorCode) : 'coordinator-failed', message, {
    hint,
    facts: known ? {} : { coordinatorCode: code },
  });
}
