// What can stand for an argument or behind an option, so that a shell can offer it. Invariant, held by a test: every argument and every
// option with a value has its entry here, and no entry is of something that is not there.

import type { Argument, Command, Option } from 'commander';
import { placeholderOf, wordsTo } from './command-tree.js';

/** What the agent (or, through it, the coordinator) is asked for; see complete-names.ts. */
export const NAME_KINDS = [
  'volumes',
  'files',
  /** Volumes and files. */
  'containers',
  'snapshots',
  /** Containers and snapshots. */
  'exports',
  'vms',
  'vm-snapshots',
  /** What a sync takes: containers and virtual machines. */
  'targets',
  /** What it takes the state of: snapshots of either. */
  'sources',
  'syncs',
  'tasks',
  'attachments',
  'cells',
  'hosts',
  'routes',
  'quarantined',
] as const;

export type NameKind = (typeof NAME_KINDS)[number];

export type Values =
  /** Whoever types it makes it up. */
  | { kind: 'any' }
  | { kind: 'file' }
  | { kind: 'directory' }
  | { kind: 'words'; words: readonly string[] }
  | { kind: 'names'; names: NameKind };

const ANY: Values = { kind: 'any' };
const FILE: Values = { kind: 'file' };
const DIRECTORY: Values = { kind: 'directory' };
const words = (...list: string[]): Values => ({ kind: 'words', words: list });
const names = (kind: NameKind): Values => ({ kind: 'names', names: kind });

/** By the words to the command, and the argument. */
const ARGUMENTS: Readonly<Record<string, Values>> = {
  'snapshot list name': names('containers'),
  // A name of its own behind a volume that is there.
  'snapshot create name@snap': names('containers'),
  'vm snapshot name@snap': names('vms'),
  'vm create name': ANY,
  'vm show name': names('vms'),
  'vm delete name': names('vms'),
  'volume create name': ANY,
  'file create name': ANY,
  'volume import file': FILE,
  'volume export file': FILE,
  'file import file': FILE,
  'file export file': FILE,
  'sync target': names('targets'),
  'sync undo target': names('targets'),
  'sync show id': names('syncs'),
  'restore name@snap': names('sources'),
  'attach name': names('exports'),
  'detach name': names('attachments'),
  'cell show cell': names('cells'),
  'cell create cell': ANY,
  'cell split cell': names('cells'),
  'cell rollback cell': names('cells'),
  'cell promote name': names('routes'),
  'replica add name': names('routes'),
  'replica remove name': names('routes'),
  'host show host': names('hosts'),
  'host drain host': names('hosts'),
  'host readmit host': names('hosts'),
  'host forget host': names('hosts'),
  'host purge host': names('hosts'),
  'host purge name': names('routes'),
  'move start name': names('routes'),
  'move status name': names('routes'),
  'move cancel name': names('routes'),
  'route show name': names('routes'),
  'route claim name': names('containers'),
  'route forget name': names('routes'),
  'quarantine adopt name': names('quarantined'),
  'quarantine keep-fork name': names('quarantined'),
  'quarantine discard name': names('quarantined'),
  'task cancel id': names('tasks'),
  'completion shell': words('bash', 'zsh', 'fish'),
};

/** For the rest: by the first word and the argument, then by the argument alone. */
const ARGUMENTS_ELSEWHERE: Readonly<Record<string, Values>> = {
  'volume name': names('volumes'),
  'file name': names('files'),
  'new-name': ANY,
  'name[@snap]': names('exports'),
  'name@snap': names('snapshots'),
  'name@a': names('snapshots'),
  'name[@b]': names('exports'),
};

/** By the option and the placeholder of its value, wherever it is. */
const OPTIONS: Readonly<Record<string, Values>> = {
  '--api path': FILE,
  '--size size': ANY,
  '--allow who': ANY,
  '--description text': ANY,
  '--iops count': ANY,
  '--iops-burst count': ANY,
  '--bandwidth size': ANY,
  '--bandwidth-burst size': ANY,
  '--via whom': words('coordinator'),
  '--again id': ANY,
  // A file of a directory of the agent's.
  '--transaction-log file': ANY,
  '--hash algorithm': words('sha256', 'sha512', 'sha1', 'md5'),
  '--for time': ANY,
  '--name name': ANY,
  '--from name@snap': names('sources'),
  '--disks src:dst,': ANY,
  '--boot dst': ANY,
  '--identity field=policy': words('all=keep', 'all=take', 'all=new', 'fs=keep', 'fs=take', 'fs=new'),
  '--pre command': FILE,
  '--post command': FILE,
  '--hook-timeout seconds': ANY,
  '--config file': FILE,
  '--output file': FILE,
  '--disk slot=volume': ANY,
  '--connections count': ANY,
  '--device device': FILE,
  '--block-size bytes': words('512', '1024', '2048', '4096'),
  '--io-timeout seconds': ANY,
  '--dead-timeout seconds': ANY,
  '--mount directory': DIRECTORY,
  '--into cell': names('cells'),
  '--volumes names': names('routes'),
  '--host host': names('hosts'),
  '--to cell': names('cells'),
  '--cell cell': names('cells'),
  '--as name': ANY,
  '--store directory': DIRECTORY,
};

/** The entry, and the key it is under; a missing one is a defect, which a test finds. */
export interface Entry {
  key: string;
  values: Values;
}

export function entryOfArgument(command: Command, argument: Argument): Entry {
  const path = wordsTo(command);
  const name = bareName(argument.name());
  const candidates = [
    [[...path, name].join(' '), ARGUMENTS],
    [`${path[0]} ${name}`, ARGUMENTS_ELSEWHERE],
    [name, ARGUMENTS_ELSEWHERE],
  ] as const;
  for (const [key, table] of candidates) {
    const values = table[key];
    if (values !== undefined) return { key, values };
  }
  throw new Error(`completion-values.ts says nothing of the argument ${path.join(' ')} ${name}`);
}

/** Null: it takes no value. */
export function entryOfOption(option: Option): Entry | null {
  const placeholder = placeholderOf(option);
  if (placeholder === null) return null;
  const key = `${option.long} ${bareName(placeholder)}`;
  if (option.argChoices) return { key, values: words(...option.argChoices) };
  const values = OPTIONS[key];
  if (values === undefined) throw new Error(`completion-values.ts says nothing of the option ${key}`);
  return { key, values };
}

function bareName(name: string): string {
  return name.replace(/\.\.\.$/, '');
}

export const ALL_KEYS: readonly string[] = [ARGUMENTS, ARGUMENTS_ELSEWHERE, OPTIONS].flatMap(Object.keys);
