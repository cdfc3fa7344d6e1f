// Two guests with UEFI, GRUB, ext4 and XFS; one is synced from a snapshot of the other that was taken while it was writing; both boot
// in between. Long, and nothing of it needs more than emulation: it says whether a boot disk still boots after a sync and finds its data.
//
//   node scripts/boot-after-sync.js [--dir DIR] [--keep] [--built]
//
// --dir: work in there, and use the Debian tree again that an earlier run has left in it. --keep: leave everything there.
// --built: nothing is installed or built before. Needs root, for the tree. The exit code is the answer: 0, all is as it should be.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Agent } from './boot/agent.js';
import { makeRoot } from './boot/debian-root.js';
import { domainXml, makeDisks, newGuest } from './boot/guest-disks.js';
import { Guest, stopAll } from './boot/guest-run.js';
import { setUpOrExit } from './setup.js';

/** Seconds; emulation on a busy machine is slow. */
const BOOT = 600;
const OFF = 60;

const checks = [];

function check(what, wanted, seen) {
  const isGood = seen === wanted;
  checks.push({ what, wanted, seen, isGood });
  console.error(`${isGood ? 'ok    ' : 'NOT OK'} ${what}: ${seen}${isGood ? '' : `, not ${wanted}`}`);
}

function say(words) {
  console.error(`${new Date().toISOString().slice(11, 19)} ${words}`);
}

async function makeVm(guest, { agent, tree, folder }) {
  say(`making the disks of ${guest.name}`);
  const images = await makeDisks(guest, { tree, folder });
  for (const [part, image] of Object.entries(images)) {
    await agent.tell('volume', 'import', `${guest.name}-${part}`, image);
    rmSync(image);
  }
  const xml = path.join(folder, `${guest.name}.xml`);
  writeFileSync(xml, domainXml(guest, agent.nbd));
  const disks = ['--disk', `vda=${guest.name}-boot`, '--disk', `vdb=${guest.name}-data`];
  await agent.tell('vm', 'create', guest.name, '--config', xml, ...disks);
}

function start({ name }, { agent, folder }, serial) {
  say(`${name} boots`);
  const disks = [`${name}-boot`, `${name}-data`];
  return new Guest(name, { disks, socket: agent.nbd, folder, serial });
}

/** Boots to the end and checks what it tells. `wanted`: by the word it tells it with. */
async function bootAndCheck(guest, place, { title, wanted }) {
  const begun = Date.now();
  const machine = start(guest, place, 'tells');
  await machine.waitFor('end', BOOT);
  const seconds = Math.round((Date.now() - begun) / 1000);
  const isOff = await machine.waitForEnd(OFF);
  check(`${title}: it boots and switches itself off`, true, isOff);
  for (const [word, value] of Object.entries(wanted)) check(`${title}: ${word}`, value, machine.told(word));
  check(`${title}: emergency`, 'inactive', machine.told('emergency'));
  say(`booted in ${seconds} s with: ${machine.told('command-line')}; /data is ${machine.told('data-mount')}`);
  if (machine.told('end') === null) say(`the end of its console:\n${machine.console.slice(-1500)}`);
  return machine;
}

const names = ({ name, machineId, sshKey }) => ({
  hostname: name,
  'machine-id': machineId,
  'ssh-key': sshKey,
});
const ids = ({ rootUuid, dataUuid, espUuid }) => ({
  'root-uuid': rootUuid,
  'data-uuid': dataUuid,
  'esp-uuid': espUuid,
});

async function sums(guest, { agent, folder }) {
  const found = {};
  for (const part of ['boot', 'data']) {
    const file = path.join(folder, 'out.img');
    const printed = await agent.tell('volume', 'export', `${guest.name}-${part}`, file, '--hash', 'sha256');
    found[part] = /sha256 ([0-9a-f]{64})/.exec(printed)[1];
    rmSync(file);
  }
  return found;
}

const reports = [];

/** `words`: what is told to `cellblock`. Its report goes into the folder, its time and space into the table. */
async function sync(title, words, { agent, folder }) {
  const before = await agent.ask('store', 'status');
  const begun = Date.now();
  const result = await agent.ask(...words);
  const whole = Date.now() - begun;
  const text = await agent.tell('sync', 'show', String(result.id));
  writeFileSync(path.join(folder, `sync-${result.id}.txt`), text);
  const after = await agent.ask('store', 'status');
  reports.push({ title, heldMs: result.heldMs, whole, before, after });
  say(`${title}: cellblock ${words.join(' ')}\n${text}`);
  return result;
}

async function whileItWrites(prod, place, work) {
  const machine = start(prod, place, 'writes');
  try {
    check('prod boots and writes', true, await machine.waitForWrites(1, BOOT));
    await work(machine);
  } finally {
    await machine.stop();
  }
}

async function everything(place) {
  const { agent } = place;
  const web = newGuest('web', 'data of web');
  const prod = newGuest('prod', 'data of prod');
  await makeVm(prod, place);
  await makeVm(web, place);
  const own = await sums(web, place);
  await whileItWrites(prod, place, async (machine) => {
    const last = Number(machine.told('wrote'));
    await machine.waitForWrites(last + 3, 120);
    await agent.tell('vm', 'snapshot', 'prod@now');
    const atSnapshot = Number(machine.told('wrote'));
    await sync('defaults', ['sync', 'web', '--from', 'prod@now'], place);
    const goesOn = await machine.waitForWrites(atSnapshot + 2, 120);
    check('prod writes on while web is synced', true, goesOn);
  });
  const content = { marker: prod.marker };
  await bootAndCheck(web, place, {
    title: 'defaults',
    wanted: { ...names(prod), ...ids(prod), ...content },
  });
  await sync('undo', ['sync', 'undo', 'web'], place);
  const back = await sums(web, place);
  for (const part of ['boot', 'data']) check(`undo: ${part} disk byte for byte`, own[part], back[part]);
  await bootAndCheck(web, place, {
    title: 'undo',
    wanted: { ...names(web), ...ids(web), marker: web.marker },
  });
  const keep = ['--identity', 'fs=keep', '--guest-identity'];
  await sync('fs=keep', ['sync', 'web', '--from', 'prod@now', ...keep], place);
  await bootAndCheck(web, place, {
    title: 'fs=keep, guest identity',
    wanted: { ...names(web), ...ids(web), ...content },
  });
}

function printTable() {
  console.log('\n| checked | found | |\n|---|---|---|');
  for (const { what, wanted, seen, isGood } of checks)
    console.log(`| ${what} | ${seen} | ${isGood ? 'ok' : `NOT OK, not ${wanted}`} |`);
  console.log(
    '\n| sync | disks held | whole command | new blocks: boot disk | data disk |\n|---|---|---|---|---|',
  );
  for (const { title, heldMs, whole, before, after } of reports) {
    const grown = ['web-boot', 'web-data'].map((name) => ownBytes(after, name) - ownBytes(before, name));
    const cells = grown.map((bytes) => `${bytes / 1024} KiB`).join(' | ');
    console.log(`| ${title} | ${heldMs?.toFixed(1)} ms | ${whole} ms | ${cells} |`);
  }
}

/** Blocks of a volume and its snapshots that nobody else reads: what it had before a sync is there still, for the undo. */
function ownBytes({ volumes }, name) {
  return volumes.find((volume) => volume.name === name).exclusiveBytes;
}

const { values: options } = parseArgs({
  options: {
    dir: { type: 'string' },
    keep: { type: 'boolean', default: false },
    built: { type: 'boolean', default: false },
  },
});
if (process.getuid() !== 0) {
  console.error('boot-after-sync: this needs root, as the files of the guests belong to many users');
  process.exit(2);
}
if (!options.built) setUpOrExit('boot');
const folder = options.dir ? path.resolve(options.dir) : mkdtempSync(path.join(tmpdir(), 'cellblock-boot-'));
mkdirSync(folder, { recursive: true });
say('making a Debian tree');
const tree = path.join(folder, 'tree');
await makeRoot(tree);
const runFolder = mkdtempSync(path.join(folder, 'run-'));
const agent = new Agent(runFolder);
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, async () => {
    await stopAll();
    await agent.stop();
    rmSync(runFolder, { recursive: true, force: true });
    process.exit(130);
  });
try {
  await agent.ready();
  await everything({ agent, tree, folder: runFolder });
} catch (error) {
  check('the run', 'done', error.message);
} finally {
  await stopAll();
  await agent.stop();
}
printTable();
if (options.keep) say(`everything is left in ${folder}`);
else rmSync(options.dir ? runFolder : folder, { recursive: true, force: true });
process.exitCode = checks.every(({ isGood }) => isGood) ? 0 : 1;
