// Identity in files of VMware: descriptors of disks, which qemu-img makes and judges, and configurations of VMs.

import { closeSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { vmdk } from '../../../src/identity/vmdk.js';
import { vmx } from '../../../src/identity/vmx.js';
import {
  blank,
  copyOf,
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

const folder = t.testdir();
const skip = missing('qemu-img');
const CID = '0badcafe';

async function image(name: string, subformat: string): Promise<string> {
  const file = join(folder, name);
  await must('qemu-img', ['create', '-q', '-f', 'vmdk', '-o', `subformat=${subformat}`, file, '8M']);
  return file;
}

async function cidOf(file: string): Promise<unknown> {
  const told = JSON.parse(await must('qemu-img', ['info', '--output=json', file]));
  return told['format-specific'].data.cid;
}

function start(file: string, bytes: number): string {
  const fd = openSync(file, 'r');
  const buffer = Buffer.alloc(bytes);
  readSync(fd, buffer, 0, bytes, 0);
  closeSync(fd);
  return buffer.toString('latin1');
}

t.test(
  'the CID, as qemu-img sees it: in a descriptor of its own, and inside an extent',
  { skip },
  async (t) => {
    for (const subformat of ['monolithicFlat', 'monolithicSparse', 'streamOptimized']) {
      const file = await image(`${subformat}.vmdk`, subformat);
      const before = statSync(file).size;
      const [descriptor = 0, bytes = before] = subformat === 'monolithicFlat' ? [] : [512, 20 * 512];
      const { cid } = valuesOf(detectIn(file, vmdk));
      t.equal(Number.parseInt(cid ?? '', 16), await cidOf(file), subformat);
      const disk = new Overlay(file);
      disk.run(vmdk.restore(disk.bytes, new Map([['cid', CID]])));
      t.ok(onlyWithin(disk.changed(), [[descriptor, bytes]]), `${subformat}: only the descriptor`);
      disk.close();
      t.strictSame(restoreIn(file, vmdk, { cid: CID }).written, ['cid']);
      t.equal(await cidOf(file), 0x0badcafe);
      t.equal(statSync(file).size, before, 'the same length');
      await must('qemu-img', ['check', file]).catch((error: Error) => {
        if (!/does not support checks/.test(error.message)) throw error;
      });
    }
  },
);

const DESCRIPTOR = [
  '# Disk DescriptorFile',
  'version=1',
  'CID=12ab',
  'parentCID=ffffffff',
  'createType="vmfs"',
  '# Extent description',
  'RW 16384 VMFS "disk-flat.vmdk"',
  'ddb.longContentID = "00112233445566778899aabbccddeeff"',
  'ddb.uuid = "60 00 C2 9B 5A 1F 00 11-22 33 44 55 66 77 88 99"',
  '',
].join('\n');

t.test('all ids of a descriptor, in the forms in which they stand there', async (t) => {
  const file = join(folder, 'descriptor.vmdk');
  writeFileSync(file, `${DESCRIPTOR}\n\n\n\n`);
  t.strictSame(valuesOf(detectIn(file, vmdk)), {
    cid: '000012ab',
    'long-content-id': '00112233445566778899aabbccddeeff',
    uuid: '6000c29b-5a1f-0011-2233-445566778899',
  });
  const wanted = {
    cid: CID,
    'long-content-id': 'ff'.repeat(16),
    uuid: '6000c29b-0000-4000-8000-0000000000aa',
  };
  t.strictSame(restoreIn(file, vmdk, wanted).unsupported, []);
  t.strictSame(valuesOf(detectIn(file, vmdk)), wanted);
  const text = readFileSync(file, 'utf8');
  t.match(text, '\nCID=0badcafe\n');
  t.match(text, 'ddb.uuid = "60 00 C2 9B 00 00 40 00-80 00 00 00 00 00 00 AA"\n');
  t.equal(text.length, DESCRIPTOR.length + 4, 'blank lines made room for a longer CID');
  t.throws(() => restoreIn(file, vmdk, { cid: 'no' }), { code: 'identity-invalid' });
});

t.test('without room a longer value is reported, and nothing of it written', async (t) => {
  const file = join(folder, 'tight.vmdk');
  writeFileSync(file, DESCRIPTOR.trimEnd());
  const restored = restoreIn(file, vmdk, { cid: CID, 'long-content-id': 'ee'.repeat(16) });
  t.strictSame(restored.written, ['long-content-id'], 'what needs no room is written');
  t.match(restored.unsupported, [{ field: 'cid', reason: /nothing behind the text is free/ }]);
  t.equal(valuesOf(detectIn(file, vmdk)).cid, '000012ab');
});

t.test('an image that continues another says so; a split one names its descriptor', { skip }, async (t) => {
  const file = join(folder, 'child.vmdk');
  writeFileSync(file, DESCRIPTOR.replace('parentCID=ffffffff', 'parentCID=12345678'));
  t.match(detectIn(file, vmdk)?.notes, [/continues another image, of CID 12345678/]);
  await image('split.vmdk', 'twoGbMaxExtentSparse');
  t.match(detectIn(join(folder, 'split-s001.vmdk'), vmdk), { fields: [], notes: [/a file of its own/] });
});

t.test('a header that leads astray is damage', { skip }, async (t) => {
  const file = await image('astray.vmdk', 'monolithicSparse');
  for (const [at, byte] of [
    [43, 255],
    [4, 9],
    [512, 0],
  ] as const) {
    const disk = new Overlay(file);
    disk.put(BigInt(at), Uint8Array.of(byte));
    t.throws(() => disk.run(vmdk.detect(disk.bytes)), { code: 'identity-damaged' }, `${at}`);
    disk.close();
  }
  t.match(start(file, 4), 'KDMV');
});

const VMX = [
  '.encoding = "UTF-8"',
  'config.version = "8"',
  'displayName = "db |22one|22"',
  'uuid.bios = "56 4d 11 11 11 11 11 11-11 11 11 11 11 11 11 11"',
  'uuid.location = "56 4d 22 22 22 22 22 22-22 22 22 22 22 22 22 22"',
  'ethernet0.generatedAddress = "00:0c:29:00:00:01"',
  'ethernet1.address = "00:50:56:00:00:02"',
  'ethernet1.addressType = "static"',
  'memsize = "1024"',
  '',
].join('\r\n');

t.test('a configuration of a VM: its values, and others of any length in the same bytes', async (t) => {
  const file = join(folder, 'vm.vmx');
  writeFileSync(file, VMX);
  t.strictSame(valuesOf(detectIn(file, vmx)), {
    name: 'db "one"',
    uuid: '564d1111-1111-1111-1111-111111111111',
    'location-uuid': '564d2222-2222-2222-2222-222222222222',
    'nic/ethernet0/generated-mac': '00:0c:29:00:00:01',
    'nic/ethernet1/mac': '00:50:56:00:00:02',
  });
  const wanted = {
    name: 'a"|#',
    uuid: '564d3333-3333-3333-3333-333333333333',
    'location-uuid': '564d4444-4444-4444-4444-444444444444',
    'nic/ethernet0/generated-mac': '00:0c:29:00:00:09',
    'nic/ethernet1/mac': '00:50:56:00:00:08',
  };
  t.strictSame(restoreIn(file, vmx, wanted).unsupported, []);
  t.strictSame(valuesOf(detectIn(file, vmx)), wanted);
  const text = readFileSync(file, 'utf8');
  t.equal(text.length, VMX.length, 'the same length');
  t.match(text, 'displayName = "a|22|7C|23"\r\n');
  t.match(text, 'uuid.bios = "56 4d 33 33 33 33 33 33-33 33 33 33 33 33 33 33"\r\n');
  t.match(restoreIn(file, vmx, { name: 'much longer than there is room for' }).unsupported, [
    { field: 'name' },
  ]);
  t.equal(readFileSync(file, 'utf8'), text);
  restoreIn(file, vmx, { name: 'db "one"' });
  t.equal(valuesOf(detectIn(file, vmx)).name, 'db "one"', 'the room that was made is used again');
});

t.test('what is no configuration is none, in no time', async (t) => {
  const file = join(folder, 'other');
  for (const text of [
    'a = "b"\n',
    '',
    '\0\0',
    `config.version = "8"\n\0x`,
    `${'a=' + ' '.repeat(500_000)}x y`,
  ]) {
    writeFileSync(file, text);
    t.equal(detectIn(file, vmx), null, text.slice(0, 20));
    t.equal(detectIn(file, vmdk), null);
  }
});

t.test('noise', { skip }, async (t) => {
  const sparse = await image('noise.vmdk', 'monolithicSparse');
  t.comment(cost(sparse, vmdk, { cid: CID }));
  survivesNoise(t, vmdk, sparse, { cid: CID });
  const file = join(folder, 'noise.vmx');
  writeFileSync(file, `${VMX}\n\n\n`);
  survivesNoise(t, vmx, copyOf(file, `${file}-copy`), {
    name: 'x',
    uuid: '564d3333-3333-3333-3333-333333333333',
  });
  const zeros = blank(join(folder, 'zeros'), 1 << 20);
  survivesRandomBytes(t, vmdk, zeros, [[0, 'KDMV\x01\0\0\0']]);
  survivesRandomBytes(t, vmx, zeros, [[0, 'config.version = "8"\n']]);
});
