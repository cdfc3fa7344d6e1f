// Do long random histories of a store agree with a model of a few lines, seen through the real NBD socket and control API?
import fc from 'fast-check';
import t from 'tap';
import { Daemon } from '../support/daemon.js';
import { replay } from '../support/replay.js';
import { histories } from './history.js';
import { Subject } from './subject.js';

t.test('random histories over several volumes agree with the model', async (t) => {
  const property = fc.asyncProperty(histories, async (history) => {
    const cleanUps: (() => unknown)[] = [];
    try {
      const daemon = await Daemon.start({ teardown: (clean) => cleanUps.push(clean) });
      await new Subject(daemon).run(history);
    } finally {
      for (const clean of cleanUps) await clean();
    }
  });
  await fc.assert(property, replay({ quick: 5, normal: 15, long: 1000 }));
  t.pass('they do');
});
