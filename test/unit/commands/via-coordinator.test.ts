// What a snapshot of several volumes prints.

import t from 'tap';
import { groupText } from '../../../src/commands/via-coordinator.js';

const snapshot = { volume: 'a', name: 'x', id: 'f'.repeat(32), seq: 2, host: 'h1', lost: false };

t.test('what was taken, what is not confirmed yet, and what is lost of it', async (t) => {
  const text = groupText({
    group: '0'.repeat(32),
    snapshots: [
      snapshot,
      { ...snapshot, volume: 'b', host: 'h2', seq: null },
      { ...snapshot, volume: 'c', host: 'h3', seq: null, lost: true },
    ],
    held: [{ host: 'h1', milliseconds: 4 }],
    unconfirmed: ['h2'],
  });
  t.same(text.split('\n'), [
    'Snapshot a@x taken at host h1: number 2 of its lineage.',
    'Snapshot b@x taken at host h2.',
    'Snapshot c@x is lost: host h3 has lost it, or its volume.',
    'In one instant; clients were held: h1 4.0 ms.',
    'Not confirmed yet by h2: asked again until it is.',
    '',
  ]);
});
