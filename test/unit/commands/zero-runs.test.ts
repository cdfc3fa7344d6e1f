// Runs of zeros are found exactly, against a byte-by-byte model.

import fc from 'fast-check';
import t from 'tap';
import { zeroRuns } from '../../../src/commands/zero-runs.js';

t.test('runs cover the buffer, alternate, and tell the truth', async () => {
  const block = fc.constantFrom(0, 1, 4095, 4096);
  fc.assert(
    fc.property(fc.array(block, { maxLength: 12 }), fc.integer({ min: 0, max: 4095 }), (marks, tail) => {
      const bytes = Buffer.alloc(marks.length * 4096 + tail);
      for (const [index, mark] of marks.entries()) if (mark > 0) bytes[index * 4096 + mark - 1] = 1;
      const runs = zeroRuns(bytes);
      let at = 0;
      for (const [index, { start, end, zero }] of runs.entries()) {
        if (start !== at || end <= start) return false;
        if (index > 0 && runs[index - 1]?.zero === zero) return false;
        for (let block = start; block < end; block += 4096) {
          if (zero !== bytes.subarray(block, Math.min(block + 4096, end)).every((byte) => byte === 0))
            return false;
        }
        at = end;
      }
      return at === bytes.length;
    }),
  );
});
