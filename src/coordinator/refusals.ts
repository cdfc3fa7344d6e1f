// What people are told when an operation on a volume has not been performed.

import { CellblockError, ERROR_CODES, type ErrorCode } from '../base/errors.js';
import type { Operation } from '../model/cell/operation.js';
import type { End } from '../model/cell/resolution.js';
import type { Route } from '../model/cell/route.js';
import type { Settings } from './settings.js';

type Unperformed = Exclude<End, { result: 'performed' }>;

const WORDS: Readonly<Record<Operation['kind'], string>> = {
  snapshot: 'the snapshot',
  resize: 'the resize',
  delete: 'the delete',
  'snapshot-delete': 'the delete of the snapshot',
  locate: 'the volume',
  settle: 'the move',
};

export function refusalOf(
  { name }: Pick<Route, 'name'>,
  operation: Operation,
  { end, mayBeDone, settings }: { end: Unperformed; mayBeDone: boolean; settings: Settings },
): CellblockError {
  const facts = { volume: name, retryAfterMs: settings.retryAfterMs };
  switch (end.result) {
    case 'failed':
      return hostError(end.code, `${end.at || 'A host'} could not do it: ${end.message}`, facts);
    case 'retry':
      return new CellblockError(
        'volume-unavailable',
        `Volume ${name} is unavailable: ${end.because}.`,
        mayBeDone
          ? {
              hint: `A host was asked and has not answered, so ${WORDS[operation.kind]} may yet be made; the same again is the same one.`,
              facts,
            }
          : { hint: 'Nothing was changed; try again later.', facts },
      );
    case 'creating':
      return new CellblockError('volume-creating', `Volume ${name} is being made.`, {
        hint: 'Try again when its first copy is complete.',
        facts,
      });
    case 'quarantined':
      return quarantined(name, end.because);
    case 'not-found':
      return new CellblockError('volume-lost', `No cell of its route knows volume ${name}.`, {
        hint: `Look at \`cellblock route show ${name} --explain\`: if another host owns it, \`cellblock quarantine adopt ${name} --cell CELL\` says so to its route; \`cellblock route forget ${name}\` drops the route.`,
        facts,
      });
    case 'gone':
      return deleted(name);
  }
}

export function quarantined(name: string, because: string): CellblockError {
  return new CellblockError('volume-quarantined', `Volume ${name} is in quarantine: ${because}.`, {
    hint: `Look at \`cellblock route show ${name} --explain\`, then decide with \`cellblock quarantine adopt ${name} --cell CELL\`.`,
    facts: { volume: name },
  });
}

export function deleted(name: string): CellblockError {
  return new CellblockError('volume-not-found', `Volume ${name} is deleted.`, {
    hint: 'Its route goes when every host has confirmed that.',
    facts: { volume: name },
  });
}

/** An error that a host has told: under its own code, if this program knows it. */
export function hostError(
  code: string,
  message: string,
  facts: Record<string, string | number> = {},
): CellblockError {
  const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'host-failed';
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
  return new CellblockError(known, sentence, {
    hint: 'Look at the log of that host.',
    facts: known === code ? facts : { ...facts, hostCode: code },
  });
}

export function hostSilent(host: string, settings: Settings): CellblockError {
  return new CellblockError('host-not-connected', `Host ${host} does not answer.`, {
    hint: 'Look whether its agent runs and reaches the coordinator, then try again.',
    facts: { host, retryAfterMs: settings.retryAfterMs },
  });
}
