import t from 'tap';

import { StopSteps } from '../../../src/operations/stop-steps.js';
import type { Logger } from '../../../src/operations/types.js';
import { quiet } from '../../support/store-harness.js';

t.test('a step that never ends or fails is named, and the others have their turn', async (t) => {
  const lines: [string, object][] = [];
  const note = (facts: object, message: string) => void lines.push([message, facts]);
  const log: Logger = { ...quiet, warn: note, error: note };
  const steps = new StopSteps(log, performance.now() + 20);
  await steps.run('hanging', () => new Promise(() => undefined));
  await steps.run('failing', async () => {
    throw new Error('no');
  });
  let ran = false;
  await steps.run('last', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    ran = true;
  });
  t.ok(ran, 'also after the end of the time there is a moment for each');
  t.strictSame(steps.undone, ['hanging', 'failing']);
  t.match(lines, [
    [/did not end in time/, { step: 'hanging' }],
    [/did not work/, { step: 'failing' }],
  ]);
});
