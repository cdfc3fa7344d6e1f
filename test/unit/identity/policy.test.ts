// What becomes of each field: the defaults, the rules people give, and that a restore by the plan reads back as planned.

import { deepStrictEqual, ok, strictEqual } from 'node:assert';
import fc from 'fast-check';
import t from 'tap';
import { type DiskIdentity, inspectDisk } from '../../../src/identity/disk.js';
import { restoreDisk } from '../../../src/identity/disk-restore.js';
import { formatGuid, formatUuid } from '../../../src/identity/formats.js';
import type { Kind } from '../../../src/identity/kind.js';
import { namesOfKind } from '../../../src/identity/kind-names.js';
import {
  type IdentityPlan,
  type PolicyInputs,
  planIdentity,
  unrestored,
  wantedFields,
} from '../../../src/identity/policy.js';
import { reportOf } from '../../../src/identity/report.js';
import type { IdentityRule } from '../../../src/identity/rules.js';
import { fakeBytes, fakeKind, type MadePartition, makeGpt } from '../../support/identity-fake.js';
import { codeOf, MemoryDisk } from '../../support/identity-memory.js';
import { replay } from '../../support/replay.js';

const KINDS: readonly Kind[] = [fakeKind('ext', 0n), fakeKind('xfs', 0n)];
const LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4';
const ESP = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B';
const SECTORS = 2048;
const UUIDS = [1, 2, 3, 4, 5, 6, 7, 8].map((digit) => formatUuid(Buffer.alloc(16, digit * 0x11)));
const guid = (digit: number): string => formatGuid(Buffer.alloc(16, digit * 0x11));

interface MadeDisk {
  guid: string;
  partitions: (MadePartition & { inside: { family: string; uuid: string; label: string } | null })[];
}

function make({ guid, partitions }: MadeDisk): MemoryDisk {
  const disk = Buffer.alloc(SECTORS * 512);
  makeGpt(disk, guid, partitions);
  for (const { first, inside } of partitions)
    if (inside !== null) fakeBytes(inside.family, inside).copy(disk, first * 512);
  return new MemoryDisk(disk);
}

function read(disk: MemoryDisk): DiskIdentity {
  return disk.run(inspectDisk(disk.bytes, KINDS));
}

function diskOf(digit: number, label: string, types = [ESP, LINUX]): MadeDisk {
  return {
    guid: guid(digit),
    partitions: types.map((type, index) => ({
      first: 64 + index * 64,
      sectors: 64,
      type,
      guid: guid(digit + 1 + index),
      name: `${label}${index}`,
      inside: { family: 'ext', uuid: UUIDS[digit + index]!, label },
    })),
  };
}

const TARGET = diskOf(1, 'target');
const SOURCE = diskOf(4, 'source');

function plan(inputs: Partial<PolicyInputs> & { rules?: IdentityRule[] }): IdentityPlan {
  return planIdentity({
    target: read(make(TARGET)),
    content: read(make(SOURCE)),
    bootDiskInSync: false,
    firmwareOutside: true,
    rules: [],
    random: (bytes) => Buffer.alloc(bytes, 0xff),
    ...inputs,
  });
}

const statesOf = (made: IdentityPlan): Record<string, string> =>
  Object.fromEntries(made.fields.map(({ label, state }) => [label, state]));

t.test('a data disk keeps all that the target had', async (t) => {
  const made = plan({});
  t.strictSame(statesOf(made), {
    'disk/disk.disk-guid': 'overwritten',
    'disk/disk.signature': 'same',
    'partition-1/partition.guid': 'overwritten',
    'partition-1/partition.name': 'overwritten',
    'partition-2/partition.guid': 'overwritten',
    'partition-2/partition.name': 'overwritten',
    'partition-1/fs.uuid': 'overwritten',
    'partition-1/fs.label': 'overwritten',
    'partition-2/fs.uuid': 'overwritten',
    'partition-2/fs.label': 'overwritten',
  });
  t.equal(made.fields.find(({ label }) => label === 'partition-2/fs.label')?.wanted, 'target');
  t.strictSame(made.gone, []);
});

t.test('with a boot disk in the sync all is taken but the GUID of the ESP', async (t) => {
  const made = plan({ bootDiskInSync: true });
  t.strictSame(
    made.fields.filter(({ state }) => state === 'overwritten').map(({ label }) => label),
    ['partition-1/partition.guid'],
  );
  t.equal(made.fields.filter(({ state }) => state === 'skipped').length, 8);
  t.strictSame(wantedFields(plan({ bootDiskInSync: true, firmwareOutside: false })), []);
});

t.test('the last rule that matches decides', async (t) => {
  const rule = (field: string, policy: IdentityRule['policy']): IdentityRule => ({ field, policy });
  const of = (...rules: IdentityRule[]) => {
    const { fields } = plan({ rules });
    return (label: string) => fields.find((field) => field.label === label);
  };
  const kept = of(rule('all', 'take'), rule('FS', 'keep'), rule('partition-2/ext4.uuid', 'new'));
  t.equal(kept('disk/disk.disk-guid')?.state, 'skipped');
  t.equal(kept('partition-1/fs.uuid')?.state, 'overwritten');
  t.equal(kept('partition-2/fs.uuid')?.state, 'fresh');
  t.equal(kept('partition-2/fs.uuid')?.wanted, 'ffffffff-ffff-4fff-bfff-ffffffffffff');
  t.equal(kept('partition-2/fs.label')?.state, 'overwritten');
  const made = of(
    rule('gpt', 'new'),
    rule('gpt.disk-guid', 'keep'),
    rule('partition-1/partition.guid', 'take'),
  );
  t.equal(made('disk/disk.disk-guid')?.policy, 'keep');
  t.equal(made('partition-1/partition.guid')?.state, 'skipped');
  t.equal(made('partition-2/partition.guid')?.state, 'fresh');
  t.equal(made('partition-2/partition.name')?.state, 'skipped');
  t.match(made('partition-2/partition.name')?.reason, /not made up/);
  t.equal(of(rule('ext.label', 'take'))('partition-1/fs.label')?.state, 'skipped');
});

t.test(
  'a pattern that could match nothing is refused with what there is; one that matches nothing here is not',
  async (t) => {
    const rules =
      (field: string): (() => unknown) =>
      () =>
        plan({ rules: [{ field, policy: 'take' }] });
    for (const bad of [
      '',
      'fz',
      'fs.uid',
      'gpt.label',
      'partition-0/fs',
      'part-2/fs',
      'fs.uuid.x',
      'a/b/c',
      'fs uuid',
      'xfs.disk-guid',
      'lvm.lv/data/uid',
    ])
      t.equal(codeOf(rules(bad)), 'identity-invalid', bad);
    t.throws(rules('fs.uid'), /fields of fs are label, serial, uuid/);
    t.throws(rules('fz'), /subjects are all, btrfs, crypto_luks, disk/);
    for (const good of [
      'partition-77/fs',
      'xfs.uuid',
      'LVM2_member',
      'lvm.lv/data/uuid',
      'crypto_LUKS.uuid',
      'all.uuid',
      'disk/all',
    ])
      t.equal(codeOf(rules(good)), null, good);
  },
);

t.test(
  'a kind goes by each of its names, and a field of several parts by all of it or the last',
  async (t) => {
    const content = read(make(SOURCE));
    const [table, ...parts] = content.parts;
    const lvm = parts.map((part) => ({
      ...part,
      family: 'lvm',
      found: {
        kind: 'LVM2_member',
        fields: ['root', 'home'].map((name) => {
          return { name: `lv/${name}/uuid`, group: 'lvm', format: 'lvm', value: 'x' } as const;
        }),
        unsupported: [],
        notes: [],
      },
    }));
    const fresh = (field: string): string[] => {
      const inputs = {
        content: { ...content, parts: [table!, ...lvm] },
        rules: [{ field, policy: 'new' } as const],
      };
      return plan({ ...inputs, random: (bytes) => Buffer.alloc(bytes, 7) }).fields.flatMap(
        ({ label, state }) => (state === 'fresh' ? [label] : []),
      );
    };
    const all = ['1', '2'].flatMap((number) =>
      ['root', 'home'].map((name) => `partition-${number}/lvm.lv/${name}/uuid`),
    );
    for (const same of ['lvm', 'LVM2_member', 'lvm2_member.uuid']) t.strictSame(fresh(same), all, same);
    t.strictSame(fresh('partition-2/lvm.lv/home/uuid'), [all[3]]);
    t.strictSame(namesOfKind('ext', 'ext3'), ['ext', 'ext3']);
    t.strictSame(namesOfKind('fat', 'vfat'), ['fat', 'vfat']);
    t.strictSame(namesOfKind('LVM2_member', 'LVM2_member'), ['lvm2_member', 'lvm']);
  },
);

t.test('what only one of the two has is foreign or gone', async (t) => {
  const content = read(
    make({ ...SOURCE, partitions: [SOURCE.partitions[0]!, { ...SOURCE.partitions[1]!, first: 256 }] }),
  );
  const made = plan({ content });
  t.strictSame(
    made.fields.filter(({ state }) => state === 'foreign').map(({ label }) => label),
    [
      'partition-2/partition.guid',
      'partition-2/partition.name',
      'partition-2/fs.uuid',
      'partition-2/fs.label',
    ],
  );
  t.strictSame(made.gone.map(({ label, before }) => `${label} ${before}`).sort(), [
    `partition-2/fs.label target`,
    `partition-2/fs.uuid ${UUIDS[2]}`,
    `partition-2/partition.guid ${guid(3)}`,
    'partition-2/partition.name target1',
  ]);
  const blank = plan({ target: null });
  t.ok(blank.fields.every(({ state }) => state === 'foreign'));
  const fresh = plan({ target: null, rules: [{ field: 'all', policy: 'new' }] });
  t.equal(fresh.fields.filter(({ state }) => state === 'fresh').length, 5);
  t.equal(fresh.fields.find(({ field }) => field === 'signature')?.state, 'skipped');
});

t.test('a kind says what it cannot write, and the plan does not drop it', async (t) => {
  const content = read(make(SOURCE));
  const parts = content.parts.map((part) =>
    part.title !== 'partition 2'
      ? part
      : {
          ...part,
          found: {
            ...part.found,
            unsupported: [
              { field: 'uuid', reason: 'Keys derive from it.' },
              { field: 'hidden', reason: 'It is on another disk.' },
            ],
          },
        },
  );
  const odd = { ...content, parts };
  const made = plan({ content: odd });
  t.match(
    made.fields.find(({ label }) => label === 'partition-2/fs.uuid'),
    {
      state: 'unsupported',
      wanted: null,
      reason: 'Keys derive from it.',
    },
  );
  t.match(
    made.fields.find(({ label }) => label === 'partition-2/ext4.hidden'),
    { state: 'unsupported', source: null },
  );
  t.equal(
    statesOf(plan({ content: odd, rules: [{ field: 'all', policy: 'take' }] }))['partition-2/fs.uuid'],
    'skipped',
  );
  const report = reportOf({
    target: read(make(TARGET)),
    content: odd,
    boot: odd.bootable,
    plan: made,
    restored: null,
  });
  t.strictSame(
    report.unsupported.map(({ field }) => field),
    ['partition-2/fs.uuid', 'partition-2/ext4.hidden'],
  );
  t.equal(report.unsupported[0]?.now, UUIDS[5], 'the value that is seen afterwards');
});

t.test('a value that does not read back is found', async (t) => {
  const made = plan({});
  const disk = make(SOURCE);
  const restored = disk.run(restoreDisk(disk.bytes, KINDS, wantedFields(made)));
  t.strictSame(unrestored(made, read(disk), restored), []);
  const lost = unrestored(made, read(make(SOURCE)), restored);
  t.equal(lost.length, 9);
  t.match(lost[0], { label: 'disk/disk.disk-guid', wanted: guid(1), seen: guid(4) });
});

t.test('a report has every field in one list, and is plain', async (t) => {
  const target = read(make(TARGET));
  const disk = make(SOURCE);
  const content = read(disk);
  const made = plan({
    rules: [
      { field: 'fs.label', policy: 'take' },
      { field: 'gpt.disk-guid', policy: 'new' },
    ],
  });
  const restored = disk.run(restoreDisk(disk.bytes, KINDS, wantedFields(made)));
  const report = reportOf({ target, content, boot: content.bootable, plan: made, restored });
  t.strictSame(JSON.parse(JSON.stringify(report)), report);
  const { restored: back, unsupported, skipped, foreign, fresh, same, overwritten, captured } = report;
  t.equal([back, unsupported, skipped, foreign, fresh, same].flat().length, made.fields.length);
  t.equal(overwritten.length, 9);
  t.equal(captured.length, 10);
  t.equal(report.boot, 'partition 1 is an EFI system partition');
  t.strictSame(
    fresh.map(({ field }) => field),
    ['disk/disk.disk-guid'],
  );
  t.strictSame(
    skipped.map(({ field, now }) => `${field} ${now}`),
    ['partition-1/fs.label source', 'partition-2/fs.label source'],
  );
  const dry = reportOf({ target, content, boot: content.bootable, plan: made, restored: null });
  t.strictSame(dry.restored, []);
  t.equal(dry.overwritten.length, 9);
});

const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 });
const text = fc.string({ maxLength: 8 }).filter((value) => !/[\0]/.test(value) && value.trimEnd() === value);
const randomDisk: fc.Arbitrary<MadeDisk> = fc.record({
  guid: uuid.map(formatGuid),
  partitions: fc
    .array(
      fc.record({
        slot: fc.nat({ max: 3 }),
        type: fc.constantFrom(ESP, LINUX),
        guid: uuid.map(formatGuid),
        name: text,
        inside: fc.option(
          fc.record({ family: fc.constantFrom('ext', 'xfs'), uuid: uuid.map(formatUuid), label: text }),
        ),
      }),
      { maxLength: 4 },
    )
    .map((all) =>
      all
        .filter(({ slot }, index) => all.findIndex((other) => other.slot === slot) === index)
        .map(({ slot, ...partition }) => ({ ...partition, first: 64 + slot * 64, sectors: 64 })),
    ),
});
const randomRules = fc.array(
  fc.record({
    field: fc.constantFrom(
      'all',
      'fs',
      'fs.uuid',
      'disk',
      'gpt',
      'partition.guid',
      'ext4.label',
      'xfs',
      'partition-1/all',
      'partition-2/fs.label',
    ),
    policy: fc.constantFrom('keep', 'take', 'new'),
  }),
  { maxLength: 4 },
) as fc.Arbitrary<IdentityRule[]>;

t.test('restore(capture(x), y) reads as y, with the identity of x where it is kept', async (t) => {
  fc.assert(
    fc.property(
      randomDisk,
      randomDisk,
      randomRules,
      fc.boolean(),
      fc.boolean(),
      (x, y, rules, boot, firmwareOutside) => {
        const target = read(make(x));
        const disk = make(y);
        const content = read(disk);
        let byte = 0;
        const random = (bytes: number): Uint8Array => Buffer.alloc(bytes, ++byte);
        const made = planIdentity({ target, content, bootDiskInSync: boot, firmwareOutside, rules, random });
        const restored = disk.run(restoreDisk(disk.bytes, KINDS, wantedFields(made)));
        const after = read(disk);
        deepStrictEqual(unrestored(made, after, restored), []);
        deepStrictEqual(valuesOf(after), expected(target, content, made));
        deepStrictEqual(after.notes, content.notes);
        const counted = reportOf({ target, content, boot: content.bootable, plan: made, restored });
        strictEqual(counted.captured.length, valuesOf(target).size);
        checkKept(x, y, rules, boot, after);
      },
    ),
    replay({ quick: 60, normal: 400, long: 4000 }),
  );
  t.pass('every pair of disks');
});

function valuesOf(identity: DiskIdentity): Map<string, string> {
  return new Map(
    identity.parts.flatMap(({ place, family, found }) =>
      found.fields.map(({ name, value }) => [`${place} ${family} ${name}`, value] as const),
    ),
  );
}

/** From the states alone, and the two disks. */
function expected(target: DiskIdentity, content: DiskIdentity, made: IdentityPlan): Map<string, string> {
  const [before, values] = [valuesOf(target), valuesOf(content)];
  for (const { place, family, field, state, wanted } of made.fields) {
    const key = `${place} ${family} ${field}`;
    if (state === 'overwritten') values.set(key, before.get(key)!);
    else if (state === 'fresh') values.set(key, wanted!);
    else if (state === 'same') strictEqual(before.get(key), values.get(key));
  }
  return values;
}

/** Told without the plan: with no rules a data disk has x's ids wherever x had the same partition with the same kind inside. */
function checkKept(
  x: MadeDisk,
  y: MadeDisk,
  rules: IdentityRule[],
  boot: boolean,
  after: DiskIdentity,
): void {
  if (rules.length > 0) return;
  const values = valuesOf(after);
  strictEqual(values.get('disk gpt disk-guid'), boot ? y.guid : x.guid);
  for (const { first, type, inside } of y.partitions) {
    if (inside === null) continue;
    const other = x.partitions.find((one) => one.first === first && one.type === type)?.inside;
    const kept = !boot && other?.family === inside.family ? other : inside;
    strictEqual(values.get(`${first}:${type} ${inside.family} uuid`), kept.uuid);
    strictEqual(values.get(`${first}:${type} ${inside.family} label`), kept.label);
  }
  ok(values.size > 0);
}
