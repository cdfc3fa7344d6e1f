// The agent: whether it answers, and why not; versions; the configuration.

import { type Facts, isUnknown } from './facts.js';
import { type Check, type Finding, given, ofAgent, ofDiagnosis, ok, problem, warning } from './finding.js';

/** package.json: engines. */
const OLDEST_NODE = 20;

function reachable({ agent, socket, systemd }: Facts): Finding {
  if (!isUnknown(agent)) return ok(`The agent answers at ${socket.path} (pid ${agent.status.pid}).`);
  const { message, hint } = socket.failure ?? {
    message: `The agent at ${socket.path} is not reached.`,
    hint: 'Start cellblockd.',
  };
  if (isUnknown(systemd) || systemd.service.loadState !== 'loaded') return problem(message, hint);
  const { activeState } = systemd.service;
  if (activeState === 'active') return problem(message, hint);
  return problem(
    `${message} cellblockd.service is ${activeState}.`,
    'Run `systemctl start cellblockd`, and look into `journalctl -u cellblockd -e` if it does not stay.',
  );
}

function agree(facts: Facts): Finding {
  const { version } = facts.command;
  return ofAgent(facts, ({ status }) =>
    status.version === version
      ? ok(`The command and the agent are of version ${version}.`)
      : warning(
          `The command is of version ${version}, the agent that runs of ${status.version}.`,
          'Restart the agent, so that the version that is installed runs: `systemctl restart cellblockd`.',
        ),
  );
}

function addon({ command }: Facts): Finding {
  if (command.addonProblem === null) return ok('The native part can be loaded.');
  return problem(
    command.addonProblem,
    'Install cellblock anew, for this machine and this Node; the agent will not start again as it is.',
  );
}

function node({ command, agent }: Facts): Finding {
  const agents = isUnknown(agent) || isUnknown(agent.diagnosis) ? null : agent.diagnosis.program.node;
  const old = [command.node, agents ?? command.node].find((version) => majorOf(version) < OLDEST_NODE);
  if (old !== undefined)
    return problem(
      `Node ${old} is older than ${OLDEST_NODE}, the oldest that cellblock runs with.`,
      `Install Node ${OLDEST_NODE} or newer.`,
    );
  if (agents !== null && majorOf(agents) !== majorOf(command.node))
    return warning(
      `The command runs with Node ${command.node}, the agent with ${agents}.`,
      'Restart the agent, or make both use the same Node.',
    );
  return ok(`Node ${command.node}.`);
}

function majorOf(version: string): number {
  return Number.parseInt(version, 10);
}

function configuration(facts: Facts): Finding {
  return given(facts.configuration, ({ path, problem: wrong }) =>
    wrong === null
      ? ok(`${path} is right.`)
      : problem(`The agent will not start with its configuration: ${wrong.message}`, wrong.hint),
  );
}

function inForce(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ program }) =>
    given(facts.configuration, ({ path, changed, inForce: isIts }) => {
      if (!isIts)
        return warning(
          `The agent was started without ${path}.`,
          'Start it with `--config`, or remove the file.',
        );
      if (changed !== null && Date.parse(changed) > Date.parse(program.started))
        return warning(
          `${path} was changed after the agent had started: what it says now is not in force.`,
          'Restart the agent: `systemctl restart cellblockd`.',
        );
      return ok('The agent was started with the configuration as it is.');
    }),
  );
}

export const AGENT_CHECKS: readonly Check[] = [
  { id: 'agent-reachable', area: 'agent', look: reachable },
  { id: 'versions-agree', area: 'versions', look: agree },
  { id: 'versions-addon', area: 'versions', look: addon },
  { id: 'versions-node', area: 'versions', look: node },
  { id: 'configuration-valid', area: 'configuration', look: configuration },
  { id: 'configuration-in-force', area: 'configuration', look: inForce },
];
