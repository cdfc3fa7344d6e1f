// Units of systemd.

import { type Facts, isUnknown, type SystemdFacts } from './facts.js';
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

function withUnit(facts: Facts, look: (facts: SystemdFacts) => Finding): Finding {
  return given(facts.systemd, (systemd) =>
    systemd.service.loadState === 'loaded'
      ? look(systemd)
      : notChecked('cellblockd.service is not installed'),
  );
}

function unit(facts: Facts): Finding {
  return withUnit(facts, ({ service }) => {
    const { activeState, result, mainPid, fileState, restarts } = service;
    if (activeState === 'failed' || activeState === 'inactive')
      return problem(
        `cellblockd.service is ${activeState}${result === 'success' ? '' : ` (${result})`}.`,
        'Run `systemctl start cellblockd`, and look into `journalctl -u cellblockd -e`.',
      );
    if (activeState !== 'active')
      return warning(
        `cellblockd.service is ${activeState}.`,
        'Wait, or look into `journalctl -u cellblockd -e`.',
      );
    const { agent } = facts;
    if (!isUnknown(agent) && agent.status.pid !== mainPid)
      return warning(
        `The agent that answers (pid ${agent.status.pid}) is not that of cellblockd.service (pid ${mainPid}).`,
        'Name the socket of the one you mean with --api PATH, or stop the other.',
      );
    if (restarts > 0)
      return warning(
        `systemd has started cellblockd.service again by itself ${restarts} ${restarts === 1 ? 'time' : 'times'}.`,
        'Look into `journalctl -u cellblockd` why it ended.',
      );
    if (fileState === 'disabled')
      return warning(
        'cellblockd.service does not start with the machine.',
        'Run `systemctl enable cellblockd`.',
      );
    return ok('cellblockd.service is active.');
  });
}

function watchdog(facts: Facts): Finding {
  return withUnit(facts, ({ service: { watchdogMs } }) =>
    watchdogMs > 0
      ? ok(`An agent that hangs for ${watchdogMs / 1000} s is restarted.`)
      : warning('Nobody restarts an agent that hangs.', 'Set WatchdogSec=30s in cellblockd.service.'),
  );
}

function descriptorStore(facts: Facts): Finding {
  return withUnit(facts, ({ service: { descriptorStoreMax } }) =>
    ofDiagnosis(facts, ({ program: { keepsClients, maxConnections } }) => {
      if (!keepsClients) return ok('Clients are not kept through a restart.');
      if (descriptorStoreMax > maxConnections)
        return ok(`There is room for ${descriptorStoreMax} clients in a restart.`);
      const remedy = `Set FileDescriptorStoreMax=${maxConnections + 1} or more in cellblockd.service.`;
      return descriptorStoreMax === 0
        ? problem(
            'The agent has --keep-clients, but systemd keeps nothing: a restart ends all connections.',
            remedy,
          )
        : warning(
            `systemd keeps ${descriptorStoreMax} sockets in a restart, fewer than the ${maxConnections} clients there may be.`,
            remedy,
          );
    }),
  );
}

function sockets(facts: Facts): Finding {
  return withUnit(facts, ({ sockets: all }) => {
    const there = all.filter(({ loadState }) => loadState === 'loaded');
    if (there.length === 0) return notChecked('no socket units are installed');
    const off = there.filter(
      ({ activeState, fileState }) => activeState !== 'active' || fileState === 'disabled',
    );
    if (off.length === 0) return ok(`${listed(there.map(({ name }) => name))}: active.`);
    const names = off.map(({ name }) => name);
    return warning(
      `Not active or not enabled: ${listed(names)}; who connects during a restart is refused.`,
      `Run \`systemctl enable --now ${names.join(' ')}\`, and restart cellblockd.`,
    );
  });
}

export const SYSTEMD_CHECKS: readonly Check[] = [
  { id: 'systemd-unit', area: 'systemd', look: unit },
  { id: 'systemd-watchdog', area: 'systemd', look: watchdog },
  { id: 'systemd-kept-clients', area: 'systemd', look: descriptorStore },
  { id: 'systemd-sockets', area: 'systemd', look: sockets },
];
