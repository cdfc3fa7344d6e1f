// Virtual machines: made, snapshotted in one instant, synced as one; and ended at every step of such a sync.
import t from 'tap';
import { pairDisks } from '../../../src/operations/vm-pairing.js';
import { PLAIN_SYNC } from '../../support/plain-sync.js';
import { BLOCKS, blocksBytes, type Death, Store } from '../../support/store-harness.js';
import { testIdentity } from '../../support/test-identity.js';
import { until } from '../../support/waiting.js';

const SIZE_BLOCKS = 2 * BLOCKS;
const SIZE = blocksBytes(SIZE_BLOCKS);
const FROM = { volume: 'prod', snapshot: 'now' };

function domain(name: string, uuid: string, disks: readonly string[] = ['vda', 'vdb']): string {
  const list = disks.map(
    (target) =>
      `<disk type='network' device='disk'><source protocol='nbd' name='${name}-${target}'/><target dev='${target}' bus='virtio'/></disk>`,
  );
  return `<domain type='kvm'>\n  <name>${name}</name>\n  <uuid>${uuid}</uuid>\n  <devices>${list.join('')}</devices>\n</domain>\n`;
}

const WEB = domain('web', '11111111-1111-1111-1111-111111111111');
const PROD = domain('prod', '22222222-2222-2222-2222-222222222222').replace(
  '<devices>',
  '<vcpu>4</vcpu><devices>',
);

/** Two machines of two disks each; the identity of each disk is its block 0. */
async function scene(): Promise<Store> {
  const store = await Store.make();
  await store.restart('clean', { identity: () => testIdentity() });
  const { operations } = store;
  let identity = 0;
  for (const [name, config] of [
    ['web', WEB],
    ['prod', PROD],
  ] as const) {
    for (const slot of ['vda', 'vdb']) {
      await operations.createVolume(`${name}-${slot}`, { sizeBytes: SIZE });
      await write(store, `${name}-${slot}`, 0, [++identity, identity * 10]);
    }
    await operations.vms.create(name, config, [
      { slot: 'vda', volume: `${name}-vda` },
      { slot: 'vdb', volume: `${name}-vdb` },
    ]);
  }
  await operations.vms.snapshot('prod', 'now');
  await write(store, 'prod-vda', 1, [99]);
  return store;
}

async function write(store: Store, name: string, block: number, values: number[]): Promise<void> {
  const session = await store.plane.connect(name);
  await session.write(block, values);
  session.flush();
  session.close();
  await quiet(store);
}

async function quiet(store: Store): Promise<void> {
  const { devices } = store.operations.parts;
  await until('the end of the connections', () =>
    devices.all().every(({ connections }) => connections === 0),
  );
}

/** The first blocks of its disks, and its name and processors. */
async function seen(store: Store, vm: string): Promise<unknown> {
  const disks: number[][] = [];
  for (const slot of ['vda', 'vdb']) {
    disks.push((await store.readAll(`${vm}-${slot}`)).slice(0, 2));
    await quiet(store);
  }
  const { config } = store.operations.vms.show(vm);
  return { disks, name: /<name>(.*)<\/name>/.exec(config)?.[1], vcpu: /<vcpu>/.test(config) };
}

const OLD = {
  disks: [
    [1, 10],
    [2, 20],
  ],
  name: 'web',
  vcpu: false,
};
const NEW = {
  disks: [
    [1, 30],
    [2, 40],
  ],
  name: 'web',
  vcpu: true,
};

t.test(
  'all its disks and its configuration, each with its own identity; undo gives all of it back',
  async (t) => {
    const store = await scene();
    t.same(await seen(store, 'web'), OLD);
    const info = await store.operations.syncs.sync('web', FROM, PLAIN_SYNC);
    t.same(await seen(store, 'web'), NEW);
    t.equal(info.disks.length, 2);
    t.match(info.config, { restored: [{ field: 'name', target: 'web', source: 'prod' }, { field: 'uuid' }] });
    await store.restart('power-loss', { identity: () => testIdentity() });
    t.same(await seen(store, 'web'), NEW);
    await store.operations.syncs.undo('web', PLAIN_SYNC);
    t.same(await seen(store, 'web'), OLD);
    t.equal(store.operations.vms.show('web').config, WEB, 'byte for byte');
    await store.end();
  },
);

t.test(
  'a list of pairs: only these disks, and not the configuration; the boot disk only by name',
  async (t) => {
    const store = await scene();
    const { syncs } = store.operations;
    const disks = [{ source: 'vdb', target: 'vdb' }];
    await syncs.sync('web', FROM, { ...PLAIN_SYNC, disks });
    t.same(await seen(store, 'web'), { ...OLD, disks: [OLD.disks[0], NEW.disks[1]] });
    const boot = [{ source: 'vda', target: 'vda' }];
    await t.rejects(syncs.sync('web', FROM, { ...PLAIN_SYNC, disks: boot }), {
      code: 'disks-unpaired',
      hint: /--boot vda/,
    });
    await syncs.sync('web', FROM, { ...PLAIN_SYNC, disks: boot, boot: 'vda' });
    t.same(await seen(store, 'web'), { ...NEW, vcpu: false });
    await store.end();
  },
);

t.test('refused with the reason, and nothing has changed', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.createVolume('other', { sizeBytes: SIZE });
  await operations.createSnapshots([{ volume: 'other', snapshot: 's' }]);
  const one = [{ slot: 'vda', volume: 'other' }];
  const refused: [() => Promise<unknown>, string][] = [
    [() => operations.vms.create('web', WEB, one), 'volume-exists'],
    [() => operations.vms.create('web-vda', WEB, one), 'volume-exists'],
    [() => operations.createVolume('web', { sizeBytes: SIZE }), 'volume-exists'],
    [() => operations.vms.create('x', WEB, [{ slot: 'vda', volume: 'nobody' }]), 'volume-not-found'],
    [() => operations.vms.create('x', WEB, [{ slot: 'vda', volume: 'web-vda' }]), 'volume-in-vm'],
    [() => operations.vms.create('x', WEB, [{ slot: 'sdq', volume: 'other' }]), 'disks-unpaired'],
    [() => operations.vms.create('x', WEB, [...one, ...one]), 'disks-unpaired'],
    [() => operations.vms.create('x', WEB, []), 'disks-unpaired'],
    [() => operations.vms.create('x', '<network/>', one), 'identity-invalid'],
    [() => operations.vms.create('x', '<domain><name>', one), 'identity-damaged'],
    [() => operations.deleteVolume('web-vda'), 'volume-in-vm'],
    [() => operations.vms.snapshot('prod', 'now'), 'snapshot-exists'],
    [() => operations.vms.snapshot('nobody', 'now'), 'vm-not-found'],
    [() => operations.syncs.sync('web', { volume: 'prod', snapshot: 'x' }, PLAIN_SYNC), 'snapshot-not-found'],
    [
      () => operations.syncs.sync('web', { volume: 'other', snapshot: 's' }, PLAIN_SYNC),
      'container-kind-wrong',
    ],
    [() => operations.syncs.sync('other', FROM, PLAIN_SYNC), 'container-kind-wrong'],
    [() => operations.syncs.undo('web', PLAIN_SYNC), 'sync-nothing-to-undo'],
  ];
  for (const [work, code] of refused) await t.rejects(work(), { code }, code);
  t.same(await seen(store, 'web'), OLD);
  t.same(operations.syncs.list(), []);
  await store.end();
});

t.test('a snapshot of which a part was deleted: said, and the rest can be used', async (t) => {
  const store = await scene();
  const { operations } = store;
  await operations.deleteSnapshots([{ volume: 'prod-vda', snapshot: 'now' }]);
  await t.rejects(operations.syncs.sync('web', FROM, PLAIN_SYNC), { code: 'vm-snapshot-incomplete' });
  await operations.syncs.sync('web', FROM, { ...PLAIN_SYNC, disks: [{ source: 'vdb', target: 'vdb' }] });
  t.match(operations.vms.show('prod').snapshotList, [
    { disks: [{ slot: 'vda', snapshot: null }, { snapshot: 'prod-vdb@now' }] },
  ]);
  await operations.vms.deleteSnapshot('prod', 'now');
  t.same(operations.listSnapshots('prod-vdb'), []);
  await operations.vms.delete('prod', { withDisks: true });
  t.same(
    operations.listVolumes().map(({ name }) => name),
    ['web-vda', 'web-vdb'],
  );
  await store.end();
});

t.test('disks that do not pair: refused, with the pairing shown', async (t) => {
  const store = await scene();
  const { catalog } = store.operations.parts;
  const container = catalog.containerNamed('web-vda')!;
  const [snapshot] = [...catalog.snapshots.values()];
  const vm = { name: 'web', config: WEB, disks: [{ slot: 'vda', container }] };
  const source = [{ slot: 'sda', snapshot: snapshot!, kind: 'volume' as const }];
  t.throws(() => pairDisks(vm, source, { disks: null, boot: null, files: false }), {
    code: 'disks-unpaired',
    message: /\(none\) to vda, sda to \(none\)/,
  });
  t.throws(
    () => pairDisks(vm, source, { disks: [{ source: 'sda', target: 'vdx' }], boot: null, files: false }),
    {
      message: /no disk vdx; it has vda/,
    },
  );
  await store.end();
});

for (const death of ['process-death', 'power-loss'] as Death[]) {
  t.test(`${death} at every step of the sync of a virtual machine: all of it or nothing`, async (t) => {
    let finished = false;
    for (let at = 1; !finished; at += 2) {
      const store = await scene();
      let steps = 0;
      const die = (): void => {
        if (++steps === at) store.die(death);
      };
      store.plane.onStep = die;
      store.level.onBatch = die;
      const how = await store.survive(() => store.operations.syncs.sync('web', FROM, PLAIN_SYNC));
      finished = how === 'ended' && steps < at;
      await store.restart(death, { identity: () => testIdentity() });
      const now = JSON.stringify(await seen(store, 'web'));
      const isWhole = now === JSON.stringify(NEW) || now === JSON.stringify(OLD);
      if (!isWhole) t.equal(now, JSON.stringify(OLD), `step ${at}`);
      if (how === 'ended') t.equal(now, JSON.stringify(NEW), 'what was answered is there');
      await store.end();
      if (at > 500) throw new Error('it never ends');
    }
  });
}
