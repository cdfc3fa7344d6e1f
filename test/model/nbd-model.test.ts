// Do long random histories of a store agree with a model of a few lines, seen through the real NBD socket and control API?
import fc from 'fast-check';
import t from 'tap';
import { type Configuration, Daemon } from '../support/daemon.js';
import type { Effort } from '../support/effort.js';
import { replay } from '../support/replay.js';
import { others } from '../support/variants.js';
import { histories } from './history.js';
import { Subject } from './subject.js';

async function agree(configuration: Configuration | undefined, runs: Record<Effort, number>): Promise<void> {
  const property = fc.asyncProperty(histories, async (history) => {
    const cleanUps: (() => unknown)[] = [];
    try {
      const teardown = (clean: () => unknown): unknown => cleanUps.push(clean);
      const daemon = await Daemon.start({ teardown }, { ...(configuration && { configuration }) });
      await new Subject(daemon).run(history);
    } finally {
      for (const clean of cleanUps) await clean();
    }
  });
  await fc.assert(property, replay(runs));
}

t.test('random histories over several volumes agree with the model', async (t) => {
  await t.resolves(agree(undefined, { quick: 5, normal: 8, long: 1000 }));
});

for (const { name, configuration, skip } of others) {
  t.test(`so they do with ${name}`, { skip }, async (t) => {
    await t.resolves(agree(configuration, { quick: 1, normal: 1, long: 200 }));
  });
}
