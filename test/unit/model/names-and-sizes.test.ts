import t from 'tap';

import { checkName, parseSnapshotReference } from '../../../src/model/names.js';
import { parseSize } from '../../../src/model/sizes.js';

t.test('names', async (t) => {
  for (const name of ['a', 'web-1', 'Größe', 'x'.repeat(128), '.hidden', 'a b', '日本'])
    t.doesNotThrow(() => checkName(name, 'volume'), name);
  const refused: [string, string][] = [
    ['', 'name-empty'],
    ['x'.repeat(129), 'name-too-long'],
    ['é'.repeat(65), 'name-too-long'],
    ['a/b', 'name-bad-character'],
    ['a\nb', 'name-bad-character'],
    ['a\u0000', 'name-bad-character'],
    ['a\u0085b', 'name-bad-character'],
    ['a@b', 'name-bad-character'],
    ['-a', 'name-bad-character'],
    [' a', 'name-bad-character'],
    ['\ud800', 'name-bad-character'],
    ['.', 'name-reserved'],
    ['..', 'name-reserved'],
  ];
  for (const [name, code] of refused)
    t.throws(() => checkName(name, 'volume'), { code, kind: 'invalid' }, JSON.stringify(name));
});

t.test('references of snapshots', async (t) => {
  t.strictSame(parseSnapshotReference('a@b'), { volume: 'a', snapshot: 'b' });
  for (const text of ['a', 'a@b@c'])
    t.throws(() => parseSnapshotReference(text), { code: 'snapshot-reference-malformed' }, text);
  for (const text of ['@b', 'a@']) t.throws(() => parseSnapshotReference(text), { code: 'name-empty' }, text);
});

t.test('sizes', async (t) => {
  const read: [string, bigint][] = [
    ['1', 1n],
    ['4096', 4096n],
    ['10G', 10n << 30n],
    ['1.5T', 3n << 39n],
    ['2GiB', 2n << 30n],
    ['1 K', 1024n],
    ['3mb', 3n << 20n],
    ['7E', 7n << 60n],
    ['9223372036854775807', (1n << 63n) - 1n],
    ['+5', 5n],
  ];
  for (const [text, bytes] of read) t.equal(parseSize(text), bytes, text);
  const refused: [string, string][] = [
    ['0', 'size-zero'],
    ['0G', 'size-zero'],
    ['-1', 'size-negative'],
    ['-2G', 'size-negative'],
    ['8E', 'size-too-large'],
    ['9223372036854775808', 'size-too-large'],
    ['', 'size-not-a-number'],
    ['ten', 'size-not-a-number'],
    ['1X', 'size-not-a-number'],
    ['NaN', 'size-not-a-number'],
    ['1e9', 'size-not-a-number'],
    ['0x10', 'size-not-a-number'],
    ['1.', 'size-not-a-number'],
  ];
  for (const [text, code] of refused)
    t.throws(() => parseSize(text), { code, kind: 'invalid' }, JSON.stringify(text));
});
