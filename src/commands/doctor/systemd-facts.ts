// What systemd says of the units of the agent.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Maybe, SystemdFacts, UnitFacts } from './facts.js';
import type { Sources } from './sources.js';

const SERVICE = 'cellblockd.service';
const SOCKETS = ['cellblockd.socket', 'cellblockd-api.socket'];
const PROPERTIES = [
  'Id',
  'LoadState',
  'ActiveState',
  'UnitFileState',
  'Result',
  'MainPID',
  'NRestarts',
  'WatchdogUSec',
  'FileDescriptorStoreMax',
  'ExecStart',
];

export async function systemdFacts({ run, roots }: Sources): Promise<Maybe<SystemdFacts>> {
  if (!existsSync(join(roots.run, 'systemd/system'))) return { unknown: 'this machine does not run systemd' };
  const ran = await run('systemctl', ['show', SERVICE, ...SOCKETS, `--property=${PROPERTIES.join(',')}`]);
  if (ran === null || ran.code !== 0) return { unknown: 'systemd does not answer' };
  return parseUnits(ran.stdout);
}

/** Of `systemctl show`: lines KEY=VALUE, an empty one between units. */
export function parseUnits(text: string): Maybe<SystemdFacts> {
  const units = text.split(/\n\s*\n/).map(propertiesIn);
  const service = units.find((unit) => unit.get('Id') === SERVICE);
  if (!service) return { unknown: 'systemd does not tell of cellblockd.service' };
  const words = wordsOf(service.get('ExecStart') ?? '');
  return {
    service: {
      ...unitFacts(service),
      mainPid: Number(service.get('MainPID') ?? 0),
      restarts: Number(service.get('NRestarts') ?? 0),
      watchdogMs: milliseconds(service.get('WatchdogUSec') ?? ''),
      descriptorStoreMax: Number(service.get('FileDescriptorStoreMax') ?? 0),
      store: optionIn(words, '--store'),
      configuration: optionIn(words, '--config'),
    },
    sockets: units
      .filter((unit) => SOCKETS.includes(unit.get('Id') ?? ''))
      .map((unit) => ({ name: unit.get('Id')!, ...unitFacts(unit) })),
  };
}

function propertiesIn(block: string): Map<string, string> {
  return new Map(
    block.split('\n').flatMap((line): [string, string][] => {
      const at = line.indexOf('=');
      return at < 0 ? [] : [[line.slice(0, at), line.slice(at + 1)]];
    }),
  );
}

function unitFacts(unit: Map<string, string>): UnitFacts {
  return {
    loadState: unit.get('LoadState') ?? '',
    activeState: unit.get('ActiveState') ?? '',
    fileState: unit.get('UnitFileState') ?? '',
    result: unit.get('Result') ?? '',
  };
}

/** `{ path=/usr/bin/x ; argv[]=/usr/bin/x --store /a ; ignore_errors=no ; ... }` */
function wordsOf(execStart: string): string[] {
  return (/argv\[\]=(.*?) ; /.exec(execStart)?.[1] ?? '').split(' ');
}

function optionIn(words: readonly string[], name: string): string | null {
  const at = words.indexOf(name);
  return at < 0 ? null : (words[at + 1] ?? null);
}

const UNITS: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `1min 30s`; `infinity` is no time limit. */
function milliseconds(text: string): number {
  return [...text.matchAll(/([\d.]+)(us|ms|s|min|h|d)\b/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * UNITS[unit!]!,
    0,
  );
}
