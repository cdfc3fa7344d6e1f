// Who may use the agent, and what the agent may.

import { type Facts, isUnknown } from './facts.js';
import {
  type Check,
  type Finding,
  given,
  listed,
  notChecked,
  ofDiagnosis,
  ok,
  problem,
  warning,
} from './finding.js';

/** Numbers of capabilities(7), with what they are for. */
const CAPABILITIES = [
  { bit: 21n, name: 'CAP_SYS_ADMIN', use: 'volumes cannot be attached as devices' },
  { bit: 0n, name: 'CAP_CHOWN', use: 'sockets cannot be given to their group' },
] as const;

const FULL = 0.95;
const NEARLY_FULL = 0.8;
/** Files of the store, the ring, the database: besides a descriptor for each client. */
const DESCRIPTORS_BESIDES = 256;

function group(facts: Facts): Finding {
  return given(facts.group, ({ name, exists, listed: isListed, held }) => {
    const { uid, user } = facts.command;
    if (!exists)
      return warning(
        `There is no group ${name}: only root may use the agent.`,
        `Make it with \`systemd-sysusers\` or \`groupadd --system ${name}\`, and restart the agent.`,
      );
    if (uid === 0) return ok(`The group ${name} is there; you are root.`);
    if (held) return ok(`User ${user} is in the group ${name}.`);
    if (isListed)
      return warning(
        `User ${user} is in the group ${name}, but was logged in before that.`,
        `Log in again, or run \`newgrp ${name}\`.`,
      );
    return warning(
      `User ${user} is not in the group ${name}, whose members may use the agent.`,
      `Run \`usermod -aG ${name} ${user}\` as root, and log in again.`,
    );
  });
}

function capabilities(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ process }) => {
    if (process.capabilities === null) return notChecked('the agent cannot read its capabilities');
    const has = BigInt(`0x${process.capabilities}`);
    const lacking = CAPABILITIES.filter(({ bit }) => (has & (1n << bit)) === 0n);
    if (lacking.length === 0) return ok('The agent has the capabilities it may need.');
    const { agent } = facts;
    const attached = !isUnknown(agent) && !isUnknown(agent.attachments) && agent.attachments.length > 0;
    const message = `The agent lacks ${lacking.map(({ name, use }) => `${name} (${use})`).join(', ')}.`;
    const remedy =
      'Run it as root, or give the unit these in CapabilityBoundingSet= and AmbientCapabilities=; without devices of the kernel it does not need them.';
    return attached && lacking[0]!.name === 'CAP_SYS_ADMIN'
      ? problem(message, remedy)
      : warning(message, remedy);
  });
}

function descriptors(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ process, program }) => {
    const { openDescriptors: open, descriptorLimit: limit } = process;
    if (open === null || limit === null) return notChecked('the agent cannot read its limits');
    const remedy = 'Raise LimitNOFILE= of the unit (`ulimit -n` without one), and restart the agent.';
    const used = `The agent has ${open} of ${limit} descriptors open`;
    if (open >= limit * FULL) return problem(`${used}: clients are about to be refused.`, remedy);
    if (open >= limit * NEARLY_FULL) return warning(`${used}.`, remedy);
    if (limit < program.maxConnections + DESCRIPTORS_BESIDES)
      return warning(
        `The agent may have ${limit} descriptors, too few for the ${program.maxConnections} clients it may have (nbd.max_connections).`,
        remedy,
      );
    return ok(`${used}.`);
  });
}

function storeMode(facts: Facts): Finding {
  return given(facts.store, ({ directory, mode, error }) => {
    if (error === 'ENOENT') return notChecked('the store is not there');
    if (mode === null) return notChecked(`the store may not be looked at (${error})`);
    if ((mode & 0o005) === 0) return ok('Others may not look into the store.');
    return warning(
      `Everybody on this machine may look into ${directory}, and see what volumes there are.`,
      `Run \`chmod o-rwx ${directory}\`.`,
    );
  });
}

function secrets(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ files }) => {
    const kept = files.filter(({ holds }) => holds === 'secret');
    if (kept.length === 0) return ok('No keys are configured.');
    const open = kept.filter(({ mode }) => mode !== null && (mode & 0o007) !== 0);
    if (open.length === 0) return ok('Keys cannot be read by others.');
    const names = open.map(({ key, path }) => `${path} (${key})`);
    return problem(
      `Everybody on this machine may use ${listed(names)}.`,
      `Run \`chmod o-rwx\` on it, and make a new key if others may have seen it.`,
    );
  });
}

export const PERMISSION_CHECKS: readonly Check[] = [
  { id: 'permissions-group', area: 'permissions', look: group },
  { id: 'permissions-capabilities', area: 'permissions', look: capabilities },
  { id: 'permissions-descriptors', area: 'permissions', look: descriptors },
  { id: 'permissions-store', area: 'permissions', look: storeMode },
  { id: 'permissions-keys', area: 'permissions', look: secrets },
];
