import t from 'tap';

import { breachOf, loadPlane } from '../../../src/plane/addon.js';
import type { PlaneCounters } from '../../../src/plane/treaty.js';
import { PLANE_COUNTERS } from '../../../src/plane/treaty.js';
import { FakeDisk } from '../../support/fake-disk.js';
import { FakePlane } from '../../support/fake-plane.js';

function withoutAddon(): string | false {
  try {
    loadPlane();
    return false;
  } catch (error) {
    return (error as Error).message;
  }
}

t.test(
  'an addon that lacks a counter, or has another type for it, is refused when it is loaded',
  async (t) => {
    const whole = new FakePlane(new FakeDisk()).counters();
    t.equal(breachOf({ counters: () => whole }), null);
    for (const name of Object.keys(PLANE_COUNTERS)) {
      const { [name]: _, ...rest } = whole as unknown as Record<string, unknown>;
      t.match(
        breachOf({ counters: () => rest as unknown as PlaneCounters }),
        new RegExp(`the counter ${name},`),
      );
    }
    t.match(
      breachOf({ counters: () => ({ ...whole, faults: 0 as unknown as bigint }) }),
      /the counter faults,/,
    );
  },
);

t.test('the addon supplies every counter', { skip: withoutAddon() }, async (t) => {
  t.strictSame(Object.keys(loadPlane().counters()).sort(), Object.keys(PLANE_COUNTERS).sort());
});
