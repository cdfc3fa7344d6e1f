// The configuration of the agent, read as the agent reads it.

import { access, constants, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfiguration } from '../../agent/configuration.js';
import { makeSettings } from '../../agent/settings.js';
import { asCellblockError, systemCode } from '../../base/errors.js';
import { type AgentFacts, type ConfigurationFacts, type Facts, isUnknown, type Maybe } from './facts.js';
import type { Sources } from './sources.js';

const DEFAULT_GROUP = 'cellblock';

interface Known {
  diagnosis: AgentFacts['diagnosis'];
  systemd: Facts['systemd'];
}

/** `group`: `api.group`, or what it is without it. */
export async function configurationFacts(
  sources: Sources,
  known: Known,
): Promise<{ facts: Maybe<ConfigurationFacts>; group: string }> {
  const unknown = (why: string) => ({ facts: { unknown: why }, group: DEFAULT_GROUP });
  const found = configurationPath(sources, known);
  if (found === null) return unknown('the agent was started without one');
  const { path, isNamed } = found;
  try {
    await access(path, constants.R_OK);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' && !isNamed) return unknown('there is none');
    if (code === 'EACCES') return unknown(`${path} may not be read by ${sources.user.name}`);
  }
  const { problem, group } = judge(path);
  const changed = await stat(path).then(
    ({ mtime }) => mtime.toISOString(),
    () => null,
  );
  const inForce = isUnknown(known.diagnosis) || known.diagnosis.program.configuration === path;
  return { facts: { path, problem, inForce, changed }, group };
}

/** `isNamed`: the agent or somebody names it; if not, it is where it would be. Null: the agent has none. */
export function configurationPath(
  { configuration, roots }: Pick<Sources, 'configuration' | 'roots'>,
  { diagnosis, systemd }: Known,
): { path: string; isNamed: boolean } | null {
  const own = isUnknown(diagnosis) ? undefined : diagnosis.program.configuration;
  const ofUnit = isUnknown(systemd) ? null : systemd.service.configuration;
  const named = configuration ?? own ?? (own === null ? null : ofUnit);
  if (named !== null && named !== undefined) return { path: named, isNamed: true };
  return own === null ? null : { path: join(roots.etc, 'cellblock/cellblock.yaml'), isNamed: false };
}

function judge(path: string): { problem: ConfigurationFacts['problem']; group: string } {
  try {
    const file = readConfiguration(path);
    // What fits no schema is found only here, such as a coordinator without a name for this host.
    makeSettings(file, { store: '/', nbd: [], api: undefined });
    return { problem: null, group: file.api?.group ?? DEFAULT_GROUP };
  } catch (error) {
    const { message, hint } = asCellblockError(error);
    return { problem: { message, hint }, group: DEFAULT_GROUP };
  }
}
