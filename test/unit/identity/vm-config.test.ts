// Identity of a VM in its configuration: read and put back in the text itself, judged by libvirt's own schema and by texts made of pieces.

import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  firstBootDisk,
  inspectConfig,
  MAX_CONFIG_LENGTH,
  restoreConfig,
} from '../../../src/identity/vm-config.js';
import { codeOf } from '../../support/identity-memory.js';
import { missing, must } from '../../support/programs.js';
import { replay } from '../../support/replay.js';

const SKIP = missing('virt-xml-validate', 'xmllint');

interface Machine {
  name: string;
  uuid: string;
  title: string;
  mac: string;
  mac2: string;
  slot: string;
  file: string;
  serial: string;
  port: string;
  service: string;
  nvram: string;
}

const TARGET: Machine = {
  name: 'target',
  uuid: '11111111-2222-4333-8444-555555555555',
  title: 'The target',
  mac: '52:54:00:00:00:01',
  mac2: '52:54:00:00:00:02',
  slot: '0x03',
  file: '/images/target.img',
  serial: 'T-0001',
  port: '5901',
  service: '4001',
  nvram: '/nvram/target.fd',
};
const SOURCE: Machine = {
  name: 'source &amp; co',
  uuid: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
  title: 'The source',
  mac: '52:54:00:00:00:0a',
  mac2: '52:54:00:00:00:0b',
  slot: '0x03',
  file: '/images/source.img',
  serial: 'S-0001',
  port: '5999',
  service: '4999',
  nvram: '/nvram/source.fd',
};

function domain(machine: Machine, extra = ''): string {
  return `<?xml version='1.0' encoding='UTF-8'?>
<!-- kept: <name>not this</name> -->
<domain type='kvm'   xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>${machine.name}</name>
  <uuid>${machine.uuid}</uuid>
  <title>${machine.title}</title>
  <metadata><a:b xmlns:a="urn:a"><c>${machine.name}</c><!-- </metadata> --></a:b></metadata>
  <memory unit='KiB'>1048576</memory>
  <vcpu>2</vcpu>
  <sysinfo type='smbios'>
    <system>
      <entry name="manufacturer">kept</entry>
      <entry name='uuid'>${machine.uuid}</entry>
      <entry name='serial'>${machine.serial}</entry>
    </system>
  </sysinfo>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF.fd</loader>
    <nvram template="/t.fd">${machine.nvram}</nvram>
    <smbios mode='sysinfo'/>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='cdrom'>
      <target dev='sda' bus='sata'/>
      <readonly/>
      <boot order='1'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='${machine.file}'/>
      <target dev="vda" bus='virtio'/>
      <serial>${machine.serial}</serial>
      <boot order='3'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/${machine.serial}'/>
      <target dev='vdb' bus='virtio'/>
      <boot order='2'/>
    </disk>
    <interface type='network'>
      <mac address="${machine.mac}"/>
      <source network='default'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='${machine.slot}' function='0x0'/>
    </interface>
    <interface type='bridge'>
      <mac address='${machine.mac2}'/>
      <source bridge='br0'/>
    </interface>
    <serial type='tcp'>
      <source mode='bind' host='127.0.0.1' service='${machine.service}'/>
      <protocol type='raw'/>
      <target port='0'/>
    </serial>
    <graphics type='vnc' port='${machine.port}' autoport='no' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>${extra}
  </devices>
</domain>
`;
}

function valuesOf(text: string): Map<string, string> {
  return new Map(inspectConfig(text).fields.map(({ name, value }) => [name, value]));
}

t.test('what names a VM is found in its domain', async (t) => {
  t.strictSame(Object.fromEntries(valuesOf(domain(SOURCE))), {
    name: 'source & co',
    uuid: SOURCE.uuid,
    title: 'The source',
    metadata: `<a:b xmlns:a="urn:a"><c>${SOURCE.name}</c><!-- </metadata> --></a:b>`,
    nvram: SOURCE.nvram,
    'sysinfo/system/uuid': SOURCE.uuid,
    'sysinfo/system/serial': SOURCE.serial,
    'nic/0000:00:03.0/mac': SOURCE.mac,
    'nic/#2/mac': SOURCE.mac2,
    'disk/sda/type': 'file',
    'disk/vda/type': 'file',
    'disk/vda/format': 'raw',
    'disk/vda/source': `<source file='${SOURCE.file}'/>`,
    'disk/vda/serial': SOURCE.serial,
    'disk/vdb/type': 'block',
    'disk/vdb/format': 'raw',
    'disk/vdb/source': `<source dev='/dev/${SOURCE.serial}'/>`,
    'graphics/#1/port': SOURCE.port,
    'graphics/#1/listen': '127.0.0.1',
    'graphics/#1/listen/address': '127.0.0.1',
    'serial/#1/source/host': '127.0.0.1',
    'serial/#1/source/service': SOURCE.service,
  });
  const { disks } = inspectConfig(domain(SOURCE));
  t.strictSame(disks[1], {
    target: 'vda',
    slot: null,
    device: 'disk',
    source: SOURCE.file,
    serial: SOURCE.serial,
    bootOrder: 3,
  });
  t.equal(firstBootDisk({ disks })?.target, 'vdb', 'the CD-ROM is no disk, and vdb comes before vda');
  t.equal(firstBootDisk({ disks: disks.map((disk) => ({ ...disk, bootOrder: null })) })?.target, 'vda');
  t.equal(firstBootDisk({ disks: [] }), null);
});

t.test(
  'the source’s document with the identity of the target is the source’s but for the values',
  async (t) => {
    const { text, written, missing } = restoreConfig(domain(SOURCE), valuesOf(domain(TARGET)));
    t.equal(text, domain(TARGET), 'the two documents differ in identity alone');
    t.strictSame(missing, []);
    t.equal(written.length, valuesOf(domain(TARGET)).size);
  },
);

t.test('libvirt’s schema takes the result', { skip: SKIP }, async (t) => {
  const wanted = valuesOf(domain(TARGET));
  wanted.set('description', 'a < b & "c"');
  wanted.set('disk/vdb/serial', 'new');
  wanted.set('disk/vdb/type', 'network');
  wanted.set('disk/vdb/source', "<source protocol='nbd' name='x'><host name='h' port='10809'/></source>");
  wanted.set('disk/sda/source', "<source file='/iso'/>");
  const { text, missing } = restoreConfig(domain(SOURCE), wanted);
  t.strictSame(missing, []);
  const file = path.join(t.testdir(), 'domain.xml');
  for (const one of [domain(SOURCE), text]) {
    writeFileSync(file, one);
    await must('virt-xml-validate', [file, 'domain']);
  }
  t.equal((await must('xmllint', ['--xpath', 'string(/domain/description)', file])).trim(), 'a < b & "c"');
  t.match(text, '<name>target</name>\n  <description>a &lt; b');
  for (const [name, value] of wanted) t.equal(valuesOf(text).get(name), value);
});

t.test('cards are paired by address, the others by order', async (t) => {
  const moved = domain({ ...SOURCE, slot: '0x07' });
  const { text, notes, missing } = restoreConfig(moved, valuesOf(domain(TARGET)));
  t.strictSame(missing, []);
  t.equal(valuesOf(text).get('nic/0000:00:07.0/mac'), TARGET.mac);
  t.equal(valuesOf(text).get('nic/#2/mac'), TARGET.mac2);
  t.match(notes[0], /0000:00:03.0 is paired with 0000:00:07.0 by order/);
  const more = valuesOf(domain(TARGET));
  more.set('nic/0000:00:09.0/mac', '52:54:00:00:00:03');
  t.strictSame(restoreConfig(domain(SOURCE), more).missing, ['nic/0000:00:09.0/mac']);
});

t.test('the UUID of SMBIOS follows that of the domain', async (t) => {
  const { text, notes } = restoreConfig(domain(SOURCE), new Map([['uuid', TARGET.uuid]]));
  t.equal(valuesOf(text).get('sysinfo/system/uuid'), TARGET.uuid);
  t.match(notes[0], /follows/);
});

t.test('values are escaped, whatever the quotes', async (t) => {
  const hard = `a'b"c<d>&e\tf\ng\rh]]>🙂`;
  const text = `<domain><name a="b" /><devices><graphics port='1' listen="2"/></devices></domain>`;
  const wanted = new Map([
    ['name', hard],
    ['graphics/#1/port', hard],
    ['graphics/#1/listen', hard],
  ]);
  const { text: result } = restoreConfig(text, wanted);
  for (const [name, value] of wanted) t.equal(valuesOf(result).get(name), value);
  for (const bad of ['\0', '\u001f', '\ud800', '\uffff'])
    t.equal(
      codeOf(() => restoreConfig(text, new Map([['name', bad]]))),
      'identity-invalid',
    );
});

t.test('markup that would leave its place is refused', async (t) => {
  for (const [field, value] of [
    ['disk/vda/source', '<source file="a"/><x/>'],
    ['disk/vda/source', '<sources/>'],
    ['disk/vda/source', ' <source/>'],
    ['disk/vda/source', '<source/> '],
    ['disk/vda/source', '<source>'],
    ['disk/vda/source', ''],
    ['metadata', '</metadata><x/><metadata>'],
    ['metadata', '<a>'],
  ] as const)
    t.equal(
      codeOf(() => restoreConfig(domain(SOURCE), new Map([[field, value]]))),
      'identity-invalid',
      value,
    );
});

t.test('what is no configuration is refused with the reason', async (t) => {
  const refusals: [string, string, RegExp][] = [
    ['', 'identity-invalid', /neither XML/],
    ['name: x', 'identity-invalid', /neither XML/],
    ['<domain><name>x</domain>', 'identity-damaged', /unexpected close tag/],
    ['<domain>', 'identity-damaged', /well-formed/],
    ['<network><name>x</name></network>', 'identity-invalid', /root is <network>/],
    ['<domain/>', 'identity-invalid', /no <name>/],
    [
      '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><domain><name>&e;</name></domain>',
      'identity-invalid',
      /DOCTYPE/,
    ],
    ['<domain><name>&e;</name></domain>', 'identity-damaged', /undefined entity|well-formed/],
    ["<?xml version='1.0' encoding='latin1'?><domain><name>x</name></domain>", 'identity-invalid', /latin1/],
    [`<domain><name>x</name>${'<a>'.repeat(65)}`, 'identity-invalid', /deeper than 64/],
    [`<domain><name>x</name>${'<a/>'.repeat(20_001)}</domain>`, 'identity-invalid', /more than 20000/],
    [`<domain><name>${'x'.repeat(MAX_CONFIG_LENGTH)}</name></domain>`, 'identity-invalid', /characters/],
    ['{"name": 1}', 'identity-invalid', /no text \/name/],
    ['{"name": "x"', 'identity-damaged', /no JSON/],
    [`{"name": "x", "a": ${'['.repeat(80)}${']'.repeat(80)}}`, 'identity-invalid', /too deep/],
  ];
  for (const [text, code, words] of refusals) {
    t.equal(
      codeOf(() => inspectConfig(text)),
      code,
      text.slice(0, 80),
    );
    t.throws(() => inspectConfig(text), words);
  }
});

t.test('long texts are read in time', async (t) => {
  const length = MAX_CONFIG_LENGTH - 200;
  const before = process.cpuUsage();
  for (const text of [
    `<domain><name>x</name><a b="${'c'.repeat(length)}"/></domain>`,
    `<domain><name>x</name>${'<!-- -->'.repeat(length / 8)}</domain>`,
    `<domain><name>x</name><a ${Array.from({ length: length / 16 }, (_, at) => `a${at}=""`).join(' ')}/></domain>`,
    `{"name": "${'\\\\'.repeat(length / 2)}"}`,
    `{"name": "x", "a": "${'\\"'.repeat(length / 2)}"}`,
  ])
    inspectConfig(text);
  // Processor time, which other work does not change: a step for each pair of characters would take hours.
  t.ok(process.cpuUsage(before).user < 60_000_000);
});

t.test('what belongs to one VM and is not changed is named', async (t) => {
  const extra = `
    <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='1' slot='0' function='0'/></source></hostdev>`;
  t.match(inspectConfig(domain(SOURCE, extra)).notes[0], /1 host devices are named as they came/);
});

const JSON_TEXT = `{ "name" : "source", "other": [1,2 ,{"name":"kept"}],
  "uuid": "u\\u0031",	"metadata": {"a" : [1]},
  "macs": ["52:54:00:00:00:0a"],
  "nics": [ {"slot": "0000:01:00.0", "mac":"m1"}, {"mac": "m2"} ],
  "disks":[{"target":"vda","source":"/s","serial":"s1","bootOrder":2},{"target":"vdb","source":"/t","bootOrder":1}],
  "ports": {"vnc": 5901, "spice": "5902"} }
`;

t.test('a JSON configuration keeps its form', async (t) => {
  t.strictSame(Object.fromEntries(valuesOf(JSON_TEXT)), {
    name: 'source',
    uuid: 'u1',
    metadata: '{"a" : [1]}',
    'nic/#1/mac': '52:54:00:00:00:0a',
    'nic/0000:01:00.0/mac': 'm1',
    'nic/#2/mac': 'm2',
    'disk/vda/source': '/s',
    'disk/vda/serial': 's1',
    'disk/vdb/source': '/t',
    'ports/vnc': '5901',
    'ports/spice': '"5902"',
  });
  t.equal(firstBootDisk(inspectConfig(JSON_TEXT))?.target, 'vdb');
  const wanted = new Map([
    ['name', 'a "b"\n'],
    ['ports/vnc', '5999'],
    ['disk/vda/serial', 'x'],
    ['disk/vdb/serial', 'none'],
  ]);
  const { text, missing } = restoreConfig(JSON_TEXT, wanted);
  t.strictSame(missing, ['disk/vdb/serial']);
  t.equal(
    text,
    JSON_TEXT.replace('"source", "other"', '"a \\"b\\"\\n", "other"')
      .replace('5901', '5999')
      .replace('"s1"', '"x"'),
  );
  t.equal(
    codeOf(() => restoreConfig(JSON_TEXT, new Map([['ports/vnc', '5,"x":1']]))),
    'identity-invalid',
  );
});

/** Texts of which every character may stand in XML. */
const word = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((text) => !/[\p{Cc}\p{Cs}\ufffe\uffff]/u.test(text));
const gap = fc.constantFrom(
  '',
  ' ',
  '\n\t',
  '<!-- <name>c</name> -->',
  '\r\n',
  '<?pi name="x"?>',
  '<x a="1"/>',
  '<![CDATA[<name>]]>',
);
const quote = fc.constantFrom('"', "'");

/** A domain in pieces: what stands between values, and the values as they are written. */
const randomDomain = fc
  .tuple(fc.array(gap, { minLength: 12, maxLength: 12 }), fc.array(quote, { minLength: 4, maxLength: 4 }))
  .map(([g, q]) => ({
    names: ['name', 'uuid', 'nic/#1/mac', 'disk/vda/serial', 'graphics/#1/port', 'nvram'],
    pieces: [
      `<domain>${g[0]}<name>`,
      `</name>${g[1]}<uuid >`,
      `</uuid\n>${g[2]}<devices>${g[3]}<interface>${g[4]}<mac z='1'\n address = ${q[0]}`,
      `${q[0]} b=${q[1]}&lt;${q[1]}/>${g[5]}</interface>${g[6]}<disk><target dev=${q[2]}vda${q[2]}/>${g[7]}<serial>`,
      `</serial>${g[8]}</disk><graphics port=${q[3]}`,
      `${q[3]}></graphics>${g[9]}</devices><os>${g[10]}<nvram>`,
      `</nvram></os>${g[11]}</domain>`,
    ],
  }));

function written(pieces: readonly string[], values: readonly string[]): string {
  const escaped = values.map((value) =>
    value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'),
  );
  return pieces.map((piece, index) => piece + (escaped[index] ?? '')).join('');
}

t.test('a document with another identity is its pieces around the other values', async (t) => {
  const values = fc.array(
    word.filter((text) => !/["']/.test(text)),
    { minLength: 6, maxLength: 6 },
  );
  fc.assert(
    fc.property(randomDomain, values, values, ({ names, pieces }, own, others) => {
      const text = written(pieces, own);
      deepStrictEqual(
        names.map((name) => valuesOf(text).get(name)),
        own,
      );
      strictEqual(restoreConfig(text, valuesOf(text)).text, text);
      const wanted = new Map(names.map((name, index) => [name, others[index]!]));
      const restored = restoreConfig(text, wanted);
      strictEqual(restored.text, written(pieces, others));
      deepStrictEqual(restored.written, names);
      strictEqual(restoreConfig(restored.text, valuesOf(text)).text, text, 'and back');
    }),
    replay({ quick: 100, normal: 400, long: 10_000 }),
  );
  t.pass('every document');
});

t.test('documents that were cut or changed anywhere are read or refused', async (t) => {
  const texts = [domain(SOURCE), JSON_TEXT];
  const piece = fc.constantFrom(
    '<',
    '>',
    '"',
    "'",
    '&',
    '</',
    '{',
    '}',
    '[',
    ',',
    '\\',
    '\0',
    '\ud800',
    '<!--',
    ']]>',
    '<![CDATA[',
    '',
  );
  const wanted = valuesOf(domain(TARGET));
  fc.assert(
    fc.property(
      fc.constantFrom(...texts),
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 5 }), piece), { maxLength: 3 }),
      (text, changes) => {
        let changed = text;
        for (const [at, length, put] of changes) {
          const from = at % changed.length;
          changed = changed.slice(0, from) + put + changed.slice(from + length);
        }
        const code = codeOf(() => inspectConfig(changed));
        ok(code === null || code === 'identity-damaged' || code === 'identity-invalid', String(code));
        if (code !== null) return;
        strictEqual(restoreConfig(changed, valuesOf(changed)).text, changed);
        let restored: ReturnType<typeof restoreConfig> | null = null;
        const second = codeOf(() => {
          restored = restoreConfig(changed, wanted);
        });
        ok(second === null || second === 'identity-invalid', String(second));
        if (restored !== null) valuesOf((restored as ReturnType<typeof restoreConfig>).text);
      },
    ),
    replay({ quick: 100, normal: 400, long: 10_000 }),
  );
  t.pass('every document');
});
