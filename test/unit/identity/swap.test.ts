// Swap areas: another UUID and label in the header; a hibernated system is left alone.
// Images are made by mkswap and judged by blkid and swaplabel.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { swap } from '../../../src/identity/swap.js';
import {
  blank,
  blkid,
  cost,
  detectIn,
  Overlay,
  onlyWithin,
  restoreIn,
  survivesNoise,
  survivesRandomBytes,
  valuesOf,
} from '../../support/identity-images.js';
import { missing, must } from '../../support/programs.js';

const SOURCE = '11111111-1111-4111-8111-111111111111';
const TARGET = '22222222-2222-4222-8222-222222222222';
const skip = missing('mkswap', 'swaplabel', 'blkid');
const folder = t.testdir();

async function made(name: string, args: string[] = []): Promise<string> {
  const file = blank(join(folder, name), 1 << 20);
  await must('mkswap', ['-q', '-U', SOURCE, '-L', 'source', ...args, file]);
  return file;
}

t.test('every page size: blkid sees the wanted values, nothing else changes', { skip }, async (t) => {
  for (const page of [4096, 8192, 16384, 32768, 65536]) {
    const file = await made(`page-${page}`, ['-p', `${page}`, '-f']);
    t.strictSame(valuesOf(detectIn(file, swap)), { uuid: SOURCE, label: 'source' });
    const disk = new Overlay(file);
    disk.run(swap.restore(disk.bytes, new Map(Object.entries({ uuid: TARGET, label: 'target' }))));
    t.ok(onlyWithin(disk.changed(), [[1036, 32]]), `${page}`);
    disk.close();
    const { written } = restoreIn(file, swap, { uuid: TARGET, label: 'target' });
    t.strictSame(written, ['uuid', 'label']);
    t.match(await blkid(file), { TYPE: 'swap', UUID: TARGET, LABEL: 'target' });
    t.match(await must('swaplabel', [file]), `LABEL: target\nUUID:  ${TARGET}`);
    t.strictSame(valuesOf(detectIn(file, swap)), { uuid: TARGET, label: 'target' });
  }
});

t.test('a label alone, an empty one, one of all 16 bytes', { skip }, async (t) => {
  const file = await made('labels');
  for (const label of ['', 'sixteen bytes ok', 'ä']) {
    t.strictSame(restoreIn(file, swap, { label }).written, ['label']);
    t.strictSame(valuesOf(detectIn(file, swap)), { uuid: SOURCE, label });
  }
  t.throws(() => restoreIn(file, swap, { label: 'seventeen bytes !' }), { code: 'identity-invalid' });
});

t.test('a hibernated system is reported and stays', { skip }, async (t) => {
  for (const signature of ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001']) {
    const disk = new Overlay(await made(signature));
    disk.put(4086n, Buffer.from(signature.padEnd(10, '\0')));
    const written = disk.changed();
    t.match(disk.run(swap.detect(disk.bytes)), { unsupported: [{ field: 'uuid' }, { field: 'label' }] });
    const restored = disk.run(swap.restore(disk.bytes, new Map([['uuid', TARGET]])));
    t.match(restored, { written: [], unsupported: [{ field: 'uuid', reason: SOURCE }] });
    t.strictSame(disk.changed(), written);
    disk.close();
  }
});

t.test(
  'a signature without a header of version 1 is damage; without signature it is none',
  { skip },
  async (t) => {
    const disk = new Overlay(await made('version'));
    t.teardown(() => disk.close());
    disk.put(1024n, Uint8Array.of(7));
    t.throws(() => disk.run(swap.detect(disk.bytes)), { code: 'identity-damaged' });
    disk.put(4086n, Buffer.alloc(10));
    t.equal(disk.run(swap.detect(disk.bytes)), null);
    t.match(disk.run(swap.restore(disk.bytes, new Map([['uuid', TARGET]]))), {
      written: [],
      unsupported: [],
    });
  },
);

t.test('noise', { skip }, async (t) => {
  const file = await made('noise');
  const before = readFileSync(file);
  t.comment(cost(file, swap, { uuid: TARGET }));
  survivesNoise(t, swap, file, { uuid: TARGET, label: 'x' });
  survivesRandomBytes(t, swap, blank(join(folder, 'zeros'), 1 << 20), [[4086, 'SWAPSPACE2']]);
  t.ok(readFileSync(file).equals(before));
});
