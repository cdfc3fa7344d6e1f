// Every case, in the order in which they are run: each leaves the server as the next ones expect it.
import type { Test } from 'tap';
import { accessCases } from './access-cases.js';
import { greetingCases, infoCases, optionCases } from './handshake-cases.js';
import { hostileCases } from './hostile-cases.js';
import { contextCases, statusCases } from './meta-context-cases.js';
import { dataCases, refusalCases, structureCases } from './request-cases.js';
import { runCases, type Target } from './target.js';

export async function runAllCases(t: Test, target: () => Target): Promise<void> {
  await runCases(t, 'greeting', greetingCases, target);
  await runCases(t, 'options', optionCases, target);
  await runCases(t, 'INFO and GO', infoCases, target);
  await runCases(t, 'access', accessCases, target);
  await runCases(t, 'meta contexts', contextCases, target);
  await runCases(t, 'block status', statusCases, target);
  await runCases(t, 'data', dataCases, target);
  await runCases(t, 'refusals', refusalCases, target);
  await runCases(t, 'structure of answers', structureCases, target);
  await runCases(t, 'hostile clients', hostileCases, target);
}
