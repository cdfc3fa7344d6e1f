// The store, the file system below it, and how much the agent has to do.

import { formatBytes, formatDuration } from '../format.js';
import { type Facts, isUnknown } from './facts.js';
import {
  type Check,
  counted,
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

const DAY_SECONDS = 86_400;
const HOUR_SECONDS = 3600;

function state(facts: Facts): Finding {
  return ofAgent(facts, ({ status }) => {
    switch (status.store.state) {
      case 'running':
        return ok('The store is running.');
      case 'healing':
        return warning(
          'The metadata of the store cannot be written now; the agent tries again.',
          'Look into the log of cellblockd, and at the disk: `dmesg`, free space.',
        );
      case 'read-only':
        return problem(
          'The store is read-only because its journal could not be made stable.',
          'Look at the disk (`dmesg`), then restart the agent: `systemctl restart cellblockd`.',
        );
      case 'stopping':
        return warning('The agent is stopping.', 'Wait for it, and ask again.');
    }
  });
}

function failed(facts: Facts): Finding {
  return ofAgent(facts, ({ status: { failedVolumes, counts } }) => {
    if (failedVolumes.length === 0) return ok(`${counted(counts.volumes, 'volume')}, none failed.`);
    return problem(
      `Read-only since their disk failed: ${listed(failedVolumes)}.`,
      'Look at the disk (`dmesg`), then run `cellblock volume repair NAME`, and check what is on the volume.',
    );
  });
}

function recovery(facts: Facts): Finding {
  return ofAgent(facts, ({ status }) => {
    const { clean, isNew, powerLoss, entriesCounted } = status.store.recovery;
    if (isNew) return ok('The store was made by the last start.');
    if (clean) return ok('The last start followed a clean stop.');
    // Whoever has not asked for a day will not want to know.
    if (!powerLoss || status.uptimeSeconds > DAY_SECONDS)
      return ok(`The last start brought ${entriesCounted} entries of the journal in, as after a crash.`);
    return warning(
      `The machine lost power before the last start, ${formatDuration(status.uptimeSeconds)} ago: what clients had not flushed may be gone.`,
      'Check file systems on volumes that were written then, if they do not do that themselves.',
    );
  });
}

const MAKE_ROOM =
  'Delete volumes or snapshots (`cellblock store status` says what that gives back), or enlarge the file system.';

function space(facts: Facts): Finding {
  return ofAgent(facts, ({ status, diagnosis }) => {
    const { space: free } = status.store;
    if (free === undefined) return notChecked('the file system of the store does not answer');
    const { freeBytes, reserveBytes, belowReserve } = free;
    const facts = `${formatBytes(freeBytes)} free, ${formatBytes(reserveBytes)} in reserve`;
    if (belowReserve) return problem(`The store is full: ${facts}; new writes are refused.`, MAKE_ROOM);
    const trend = isUnknown(diagnosis) ? null : diagnosis.store.trend;
    const lasts =
      trend && trend.bytesPerSecond < 0 ? Number(freeBytes - reserveBytes) / -trend.bytesPerSecond : null;
    if (lasts !== null && lasts < DAY_SECONDS) {
      const message = `${facts}: at the rate of the last ${formatDuration(trend!.seconds)} the store is full in ${formatDuration(lasts)}.`;
      return lasts < HOUR_SECONDS ? problem(message, MAKE_ROOM) : warning(message, MAKE_ROOM);
    }
    if (freeBytes < 2n * reserveBytes) return warning(`Little room is left: ${facts}.`, MAKE_ROOM);
    return ok(
      `${facts}${lasts === null ? '' : `; enough for ${formatDuration(lasts)} at the present rate`}.`,
    );
  });
}

/** File systems that were tried, or do what they promise. */
const SUITABLE: ReadonlySet<string> = new Set(['ext4', 'xfs', 'btrfs', 'f2fs', 'bcachefs', 'zfs', 'ext3']);

const UNSUITABLE: Readonly<Record<string, string>> = {
  vfat: 'it cannot punch holes',
  msdos: 'it cannot punch holes',
  exfat: 'it cannot punch holes',
  ntfs3: 'it cannot punch holes reliably',
  hfsplus: 'it cannot punch holes',
  squashfs: 'nothing can be written there',
  iso9660: 'nothing can be written there',
  '9p': 'it cannot punch holes',
  nfs: 'it cannot punch holes before version 4.2',
};

function fileSystem(facts: Facts): Finding {
  return withMount(facts, ({ type, options }, { directory }) => {
    const elsewhere = 'Move the store to a local file system such as ext4 or XFS.';
    const nfsVersion = options.find((option) => option.startsWith('vers='))?.slice('vers='.length);
    if (type === 'nfs4' && Number(nfsVersion) < 4.2)
      return problem(`The store lies on NFS ${nfsVersion}, which cannot punch holes.`, elsewhere);
    const why = UNSUITABLE[type];
    if (why !== undefined) return problem(`The store lies on ${type}: ${why}.`, elsewhere);
    if (SUITABLE.has(type)) return ok(`${directory} lies on ${type}.`);
    return warning(describe(type, directory), elsewhere);
  });
}

function describe(type: string, directory: string): string {
  if (type === 'tmpfs' || type === 'ramfs')
    return `${directory} lies in memory (${type}): a restart of the machine ends it.`;
  if (type === 'overlay')
    return `${directory} lies on overlay, the file system of a container: it goes with the container.`;
  if (type.startsWith('fuse'))
    return `${directory} lies on ${type}: whether it punches holes, and what a flush means there, depends on its program.`;
  if (/^(nfs4|cifs|smb3|ceph|glusterfs|lustre)$/.test(type))
    return `${directory} lies on ${type}: what a flush means, and who else has it open, depends on a server.`;
  return `${directory} lies on ${type}, which was not tried.`;
}

function mountOptions(facts: Facts): Finding {
  return withMount(facts, ({ point, options }) => {
    const has = (...wanted: string[]) => wanted.find((option) => options.includes(option));
    if (has('ro'))
      return problem(
        `${point}, where the store lies, is mounted read-only.`,
        `Run \`mount -o remount,rw ${point}\`, after a look at \`dmesg\`.`,
      );
    const noBarriers = has('nobarrier', 'barrier=0');
    if (noBarriers)
      return problem(
        `${point} is mounted with ${noBarriers}: what was flushed is lost when the power fails.`,
        `Take ${noBarriers} out of /etc/fstab, and mount it again.`,
      );
    const slow = has('sync', 'dirsync');
    if (slow)
      return warning(
        `${point} is mounted with ${slow}: every write waits for the disk.`,
        `Take ${slow} out of /etc/fstab; flushes are durable without it.`,
      );
    return ok(`${point} is mounted with ${options.slice(0, 6).join(',')}.`);
  });
}

type Place = Exclude<Facts['store'], { unknown: string }>;

function withMount(
  facts: Facts,
  look: (mount: NonNullable<Place['mount']>, place: Place) => Finding,
): Finding {
  return given(facts.store, (place) => {
    if (place.error !== null) return notChecked(`${place.directory} cannot be looked at (${place.error})`);
    return place.mount === null
      ? notChecked('the table of mounts does not say where it lies')
      : look(place.mount, place);
  });
}

/** A quarter of it is kept for what has to be written in any case. */
const JOURNAL_FULL = 0.75;
const JOURNAL_FILLING = 0.5;

function journal(facts: Facts): Finding {
  return ofDiagnosis(facts, ({ journal: { sizeBytes, usedBytes } }) => {
    const part = Number(usedBytes) / Number(sizeBytes);
    const used = `${Math.round(part * 100)} % of the journal are used (${formatBytes(usedBytes)} of ${formatBytes(sizeBytes)})`;
    const remedy =
      'Look whether the disk is busy (`iostat -x 1`) and into the log of cellblockd; the size of a journal is fixed when a store is made (store.journal).';
    if (part >= JOURNAL_FULL) return problem(`${used}: writes wait for the metadata.`, remedy);
    if (part >= JOURNAL_FILLING) return warning(`${used}: the metadata falls behind.`, remedy);
    return ok(`${used}.`);
  });
}

const MEMORY_LOW = 0.05;
const LIMIT_NEAR = 0.9;
const SWAPPED_MUCH = 64n << 20n;

function memory(facts: Facts): Finding {
  return given(facts.memory, ({ totalBytes, availableBytes }) => {
    const { agent } = facts;
    const own = isUnknown(agent) || isUnknown(agent.diagnosis) ? null : agent.diagnosis.process;
    const limit = own?.memoryLimitBytes ?? null;
    const used = own?.memoryUsedBytes ?? null;
    if (limit !== null && used !== null && Number(used) >= Number(limit) * LIMIT_NEAR)
      return problem(
        `The agent's control group uses ${formatBytes(used)} of the ${formatBytes(limit)} it may: the kernel is about to kill it.`,
        'Raise MemoryMax= of the unit or the limit of the container, or lower store.cache and nbd.max_connections.',
      );
    if (Number(availableBytes) < Number(totalBytes) * MEMORY_LOW)
      return warning(
        `The machine has ${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} memory left.`,
        'Look who uses it (`ps aux --sort=-rss | head`).',
      );
    if (own?.swappedBytes != null && own.swappedBytes > SWAPPED_MUCH)
      return warning(
        `${formatBytes(own.swappedBytes)} of the agent are swapped out: clients wait for them.`,
        'Make room in memory, or set MemorySwapMax=0 in the unit.',
      );
    return ok(`${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} memory available.`);
  });
}

export const STORE_CHECKS: readonly Check[] = [
  { id: 'store-state', area: 'store', look: state },
  { id: 'store-failed-volumes', area: 'store', look: failed },
  { id: 'store-recovery', area: 'store', look: recovery },
  { id: 'store-space', area: 'store', look: space },
  { id: 'store-file-system', area: 'store', look: fileSystem },
  { id: 'store-mount-options', area: 'store', look: mountOptions },
  { id: 'load-journal', area: 'load', look: journal },
  { id: 'load-memory', area: 'load', look: memory },
];
