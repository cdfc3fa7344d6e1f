// Why the kernel would not, in a sentence, and what to do.

import { CellblockError } from '../../base/errors.js';
import { errnoName, type KernelAnswer } from '../plane-client.js';
import { type DeviceUser, describeUsers } from './device-users.js';

export function kernelError(doing: string, { error, sentence }: KernelAnswer): CellblockError {
  const errno = errnoName(error);
  switch (errno) {
    case 'EPROTONOSUPPORT':
      return new CellblockError('kernel-driver-missing', 'The nbd driver of the kernel is not loaded.', {
        hint: 'Run `modprobe nbd` as root; to have it after every start too, write `nbd` to /etc/modules-load.d/nbd.conf.',
      });
    case 'EPERM':
    case 'EACCES':
      return new CellblockError(
        'permission-denied',
        `The kernel does not let the agent do this: ${doing} (${errno}).`,
        { hint: 'Run the agent as root, or give it the capability CAP_SYS_ADMIN.' },
      );
    default: {
      const why = sentence === '' ? errno : `${errno}, ${sentence}`;
      return new CellblockError('kernel-device-failed', `The kernel could not do this: ${doing} (${why}).`, {
        hint: 'See the log of the kernel, `dmesg`, and /sys/block/nbd*/backend for whose its devices are.',
        facts: { errno },
      });
    }
  }
}

/** `users`: those that can be seen from here; there may be others, in other namespaces. */
export function deviceInUse(node: string, name: string, users: readonly DeviceUser[]): CellblockError {
  const who =
    users.length > 0
      ? describeUsers(users)
      : `${node} is in use, by what cannot be seen from here (another mount namespace?)`;
  return new CellblockError('kernel-device-in-use', `${JSON.stringify(name)} is attached, and ${who}.`, {
    hint: 'End that first: unmount it, swapoff it, or remove what is mapped onto it.',
    facts: { device: node },
  });
}

export function notAttached(name: string): CellblockError {
  return new CellblockError('attachment-not-found', `${JSON.stringify(name)} is not attached.`, {
    hint: 'See `cellblock attach list`.',
  });
}

export function alreadyAttached(name: string, node: string): CellblockError {
  return new CellblockError('attachment-exists', `${JSON.stringify(name)} is attached already, as ${node}.`, {
    hint: 'Use that device, or detach it first: two devices of one volume would not know of what the other caches.',
  });
}
