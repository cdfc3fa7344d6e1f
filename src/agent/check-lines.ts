// A check of the store as a stream of lines: progress, each problem when it is found, and the report (or an error) at the end.

import { asCellblockError } from '../base/errors.js';
import type { CheckProblem, CheckReport, Inspection } from './inspection.js';
import { Mailbox } from './mailbox.js';

export type CheckLine =
  | { type: 'progress'; done: bigint; total: bigint | null }
  | ({ type: 'problem' } & CheckProblem)
  | ({ type: 'report' } & CheckReport)
  | { type: 'error'; kind: string; code: string; message: string; hint: string };

/** Aborts the check when the reader goes away. */
export async function* checkLines(inspection: Inspection, gone: AbortController): AsyncGenerator<CheckLine> {
  const mailbox = new Mailbox<CheckLine>();
  const running = inspection.check({
    signal: gone.signal,
    onProblem: (problem) => mailbox.keep({ type: 'problem', ...problem }),
    onProgress: (done, total) => mailbox.replace({ type: 'progress', done, total }),
  });
  running.then(
    (report) => mailbox.keep({ type: 'report', ...report }),
    (error: unknown) => {
      const { kind, code, message, hint } = asCellblockError(error);
      mailbox.keep({ type: 'error', kind, code, message, hint });
    },
  );
  try {
    for (;;) {
      const line = await mailbox.take();
      yield line;
      if (line.type === 'report' || line.type === 'error') return;
    }
  } finally {
    gone.abort();
  }
}
