// The definition of a libvirt domain in a file: another one's values in the same number of bytes, and still well-formed.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { libvirtDomain } from '../../../src/identity/libvirt-domain.js';
import {
  blank,
  detectIn,
  restoreIn,
  survivesNoise,
  survivesRandomBytes,
  valuesOf,
} from '../../support/identity-images.js';
import { missing, must } from '../../support/programs.js';

const folder = t.testdir();
const skip = missing('xmllint');

function domain(name: string, source = '/var/a.img'): string {
  return `<domain type='kvm'>
  <name>${name}</name>
  <uuid>11111111-1111-4111-8111-111111111111</uuid>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${source}'/><target dev='vda' bus='virtio'/><serial>s</serial></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/></interface>
  </devices>
</domain>`;
}

function made(text: string): string {
  const file = join(folder, 'domain.xml');
  writeFileSync(file, text);
  return file;
}

const UUID = '22222222-2222-4222-8222-222222222222';

t.test(
  'shorter, as long, and longer where there is room: the same length, well-formed',
  { skip },
  async (t) => {
    for (const [text, name] of [
      [`${domain('source')}\n`, 'a'],
      [`${domain('source')}\n`, 'target'],
      [`${domain('source')}\n\n    \n\n`, 'much longer'],
      [`${domain('source')}\n${'\0'.repeat(700)}`, 'behind which zeros follow'],
    ] as const) {
      const file = made(text);
      t.strictSame(restoreIn(file, libvirtDomain, { name, uuid: UUID }).unsupported, [], name);
      t.match(valuesOf(detectIn(file, libvirtDomain)), { name, uuid: UUID });
      t.equal(readFileSync(file).length, Buffer.byteLength(text), 'the same length');
      t.notOk(readFileSync(file).includes(0), 'zeros are no white space');
      await must('xmllint', ['--noout', file]);
    }
  },
);

t.test('without room the longer value is reported, and the others written', { skip }, async (t) => {
  const file = made(domain('source'));
  const restored = restoreIn(file, libvirtDomain, { name: 'longer than source', uuid: UUID });
  t.match(restored, {
    written: ['uuid'],
    unsupported: [{ field: 'name', reason: /nothing behind the text is free/ }],
  });
  t.match(valuesOf(detectIn(file, libvirtDomain)), { name: 'source', uuid: UUID });
  await must('xmllint', ['--noout', file]);
});

t.test('where a disk lies is written whole or not at all', async (t) => {
  const text = domain('source');
  const file = made(text);
  const wanted = {
    'disk/vda/format': 'qcow2',
    'disk/vda/source': "<source file='/a/much/longer/path/than/that.qcow2'/>",
    'disk/vda/type': 'file',
    'disk/vda/serial': 't',
  };
  const restored = restoreIn(file, libvirtDomain, wanted);
  t.strictSame(restored.written, ['disk/vda/serial']);
  t.strictSame(restored.unsupported.map(({ field }) => field).sort(), Object.keys(wanted).slice(0, 3).sort());
  t.match(valuesOf(detectIn(file, libvirtDomain)), { 'disk/vda/format': 'raw' });
});

t.test('other XML, and what only begins as a domain', async (t) => {
  t.equal(detectIn(made('<network><name>a</name></network>'), libvirtDomain), null);
  t.equal(detectIn(made('<domain><title>no name</title></domain>'), libvirtDomain), null);
  t.equal(detectIn(made('<!---->'.repeat(500)), libvirtDomain), null, 'in no time');
  t.ok(detectIn(made(`<?xml version="1.0"?>\n<!-- virsh -->\n${domain('a')}`), libvirtDomain));
  t.throws(() => detectIn(made('<domain><name>a</name>'), libvirtDomain), { code: 'identity-damaged' });
});

t.test('noise', async (t) => {
  survivesNoise(t, libvirtDomain, made(`${domain('source')}\n\n`), { name: 'x', uuid: UUID });
  survivesRandomBytes(t, libvirtDomain, blank(join(folder, 'zeros'), 1 << 20), [
    [0, '<domain><name>a</name></domain>'],
  ]);
});
