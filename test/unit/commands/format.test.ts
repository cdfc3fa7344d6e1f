// Numbers and tables for people, JSON for programs.

import t from 'tap';
import { apiPath, parseJson } from '../../../src/commands/api-client.js';
import { formatBytes, formatDuration } from '../../../src/commands/format.js';
import { table } from '../../../src/commands/table.js';
import { toJson } from '../../../src/commands/terminal.js';

t.test('sizes', async (t) => {
  const shown: [bigint, string][] = [
    [0n, '0B'],
    [1023n, '1023B'],
    [1024n, '1K'],
    [1536n, '1.5K'],
    [10n << 30n, '10G'],
    [(1n << 63n) - 1n, '8E'],
  ];
  for (const [bytes, text] of shown) t.equal(formatBytes(bytes), text);
});

t.test('durations', async (t) => {
  t.same([5, 65, 3700, 90_000].map(formatDuration), ['5s', '1m 5s', '1h 1m', '1d 1h']);
});

t.test('tables align wide characters and escape those that disturb', async (t) => {
  const text = table(
    [
      { title: 'N', cell: ([name]: [string, string]) => name },
      { title: 'V', cell: ([, value]) => value, align: 'right' },
    ],
    [
      ['日本', '1'],
      ['e\u0301', '22'],
      ['\u001b[2J', '3'],
    ],
  );
  t.equal(text, 'N           V\n日本        1\ne\u0301          22\n\\u{1b}[2J   3\n');
});

t.test('JSON keeps integers of any size, out and in', async (t) => {
  const big = 9223372036854775807n;
  t.equal(
    toJson({ sizeBytes: big, text: '"12345678901234567890"' }).includes('"sizeBytes": 9223372036854775807'),
    true,
  );
  const back = parseJson(toJson({ sizeBytes: big, done: 1n, id: 5, text: 'a 12345678901234567890 "b" \\' }));
  t.strictSame(back, { sizeBytes: big, done: 1n, id: 5, text: 'a 12345678901234567890 "b" \\' });
  const fractions = '{"heldMs":9.1234567890123456,"others":[-0.12345678901234567]}';
  t.same(parseJson(fractions), JSON.parse(fractions), 'many digits behind a point are no byte quantity');
  t.throws(() => parseJson('220 smtp'), { message: /is not cellblockd/ });
});

t.test('paths are percent-encoded', async (t) => {
  t.equal(apiPath(['volumes', 'a b/ä'], { x: '1&2', y: undefined }), '/v1/volumes/a%20b%2F%C3%A4?x=1%262');
});
