// Every case. A file of cases joins with one line; the table of bench/conformance and the list of what is covered follow.
import type { Test } from 'tap';
import { accessCases } from './access-cases.js';
import { choiceCases } from './choice-cases.js';
import { extendedHandshakeCases } from './extended-handshake-cases.js';
import { extendedRequestCases } from './extended-request-cases.js';
import { handshakeFormCases, transmissionFormCases } from './form-cases.js';
import { greetingCases, infoCases, optionCases } from './handshake-cases.js';
import { hostileCases } from './hostile-cases.js';
import { contextCases, statusCases } from './meta-context-cases.js';
import { dataCases, refusalCases, structureCases } from './request-cases.js';
import { type Case, type Group, runGroup, type Target } from './target.js';
import { tlsCases } from './tls-cases.js';

const transmission: readonly Group[] = [
  { name: 'data', cases: dataCases },
  { name: 'refusals', cases: refusalCases },
  { name: 'structure of answers', cases: structureCases },
];

/** A claim of all answers in chunks holds with either header. */
const withExtendedHeaders = ({ name, cases }: Group): Group => ({
  name: `${name}, with extended headers`,
  cases,
  extended: true,
});

const blockStatus: Group = { name: 'block status', cases: statusCases };

/** In the order in which they are run: each leaves the server as the next ones expect it. */
export const groups: readonly Group[] = [
  { name: 'greeting', cases: greetingCases },
  { name: 'options', cases: optionCases },
  { name: 'INFO and GO', cases: infoCases },
  { name: 'form of the handshake', cases: handshakeFormCases },
  { name: 'access', cases: accessCases },
  { name: 'meta contexts', cases: contextCases },
  blockStatus,
  withExtendedHeaders(blockStatus),
  ...transmission,
  { name: 'form of answers', cases: transmissionFormCases },
  { name: 'extended headers: negotiation', cases: extendedHandshakeCases },
  { name: 'extended headers: requests and replies', cases: extendedRequestCases, extended: true },
  { name: 'extended headers: a choice of contexts', cases: choiceCases, extended: true },
  ...transmission.map(withExtendedHeaders),
  { name: 'hostile clients', cases: hostileCases },
];

/** Each case once, however many groups it is in; with those of TLS, which have servers of their own (tls.test.ts). */
export const allCases: readonly Pick<Case, 'name' | 'covers'>[] = [
  ...new Set(groups.flatMap(({ cases }) => cases)),
  ...tlsCases,
];

export async function runAllCases(t: Test, target: Target): Promise<void> {
  for (const group of groups) await runGroup(t, group, target);
}
