// Every wrong input of a sync: one sentence, what to do, a documented exit code, and nothing changed.
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { MIB } from '../support/nbd-wire.js';
import { domainXml, Scene } from '../support/sync-scene.js';

t.setTimeout(180_000);

/** Two VMs of two blank disks each, one of three, a plain volume and snapshots of all. */
async function machines(t: Test): Promise<Scene> {
  const scene = await Scene.start(t);
  for (const [index, name] of ['web', 'prod', 'big'].entries()) {
    for (const disk of ['root', 'data']) await scene.daemon.api.createVolume(`${name}-${disk}`, 8 * MIB);
    writeFileSync(scene.path(`${name}.xml`), domainXml(name, index + 1));
    const words = ['--disk', `vda=${name}-root`, ...(name === 'big' ? [] : ['--disk', `vdb=${name}-data`])];
    await scene.must('vm', 'create', name, '--config', scene.path(`${name}.xml`), ...words);
    await scene.must('vm', 'snapshot', `${name}@s`);
  }
  await scene.daemon.api.createVolume('plain', 8 * MIB);
  await scene.daemon.api.createVolume('large', 16 * MIB);
  await scene.must('snapshot', 'create', 'plain@s', 'large@s');
  return scene;
}

const WRONG: [words: string[], code: number, says: RegExp][] = [
  [
    ['plain', '--from', 'web@s'],
    2,
    /"plain" is a volume, and "web" a virtual machine\. A sync is between two of a kind/,
  ],
  [['web', '--from', 'plain@s'], 2, /"web" is a virtual machine, and "plain" a volume\./],
  [
    ['web', '--from', 'big@s'],
    2,
    /do not pair, from source to target: vda to vda, \(none\) to vdb\. .*--disks vda:vda/,
  ],
  [['big', '--from', 'web@s'], 2, /from source to target: vda to vda, vdb to \(none\)\./],
  [['web', '--from', 'prod@s', '--disks', 'vda:vda'], 2, /vda is the boot disk of "web".*--boot vda/],
  [['web', '--from', 'prod@s', '--disks', 'vdb:vdq'], 2, /"web" has no disk vdq; it has vda, vdb\./],
  [
    ['web', '--from', 'prod@s', '--disks', 'vdq:vdb'],
    2,
    /The snapshot "s" has no disk vdq; it has vda, vdb\./,
  ],
  [['web', '--from', 'prod@s', '--disks', 'vdb:vdb,vda:vdb'], 2, /vdb is named as a target twice/],
  [['web', '--from', 'prod@s', '--disks', 'vda'], 2, /"vda" is no pair of disks/],
  [['plain', '--from', 'large@s'], 7, /"large@s" has 16777216 bytes, "plain" only 8388608\. Give --grow/],
  [['plain', '--from', 'large'], 2, /not a snapshot/],
  [['plain', '--from', 'large@no'], 3, /no snapshot/],
  [['plain', '--from', 'nowhere@s'], 3, /no volume "nowhere"/],
  [['nowhere', '--from', 'large@s'], 3, /no volume "nowhere"/],
  [['plain@s', '--from', 'large@s'], 2, /is a snapshot.*A snapshot never changes; clone it/],
  [['plain'], 2, /--from <name@snap>' is missing/],
  [['--from', 'plain@s'], 2, /No target is named/],
  [['plain', '--from', 'large@s', '--grow', '--identity', 'fs.uuit=keep'], 2, /fields of fs are/],
  [
    ['plain', '--from', 'large@s', '--grow', '--identity', 'sf=keep'],
    2,
    /No field can match "sf": subjects are/,
  ],
  [
    ['plain', '--from', 'large@s', '--grow', '--identity', 'fs=kep'],
    2,
    /FIELD=keep, FIELD=take or FIELD=new/,
  ],
  [['plain', '--from', 'large@s', '--grow', '--hook-timeout', '0'], 2, /no number of seconds/],
  [['undo', 'plain'], 7, /no undo point of "plain"/],
  [['undo', 'nowhere'], 3, /no volume "nowhere"/],
  [['show', '99'], 3, /There is no sync 99/],
];

t.test('wrong words: refused, and no sync is recorded', async (t) => {
  const scene = await machines(t);
  for (const [words, code, says] of WRONG) {
    const outcome = await scene.cli('sync', ...words);
    t.equal(outcome.code, code, `${words.join(' ')}: ${outcome.stderr}`);
    t.match(outcome.stderr, says);
    t.equal(outcome.stderr.trimEnd().split('\n').length, 1, 'one line');
    t.equal(outcome.stdout, '');
  }
  const syncs = JSON.parse(await scene.must('sync', 'list', '--json')) as { phase: string; error: string }[];
  t.ok(
    syncs.every(({ phase, error }) => phase === 'undone' && error.startsWith('No field can match')),
    'only what the disks themselves had to be asked for was begun, and it was undone',
  );
  t.match(await scene.cli('volume', 'delete', 'web-root'), {
    code: 5,
    stderr: /is a disk of the virtual machine "web"/,
  });

  const several = await scene.cli('sync', 'plain', 'large', 'nowhere', '--from', 'plain@s');
  t.equal(several.code, 3, 'several targets: the code of the first that failed');
  t.match(several.stdout, /Sync \d+: plain has[\s\S]*Sync \d+: large has/);
  t.match(several.stderr, /nowhere: There is no volume "nowhere"/);
});

t.test('a snapshot that is being deleted, and one that lacks a disk', async (t) => {
  const scene = await machines(t);
  await scene.must('clone', 'large@s', 'held');
  await scene.must('snapshot', 'delete', 'large@s');
  t.match(await scene.cli('sync', 'plain', '--from', 'large@s', '--grow'), {
    code: 3,
    stderr: /no snapshot/,
  });
  await scene.must('snapshot', 'delete', 'prod-data@s');
  const refused = await scene.cli('sync', 'web', '--from', 'prod@s');
  t.match(refused, {
    code: 7,
    stderr: /The snapshot "s" lacks its disk vdb: .*Name the disks that are still there/,
  });
  t.match(
    await scene.must('sync', 'web', '--from', 'prod@s', '--disks', 'vda:vda', '--boot', 'vda'),
    /web has the state/,
  );
});

const BOMB = `<?xml version="1.0"?><!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa">${[...'bcdefghi']
  .map((name, index) => `<!ENTITY ${name} "${`&${'abcdefgh'[index]};`.repeat(10)}">`)
  .join('')}]><domain type="kvm"><name>&i;</name></domain>`;

const DOCUMENTS: [what: string, text: string, says: RegExp][] = [
  ['no domain', '<network><name>x</name></network>', /domain/],
  ['not XML at all', 'name: web\n', /configuration/i],
  ['broken XML', '<domain><name>x</domain>', /configuration|XML|tag/i],
  ['an XML bomb', BOMB, /DOCTYPE|entit/i],
  [
    'a file of the host',
    '<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]><domain><name>&f;</name></domain>',
    /DOCTYPE|entit/i,
  ],
  ['JSON without a name', '{"uuid": "x"}', /\/name/],
  ['empty', '', /empty|configuration/i],
];

t.test('a configuration that is none: refused at once', async (t) => {
  const scene = await Scene.start(t);
  await scene.daemon.api.createVolume('disk', MIB);
  for (const [what, text, says] of DOCUMENTS) {
    const file = scene.path('config');
    writeFileSync(file, text);
    const started = Date.now();
    const refused = await scene.cli('vm', 'create', 'x', '--config', file, '--disk', 'vda=disk');
    t.ok(refused.code === 2 || refused.code === 7, `${what}: ${refused.code}`);
    t.notMatch(refused.stderr, '..', 'a sentence');
    t.match(refused.stderr, says, what);
    t.notMatch(refused.stderr, /root:/);
    t.ok(Date.now() - started < 5000, 'at once');
  }
  t.match(await scene.must('vm', 'list'), 'No virtual machines.');
  const missing = await scene.cli(
    'vm',
    'create',
    'x',
    '--config',
    scene.path('no.xml'),
    '--disk',
    'vda=disk',
  );
  t.match(missing, { code: 3, stderr: /no\.xml/ });
});
