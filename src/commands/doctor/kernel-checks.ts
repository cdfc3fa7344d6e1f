// The kernel, and its devices.

import { type Facts, isUnknown, type KernelDevice } from './facts.js';
import {
  type Check,
  counted,
  type Finding,
  given,
  listed,
  notChecked,
  ofAgent,
  ok,
  problem,
  warning,
} from './finding.js';

/** The first that keeps what a device was connected with (`/sys/block/nbdN/backend`): by that a restarted agent finds its own. */
const DEVICES_FOUND_AGAIN = [5, 14] as const;

const LOAD_NBD = 'Run `modprobe nbd`, and for every start: `echo nbd > /etc/modules-load.d/nbd.conf`.';

function version({ kernel: { release } }: Facts): Finding {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  if (!/^\d+\.\d+/.test(release)) return notChecked('the kernel does not tell its version');
  const [leastMajor, leastMinor] = DEVICES_FOUND_AGAIN;
  if (major > leastMajor || (major === leastMajor && minor >= leastMinor)) return ok(`Linux ${release}.`);
  return warning(
    `Linux ${release} does not keep whose a device is: an agent that is killed does not find its devices again.`,
    `Use Linux ${leastMajor}.${leastMinor} or newer, or attach no devices.`,
  );
}

function driver({ kernel }: Facts): Finding {
  return given(kernel.nbd, (state) => {
    switch (state) {
      case 'loaded':
        return ok('The nbd driver is there.');
      case 'loadable':
        return warning('The nbd driver is not loaded: volumes cannot be attached as devices.', LOAD_NBD);
      case 'missing':
        return warning(
          `There is no nbd driver for Linux ${kernel.release}: volumes cannot be attached as devices.`,
          'Install the modules of the kernel that runs (Debian: linux-image-amd64, then restart the machine); NBD clients do not need it.',
        );
    }
  });
}

function partitions({ kernel }: Facts): Finding {
  if (kernel.nbd !== 'loaded') return notChecked('the nbd driver is not loaded');
  if (kernel.nbdMaxPart === null) return notChecked('the nbd driver does not say what it was loaded with');
  if (kernel.nbdMaxPart > 0) return ok(`Devices may have ${kernel.nbdMaxPart} partitions.`);
  return warning(
    'The nbd driver was loaded with max_part=0: partitions in volumes are not seen.',
    'Detach all devices, then `modprobe -r nbd && modprobe nbd max_part=16`; `options nbd max_part=16` in /etc/modprobe.d/nbd.conf keeps it.',
  );
}

function ioUring(facts: Facts): Finding {
  const { agent, kernel } = facts;
  const diagnosis = isUnknown(agent) ? agent : agent.diagnosis;
  if (isUnknown(diagnosis)) return byKernel(kernel.ioUringDisabled);
  const { engine, engineWanted } = diagnosis.program;
  if (engine === 'io_uring') return ok('The agent uses io_uring.');
  if (engineWanted === 'workers') return ok('The agent uses worker threads, as configured.');
  return warning(
    `The agent uses worker threads: io_uring is forbidden${kernel.ioUringDisabled ? ` (kernel.io_uring_disabled is ${kernel.ioUringDisabled})` : ''}.`,
    kernel.ioUringDisabled
      ? 'Run `sysctl kernel.io_uring_disabled=0` and restart the agent, or set engine.kind: workers.'
      : 'Allow io_uring in the seccomp filter of the container or unit, or set engine.kind: workers.',
  );
}

function byKernel(disabled: number | null): Finding {
  if (!disabled) return ok('The kernel allows io_uring.');
  return warning(
    `The kernel forbids io_uring ${disabled === 1 ? 'to most programs' : 'to all programs'} (kernel.io_uring_disabled is ${disabled}): disks are slower.`,
    'Run `sysctl kernel.io_uring_disabled=0`, or set engine.kind: workers.',
  );
}

function connections(facts: Facts): Finding {
  return ofAgent(facts, ({ attachments }) =>
    given(attachments, (all) => {
      if (all.length === 0) return ok('Nothing is attached.');
      const dead = all.filter(({ connected }) => connected === 0);
      const fewer = all.filter(({ connected, connections }) => connected < connections);
      const remedy =
        'Look into the log of cellblockd; if it stays so, unmount and detach the device, and attach it again.';
      if (dead.length > 0)
        return problem(
          `Requests wait: ${listed(dead.map(({ device }) => device))} ${dead.length === 1 ? 'has' : 'have'} no connection to the agent.`,
          remedy,
        );
      if (fewer.length === 0) return ok(`${counted(all.length, 'device')} with all connections.`);
      const names = fewer.map((one) => `${one.device} (${one.connected} of ${one.connections})`);
      return warning(`Connections of devices are missing: ${listed(names)}.`, remedy);
    }),
  );
}

/** Devices of the kernel that were made by cellblock and that the agent does not know, or nobody serves. */
function strangers(facts: Facts): Finding {
  return given(facts.kernel.devices, (devices) => {
    const made = devices.filter(({ identifier }) => identifier?.startsWith('cellblock:'));
    const { agent } = facts;
    if (isUnknown(agent)) return orphans(made, devices.length);
    return given(agent.attachments, (attachments) => {
      const known = new Set(attachments.map(({ device }) => device));
      const prefix = `cellblock:${agent.status.store.id}:`;
      const lost = made.filter(
        ({ identifier, device }) => identifier!.startsWith(prefix) && !known.has(device),
      );
      if (lost.length === 0)
        return ok(`${counted(devices.length, 'device')} of the nbd driver connected, none of them lost.`);
      const first = lost[0]!.device;
      return warning(
        `The agent does not know ${listed(lost.map(({ device }) => device))}, which its store was attached as.`,
        `Unmount what is on it, then run \`nbd-client -d ${first}\`, and attach the volume again.`,
      );
    });
  });
}

function orphans(made: readonly KernelDevice[], all: number): Finding {
  if (made.length === 0)
    return ok(`${counted(all, 'device')} of the nbd driver connected, none by cellblock.`);
  return problem(
    `${listed(made.map(({ device }) => device))} of cellblock ${made.length === 1 ? 'waits' : 'wait'} for an agent: requests fail when the dead-connection timeout has passed.`,
    'Start the agent of that store soon.',
  );
}

export const KERNEL_CHECKS: readonly Check[] = [
  { id: 'kernel-version', area: 'kernel', look: version },
  { id: 'kernel-nbd-driver', area: 'kernel', look: driver },
  { id: 'kernel-nbd-partitions', area: 'kernel', look: partitions },
  { id: 'kernel-io-uring', area: 'kernel', look: ioUring },
  { id: 'devices-connections', area: 'devices', look: connections },
  { id: 'devices-known', area: 'devices', look: strangers },
];
