// Every case, in the order in which they are run: each leaves the server as the next ones expect it.
import type { Test } from 'tap';
import { accessCases } from './access-cases.js';
import { choiceCases, extendedHandshakeCases, extendedRequestCases } from './extended-cases.js';
import { greetingCases, infoCases, optionCases } from './handshake-cases.js';
import { hostileCases } from './hostile-cases.js';
import { contextCases, statusCases } from './meta-context-cases.js';
import { dataCases, refusalCases, structureCases } from './request-cases.js';
import { offersExtendedHeaders, runCases, type Target } from './target.js';

export async function runAllCases(t: Test, target: () => Target): Promise<void> {
  const extended = (): Target => ({ ...target(), extended: true });
  await runCases(t, 'greeting', greetingCases, target);
  await runCases(t, 'options', optionCases, target);
  await runCases(t, 'INFO and GO', infoCases, target);
  await runCases(t, 'access', accessCases, target);
  await runCases(t, 'meta contexts', contextCases, target);
  await runCases(t, 'block status', statusCases, target);
  await ifExtendedIsOffered(t, target, async (t) => {
    await runCases(t, 'block status', statusCases, extended);
  });
  await runCases(t, 'data', dataCases, target);
  await runCases(t, 'refusals', refusalCases, target);
  await runCases(t, 'structure of answers', structureCases, target);
  // What the extension adds, and what was claimed before once more with its headers.
  await ifExtendedIsOffered(t, target, async (t) => {
    await runCases(t, 'negotiation', extendedHandshakeCases, target);
    await runCases(t, 'requests and replies', extendedRequestCases, extended);
    await runCases(t, 'a choice of contexts', choiceCases, extended);
    await runCases(t, 'data', dataCases, extended);
    await runCases(t, 'refusals', refusalCases, extended);
    await runCases(t, 'structure of answers', structureCases, extended);
  });
  await runCases(t, 'hostile clients', hostileCases, target);
}

async function ifExtendedIsOffered(
  t: Test,
  target: () => Target,
  run: (t: Test) => Promise<void>,
): Promise<void> {
  // Whoever promises all has to offer it: then its absence fails the cases.
  const skip =
    !target().promises &&
    !(await offersExtendedHeaders(target())) &&
    'the server at hand does not offer extended headers';
  await t.test('extended headers', { skip }, run);
}
