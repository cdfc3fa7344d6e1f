// What docs/virtual-machines.md says: taken from there, with another socket in it, understood by libvirt and QEMU, and good for a death of the agent.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Daemon } from '../support/daemon.js';
import { blockdevsIn, domainWith, nativeArguments, withoutLibvirt } from '../support/libvirt.js';
import { CMD, MIB } from '../support/nbd-wire.js';
import { missing, repositoryRoot } from '../support/programs.js';
import { Qmp } from '../support/qmp.js';
import { RawNbd } from '../support/raw-nbd.js';

t.setTimeout(300_000);

const page = readFileSync(path.join(repositoryRoot, 'docs/virtual-machines.md'), 'utf8');
const SOCKET = '/run/cellblock/nbd.sock';

/** The blocks of a language, in order, for this agent. */
function snippets(language: 'json' | 'xml', daemon: Daemon): string[] {
  const found = [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, 'gms'))];
  return found.map(([, text]) => text!.replaceAll(SOCKET, daemon.nbdPath));
}

async function agent(t: Test): Promise<Daemon> {
  const daemon = await Daemon.start(t);
  await daemon.api.createVolume('web', 64 * MIB);
  return daemon;
}

/** A machine that never runs: its disk is used by QEMU itself. */
function qemuWith(t: Test, blockdevs: readonly string[]): Promise<Qmp> {
  const words = ['-M', 'none', '-nodefaults', '-display', 'none', '-qmp', 'stdio'];
  return Qmp.start(t, 'qemu-system-x86_64', [...words, ...blockdevs.flatMap((one) => ['-blockdev', one])]);
}

async function atMib(daemon: Daemon): Promise<Buffer> {
  const { client } = await RawNbd.open(daemon.nbdPath, 'web');
  const { data } = await client.command({ type: CMD.read, offset: MIB, length: 4096 });
  await client.leave();
  return data;
}

/** Requests wait while there is no agent, and none fails. */
async function outlivesTheAgent(t: Test, daemon: Daemon, { qemu, node }: { qemu: Qmp; node: string }) {
  await qemu.io(node, 'write -P 1 1M 64k');
  await daemon.kill();
  const late = qemu.io(node, 'write -P 2 1M 64k');
  await daemon.run();
  await late;
  await qemu.io(node, 'flush');
  await qemu.io(node, 'read -P 2 1M 64k');
  t.equal(await qemu.quit(), 0);
  t.ok((await atMib(daemon)).equals(Buffer.alloc(4096, 2)), 'what was written while there was no agent');
}

t.test('QEMU', { skip: missing('qemu-system-x86_64') }, async (t) => {
  const daemon = await agent(t);
  const [blockdev] = snippets('json', daemon);
  const { 'node-name': node } = JSON.parse(blockdev!) as { 'node-name': string };
  await outlivesTheAgent(t, daemon, { qemu: await qemuWith(t, [blockdev!]), node });
});

t.test('libvirt', { skip: withoutLibvirt }, async (t) => {
  const daemon = await agent(t);
  const [disk, commandline, device, ...others] = snippets('xml', daemon);
  t.strictSame(others, [], 'every snippet is tried');
  const convert = (domain: string): Promise<string[]> => {
    // Short: libvirt puts sockets below it.
    const directory = mkdtempSync(path.join(tmpdir(), 'vm'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    return nativeArguments(directory, domain);
  };

  const network = blockdevsIn(await convert(domainWith(disk!)));
  t.equal(network.length, 2, 'protocol and format');
  const qemu = await qemuWith(t, network);
  await qemu.io('libvirt-1-format', 'write -P 5 1M 64k');
  await qemu.io('libvirt-1-format', 'flush');
  t.equal(await qemu.quit(), 0);
  t.ok((await atMib(daemon)).equals(Buffer.alloc(4096, 5)), 'what QEMU wrote');

  const inner = /<qemu:commandline>.*<\/qemu:commandline>/s.exec(commandline!)![0];
  const words = await convert(domainWith('', inner));
  t.ok(words.includes('virtio-blk-pci,drive=web'), 'the disk');
  const [own, ...more] = blockdevsIn(words);
  t.strictSame(more, []);
  await outlivesTheAgent(t, daemon, { qemu: await qemuWith(t, [own!]), node: 'web' });

  const block = blockdevsIn(await convert(domainWith(device!)));
  t.match(block.join(), '"filename":"/dev/cellblock/web"');
});
