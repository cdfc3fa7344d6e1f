// Clocks, the coordinator of cells, and TLS.

import { printable } from '../table.js';
import type { Facts } from './facts.js';
import {
  type Check,
  type Finding,
  given,
  listed,
  notChecked,
  ofAgent,
  ofDiagnosis,
  ok,
  problem,
  warning,
} from './finding.js';

/** What certificates and people bear. */
const CLOCKS_APART_MS = 2_000;
/** As the agent warns in its log. */
const SOON_MS = 14 * 86_400_000;

type File = {
  key: string;
  path: string;
  error: string | null;
  certificate: { from: string; expires: string } | null;
};

function synchronised(facts: Facts): Finding {
  return given(facts.clock, ({ synchronised: isSo }) =>
    isSo
      ? ok('The clock is synchronised.')
      : warning(
          'The clock of this machine is not synchronised.',
          'Run `timedatectl set-ntp true`, or install chrony.',
        ),
  );
}

function coordinatorsClock(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ coordinator }) => {
    if (coordinator === null) return notChecked('the host is in no cell');
    const { clockDifferenceMs: difference } = coordinator;
    if (difference === null) return notChecked('no coordinator has told its time yet');
    const seconds = (Math.abs(difference) / 1000).toFixed(1);
    if (Math.abs(difference) < CLOCKS_APART_MS)
      return ok(`The clock of the coordinator is ${seconds} s away.`);
    return warning(
      `The clock of the coordinator is ${seconds} s ${difference > 0 ? 'ahead of' : 'behind'} that of this host.`,
      'Synchronise both (`timedatectl set-ntp true`); certificates and times of snapshots go by them.',
    );
  });
}

function connected(facts: Facts): Finding {
  return ofAgent(facts, ({ status: { coordinator } }) => {
    if (coordinator === null) return ok('The host is in no cell.');
    const { host, cell, connected: isConnected, serving, leader } = coordinator;
    const waits = serving ? '' : ' and volumes of cells wait for it';
    if (!isConnected)
      return problem(
        `Host ${host} in cell ${cell} is connected to no coordinator${waits}.`,
        'Look whether cellblock-coordinator runs and can be reached, and into the log of cellblockd (`dial-failed`, `refused`).',
      );
    if (leader === null)
      return warning(
        'No coordinator leads: nothing is moved or decided.',
        'Look at the coordinators and at their etcd; see docs/coordinator-state.md.',
      );
    if (!serving)
      return warning(
        'Volumes of cells are not served yet.',
        'Wait for the coordinator to know what this host holds; see `cellblock host list`.',
      );
    return ok(`Host ${host} in cell ${cell} is connected to ${printable(coordinator.coordinator ?? '')}.`);
  });
}

function coordinatorFiles(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ coordinator, files }) => {
    if (coordinator === null) return notChecked('the host is in no cell');
    return certificates(
      files.filter(({ key }) => key.startsWith('coordinator.')),
      facts.nowMs,
      'Put new certificates in their place: the next connection uses them.',
    );
  });
}

function nbdFiles(facts: Facts): Finding {
  return ofAgent(facts, ({ status }) => {
    if (status.tls.mode === 'off') return notChecked('TLS is off');
    return ofDiagnosis(facts, ({ files }) =>
      certificates(
        files.filter(({ key }) => key.startsWith('nbd.tls.')),
        facts.nowMs,
        'Put a new one in its place, then `systemctl reload cellblockd` (see docs/tls.md).',
      ),
    );
  });
}

/** The worst of them. */
function certificates(files: readonly File[], nowMs: number, remedy: string): Finding {
  const lost = files.filter(({ error }) => error !== null);
  if (lost.length > 0)
    return problem(
      `The agent cannot read ${listed(lost.map(({ path, key, error }) => `${path} (${key}: ${error})`))}.`,
      'Put the file back and let the agent read it; it will not start again without it.',
    );
  const dated = files.flatMap(({ path, certificate }) => (certificate ? [{ path, ...certificate }] : []));
  const expired = dated.find(({ expires }) => Date.parse(expires) <= nowMs);
  if (expired) return problem(`${expired.path} has expired on ${dayOf(expired.expires)}.`, remedy);
  const future = dated.find(({ from }) => Date.parse(from) > nowMs);
  if (future)
    return problem(
      `${future.path} is not valid before ${dayOf(future.from)}.`,
      'Look at the clock of this machine, and at that of whoever made the certificate.',
    );
  const soon = dated.find(({ expires }) => Date.parse(expires) - nowMs < SOON_MS);
  if (soon) return warning(`${soon.path} expires on ${dayOf(soon.expires)}.`, remedy);
  if (dated.length === 0) return ok('There are no certificates to expire.');
  const first = dated.map(({ expires }) => expires).sort()[0]!;
  return ok(`Certificates are valid until ${dayOf(first)}.`);
}

function dayOf(iso: string): string {
  return iso.slice(0, 10);
}

function inClear(facts: Facts): Finding {
  return ofAgent(facts, ({ status: { tls, listeners } }) => {
    const remote = listeners.filter((address) => address.startsWith('tcp:') && !isLoopback(address));
    if (remote.length === 0) return ok('Volumes are served on this machine only.');
    if (tls.mode === 'forced') return ok(`${listed(remote)}: TLS only.`);
    return warning(
      `Whoever reaches ${listed(remote)} can read and write what is served there in clear.`,
      'Set nbd.tls.mode: forced (see docs/tls.md), or listen on loopback.',
    );
  });
}

function isLoopback(address: string): boolean {
  const host = address.slice('tcp:'.length, address.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

export const CELL_CHECKS: readonly Check[] = [
  { id: 'clock-synchronised', area: 'clock', look: synchronised },
  { id: 'clock-coordinator', area: 'clock', look: coordinatorsClock },
  { id: 'coordinator-connected', area: 'coordinator', look: connected },
  { id: 'coordinator-certificates', area: 'coordinator', look: coordinatorFiles },
  { id: 'tls-certificates', area: 'tls', look: nbdFiles },
  { id: 'tls-in-clear', area: 'tls', look: inClear },
];
