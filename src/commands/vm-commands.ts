// cellblock vm ...: groups of volumes and files with a configuration document.

import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Vm, VmDetails, VmSnapshot } from '../agent/routes/vms.js';
import { CellblockError } from '../base/errors.js';
import { checkName, parseSnapshotReference } from '../model/names.js';
import { apiPath } from './api-client.js';
import type { Context, ContextOf } from './context.js';
import { expiryAfter } from './durations.js';
import { formatBytes, formatTime } from './format.js';
import { printable, table } from './table.js';

const LOOK = '`cellblock vm list`';

interface Disk {
  slot: string;
  volume: string;
}

export function addVmCommands(program: Command, contextOf: ContextOf): void {
  const vm = program
    .command('vm')
    .description('virtual machines: volumes with a configuration, synced as one');
  vm.command('create')
    .description('make a virtual machine of volumes that are there')
    .argument('<name>')
    .option('--config <file>', 'domain XML of libvirt, or JSON; has to be given')
    .option(
      '--disk <slot=volume>',
      'a volume (or file) by the target of its disk in the configuration, such as vda=web; several',
      (text: string, before: Disk[] = []) => [...before, parseDisk(text)],
    )
    .action((name: string, options: { config?: string; disk?: Disk[] }, command: Command) =>
      create(contextOf(command), name, options),
    );
  vm.command('list')
    .description('list virtual machines')
    .action((_options: object, command: Command) => list(contextOf(command)));
  vm.command('show')
    .description('all about one virtual machine')
    .argument('<name>')
    .option('--config', 'only its configuration, byte for byte')
    .action((name: string, options: { config?: boolean }, command: Command) =>
      show(contextOf(command), name, options),
    );
  vm.command('snapshot')
    .description('take a snapshot of all its disks in one instant, with its configuration')
    .argument('<name@snap>')
    .option('--for <time>', 'delete it by itself after so long, such as 12h or 7d')
    .option('--delete', 'delete that snapshot instead')
    .action((target: string, options: { for?: string; delete?: boolean }, command: Command) =>
      options.delete === true
        ? removeSnapshot(contextOf(command), target)
        : snapshot(contextOf(command), target, options),
    );
  vm.command('delete')
    .description('delete a virtual machine and its snapshots; its volumes stay')
    .argument('<name>')
    .option('--with-disks', 'delete its volumes and files too, with all their snapshots')
    .action((name: string, options: { withDisks?: boolean }, command: Command) =>
      remove(contextOf(command), name, options),
    );
}

function parseDisk(text: string): Disk {
  const at = text.indexOf('=');
  if (at > 0 && at < text.length - 1) return { slot: text.slice(0, at), volume: text.slice(at + 1) };
  throw new CellblockError('option-invalid', `${JSON.stringify(text)} names no disk.`, {
    hint: 'Write it as SLOT=VOLUME, such as vda=web.',
  });
}

async function create(
  { api, terminal, signal }: Context,
  name: string,
  options: { config?: string; disk?: Disk[] },
): Promise<void> {
  checkName(name, 'volume');
  if (options.config === undefined)
    throw new CellblockError('option-invalid', "The option '--config <file>' is missing.", {
      hint: 'Name the file that `virsh dumpxml --inactive` wrote, or a JSON document.',
    });
  const config = await readFile(options.config, 'utf8');
  const body = { name, config, disks: options.disk ?? [] };
  if (body.disks.length === 0)
    throw new CellblockError('option-invalid', "The option '--disk <slot=volume>' is missing.", {
      hint: 'Name every disk, such as --disk vda=web --disk vdb=web-data.',
    });
  const vm = await api.change<VmDetails>({
    method: 'POST',
    path: apiPath(['vms']),
    body,
    signal,
    look: LOOK,
  });
  terminal.result(vm, () => `Virtual machine ${printable(vm.name)} made of ${diskList(vm)}.\n`);
}

function diskList({ disks }: Vm): string {
  return disks.map(({ slot, volume }) => `${slot}=${printable(volume)}`).join(', ');
}

async function list({ api, terminal, signal }: Context): Promise<void> {
  const vms = await api.call<Vm[]>({ method: 'GET', path: apiPath(['vms']), signal });
  terminal.result(vms, () =>
    vms.length === 0
      ? 'No virtual machines. Make one with: cellblock vm create NAME --config domain.xml --disk vda=VOLUME\n'
      : table(
          [
            { title: 'NAME', cell: (row) => row.name },
            { title: 'DISKS', cell: diskList },
            { title: 'SNAPSHOTS', cell: (row) => row.snapshots.join(', ') },
            { title: 'CREATED', cell: (row) => formatTime(row.created) },
          ],
          vms,
        ),
  );
}

async function show(
  { api, terminal, signal, streams }: Context,
  name: string,
  options: { config?: boolean },
): Promise<void> {
  checkName(name, 'volume');
  const vm = await api.call<VmDetails>({ method: 'GET', path: apiPath(['vms', name]), signal });
  if (options.config === true) {
    streams.stdout.write(vm.config);
    return;
  }
  terminal.result(vm, () => {
    const disks = table(
      [
        { title: 'DISK', cell: (row) => row.slot },
        { title: 'NAME', cell: (row) => row.volume },
        { title: 'KIND', cell: (row) => row.kind },
        { title: 'SIZE', cell: (row) => formatBytes(row.sizeBytes), align: 'right' },
      ],
      vm.disks,
    );
    const identity = table(
      [
        { title: 'IDENTITY', cell: (row) => row.field },
        { title: 'VALUE', cell: (row) => row.value },
      ],
      vm.identity,
    );
    const snapshots = vm.snapshotList.map(
      ({ fullName, created, disks }) =>
        `${printable(fullName)}, ${formatTime(created)}: ${disks.map(({ snapshot }) => snapshot ?? '(deleted)').join(', ')}\n`,
    );
    return [`${printable(vm.name)} (${vm.format})\n`, disks, identity, ...snapshots].join('');
  });
}

async function snapshot(
  { api, terminal, signal }: Context,
  target: string,
  options: { for?: string },
): Promise<void> {
  const { volume, snapshot } = parseSnapshotReference(target);
  const body = { name: snapshot, ...(options.for !== undefined && { expires: expiryAfter(options.for) }) };
  const path = apiPath(['vms', volume, 'snapshots']);
  const taken = await api.change<VmSnapshot>({ method: 'POST', path, body, signal, look: LOOK });
  terminal.result(
    taken,
    () => `Snapshot ${printable(taken.fullName)} taken of ${taken.disks.length} disks.\n`,
  );
}

async function removeSnapshot({ api, terminal, signal }: Context, target: string): Promise<void> {
  const { volume, snapshot } = parseSnapshotReference(target);
  const path = apiPath(['vms', volume, 'snapshots', snapshot]);
  await api.change({ method: 'DELETE', path, signal, look: LOOK });
  terminal.result({ deleted: target }, () => `Deleted ${printable(target)}.\n`);
}

async function remove(
  { api, terminal, signal }: Context,
  name: string,
  options: { withDisks?: boolean },
): Promise<void> {
  checkName(name, 'volume');
  const path = apiPath(['vms', name], options.withDisks === true ? { with_disks: 'true' } : {});
  await api.change({ method: 'DELETE', path, signal, look: LOOK });
  const disks = options.withDisks === true ? ' and its disks' : '; its volumes stay';
  terminal.result({ deleted: name }, () => `Deleted ${printable(name)}${disks}.\n`);
}
