// Prometheus metrics of the agent, made at every scrape from the counters of the data plane and the state of the store: seconds
// and bytes, states as labels. prom-client renders them; the numbers are counted where they arise, never here.

import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { CopyCounts } from '../operations/copy/snapshot-copy.js';
import type { FreeSpace } from '../operations/space.js';
import type { OperationsStatus, VolumeInfo } from '../operations/types.js';
import type { DeviceCounters } from '../plane/treaty.js';
import type { MembershipStatus } from './coordinator-calls.js';

export interface MetricsSource {
  status(): OperationsStatus;
  freeSpace(): Promise<FreeSpace | null>;
  listVolumes(): VolumeInfo[];
  /** Null: the host is in no cell. */
  membership(): MembershipStatus | null;
  /** Export name by the handle of an open device. */
  deviceNames(): ReadonlyMap<number, string>;
  /** Of volumes from other hosts. */
  copies(): { volumes: readonly string[]; counts: CopyCounts };
}

interface Sample {
  labels: Record<string, string>;
  value: number;
  /** Differs from the family's for the parts of a histogram. */
  metricName?: string;
}

interface Family {
  name: string;
  help: string;
  type: 'gauge' | 'counter' | 'histogram';
  samples: Sample[];
}

export class Metrics {
  readonly #process = new Registry();
  readonly #source: MetricsSource;

  constructor(source: MetricsSource) {
    this.#source = source;
    // Its default of 10 ms would be most of what an idle agent does.
    collectDefaultMetrics({ register: this.#process, eventLoopMonitoringPrecision: 200 });
  }

  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;

  async text(): Promise<string> {
    const own = new Registry();
    const space = spaceFamilies(await this.#source.freeSpace());
    for (const family of [...families(this.#source), ...space]) own.registerMetric(asMetric(family));
    // What the process has not measured yet prom-client calls Nan.
    const ofProcess = (await this.#process.metrics()).replace(/^.* nan\n/gim, '');
    return (await own.metrics()) + ofProcess;
  }
}

/** What prom-client's registry needs to know of a metric is this little; its own classes count, which is done elsewhere here. */
function asMetric({ samples, ...family }: Family): Metric {
  // A number that is none says less than no sample, and spoils every sum it gets into.
  const values = samples.filter(({ value }) => Number.isFinite(value));
  return {
    ...family,
    get: async () => ({ ...family, values, aggregator: 'sum' }),
  } as unknown as Metric;
}

function families(source: MetricsSource): Family[] {
  const status = source.status();
  return [
    ...storeFamilies(status),
    ...volumeFamilies(source.listVolumes()),
    ...membershipFamilies(source.membership(), source.listVolumes()),
    ...(source.membership() ? copyFamilies(source.copies()) : []),
    ...deviceFamilies(status.plane.devices, source.deviceNames()),
  ];
}

function spaceFamilies(space: FreeSpace | null): Family[] {
  if (space === null) return [];
  return [
    single(
      'gauge',
      'cellblock_file_system_free_bytes',
      'Free on the file system of the store.',
      space.freeBytes,
    ),
    single(
      'gauge',
      'cellblock_reserve_bytes',
      'New space is refused to volumes when less than this is free.',
      space.reserveBytes,
    ),
    single('gauge', 'cellblock_below_reserve', '1: new writes are refused.', space.belowReserve ? 1 : 0),
  ];
}

const CELL_STATES = ['ACTIVE', 'OUTGOING', 'STAGED', 'SEALED', 'RECEIVING', 'FAULTED'] as const;

function membershipFamilies(membership: MembershipStatus | null, volumes: readonly VolumeInfo[]): Family[] {
  const inCells = volumes.flatMap(({ cell }) => cell ?? []);
  if (!membership && inCells.length === 0) return [];
  const connected = membership
    ? [
        single(
          'gauge',
          'cellblock_coordinator_connected',
          '1: a coordinator has taken this host, and is connected.',
          membership.connected ? 1 : 0,
        ),
      ]
    : [];
  return [
    ...connected,
    {
      name: 'cellblock_cell_volumes',
      help: 'Volumes of cells, by their state at this host.',
      type: 'gauge',
      samples: CELL_STATES.map((state) => ({
        labels: { state },
        value: inCells.filter((cell) => cell.state === state).length,
      })),
    },
  ];
}

function copyFamilies({ volumes, counts }: ReturnType<MetricsSource['copies']>): Family[] {
  return [
    single('gauge', 'cellblock_copies', 'Volumes that are being copied from other hosts.', volumes.length),
    single(
      'counter',
      'cellblock_copied_snapshots_total',
      'Snapshots that came from other hosts.',
      counts.snapshots,
    ),
    single(
      'counter',
      'cellblock_copy_received_bytes_total',
      'Data that came over the wire for copies.',
      counts.receivedBytes,
    ),
    single(
      'counter',
      'cellblock_copy_changed_bytes_total',
      'Data and zeros by which copied snapshots differ from what they continue.',
      counts.changedBytes,
    ),
    {
      name: 'cellblock_copy_troubles_total',
      help: 'mismatch: a copied snapshot was not what its source has; break: a source was not reached, or lost.',
      type: 'counter',
      samples: [
        { labels: { kind: 'mismatch' }, value: counts.mismatches },
        { labels: { kind: 'break' }, value: counts.breaks },
      ],
    },
  ];
}

const STORE_STATES = ['running', 'read-only', 'healing', 'stopping'] as const;

function storeFamilies(status: OperationsStatus): Family[] {
  const { plane } = status;
  const journalCellBytes = 64;
  return [
    states(
      'cellblock_store_state',
      'State of the store: 1 for the one it is in.',
      STORE_STATES,
      status.state,
    ),
    single('gauge', 'cellblock_volumes', 'Volumes and files.', status.volumes),
    single('gauge', 'cellblock_snapshots', 'Snapshots.', status.snapshots),
    single(
      'gauge',
      'cellblock_pending_deletes',
      'Deleted versions whose space is not freed yet.',
      status.pendingDeletes,
    ),
    single(
      'gauge',
      'cellblock_pending_punches',
      'Ranges that wait to be given back to the file system.',
      status.pendingPunches,
    ),
    {
      name: 'cellblock_syncs_total',
      help: 'Syncs, restores and undos; refused: or undone in the middle.',
      type: 'counter',
      samples: [
        { labels: { result: 'done' }, value: status.syncs.done },
        { labels: { result: 'refused' }, value: status.syncs.refused },
      ],
    },
    single(
      'counter',
      'cellblock_sync_held_seconds_total',
      'How long clients were held by syncs.',
      status.syncs.heldMs / 1000,
    ),
    single('gauge', 'cellblock_connections', 'Open NBD connections.', plane.connections),
    {
      name: 'cellblock_connections_refused_total',
      help: 'NBD clients refused; limit: of all connections; client-limit: of one user or address; access: not on the list of an export.',
      type: 'counter',
      samples: [
        { labels: { reason: 'limit' }, value: Number(plane.connectionsRefused) },
        { labels: { reason: 'client-limit' }, value: Number(plane.connectionsRefusedPerClient) },
        { labels: { reason: 'access' }, value: status.accessRefused },
      ],
    },
    single(
      'counter',
      'cellblock_handshakes_timed_out_total',
      'NBD clients dropped because they opened no export in time.',
      plane.handshakesTimedOut,
    ),
    {
      name: 'cellblock_tls_handshakes_total',
      help: 'Handshakes of TLS.',
      type: 'counter',
      samples: [
        { labels: { result: 'done' }, value: Number(plane.tlsBegun) },
        { labels: { result: 'failed' }, value: Number(plane.tlsFailed) },
      ],
    },
    single(
      'gauge',
      'cellblock_journal_size_bytes',
      'Size of the journal.',
      Number(plane.journalCells) * journalCellBytes,
    ),
    single(
      'gauge',
      'cellblock_journal_used_bytes',
      'Journal that is not in the metadata database yet.',
      Number(plane.journalUsedCells) * journalCellBytes,
    ),
    single(
      'counter',
      'cellblock_journal_syncs_total',
      'Times the journal was made stable.',
      plane.journalSyncs,
    ),
    single('gauge', 'cellblock_cache_resident_bytes', 'Memory of resident windows.', plane.residentBytes),
    single('gauge', 'cellblock_in_flight_bytes', 'Payload of requests under way.', plane.inFlightBytes),
    single('counter', 'cellblock_faults_total', 'Lookups in the metadata database.', plane.faults),
    single(
      'counter',
      'cellblock_faulted_windows_total',
      'Windows that were looked up.',
      plane.faultedWindows,
    ),
    single(
      'counter',
      'cellblock_evicted_windows_total',
      'Windows dropped from memory to make room.',
      plane.evictedWindows,
    ),
    single('counter', 'cellblock_punches_total', 'Ranges given back to the file system.', plane.punches),
    {
      name: 'cellblock_engine_info',
      help: 'How blocking disk work is done.',
      type: 'gauge',
      samples: [{ labels: { engine: plane.engine }, value: 1 }],
    },
  ];
}

const VOLUME_STATES = ['writable', 'read-only', 'failed'] as const;

function volumeFamilies(volumes: readonly VolumeInfo[]): Family[] {
  const perVolume = (value: (volume: VolumeInfo) => number): Sample[] =>
    volumes.map((volume) => ({ labels: { volume: volume.name }, value: value(volume) }));
  return [
    {
      name: 'cellblock_volume_size_bytes',
      help: 'Logical size.',
      type: 'gauge',
      samples: perVolume(({ sizeBytes }) => Number(sizeBytes)),
    },
    {
      name: 'cellblock_volume_snapshots',
      help: 'Snapshots of the volume.',
      type: 'gauge',
      samples: perVolume(({ snapshots }) => snapshots),
    },
    {
      name: 'cellblock_volume_state',
      help: 'State of the volume: 1 for the one it is in.',
      type: 'gauge',
      samples: volumes.flatMap((volume) =>
        VOLUME_STATES.map((state) => ({
          labels: { volume: volume.name, state },
          value: state === stateOf(volume) ? 1 : 0,
        })),
      ),
    },
  ];
}

function stateOf(volume: VolumeInfo): (typeof VOLUME_STATES)[number] {
  if (volume.failed !== null) return 'failed';
  return volume.readOnly ? 'read-only' : 'writable';
}

/** Kinds of requests with their names in metrics. */
const KINDS = ['read', 'write', 'flush', 'trim', 'write_zeroes', 'block_status'] as const;

/** Every open export: volumes by NAME, snapshots by NAME@SNAPSHOT. */
function deviceFamilies(devices: readonly DeviceCounters[], names: ReadonlyMap<number, string>): Family[] {
  const named = devices.flatMap((device) => {
    const name = names.get(device.handle);
    return name === undefined ? [] : [{ device, labels: { export: name } }];
  });
  const perKind = (value: (kind: DeviceCounters['kinds']['read']) => bigint): Sample[] =>
    named.flatMap(({ device, labels }) =>
      KINDS.map((kind) => ({ labels: { ...labels, kind }, value: Number(value(device.kinds[kind])) })),
    );
  return [
    {
      name: 'cellblock_export_connections',
      help: 'Open NBD connections of the export.',
      type: 'gauge',
      samples: named.map(({ device, labels }) => ({ labels, value: device.connections })),
    },
    {
      name: 'cellblock_export_resident_bytes',
      help: 'Memory of resident windows of the export.',
      type: 'gauge',
      samples: named.map(({ device, labels }) => ({ labels, value: Number(device.residentBytes) })),
    },
    {
      name: 'cellblock_export_throttled_requests_total',
      help: 'Requests that waited for a limit of the export.',
      type: 'counter',
      samples: named.map(({ device, labels }) => ({ labels, value: Number(device.throttledRequests) })),
    },
    {
      name: 'cellblock_export_throttled_seconds_total',
      help: 'How long requests waited for limits of the export, each as long as it was next of its connection.',
      type: 'counter',
      samples: named.map(({ device, labels }) => ({
        labels,
        value: Number(device.throttledMicroseconds) / 1e6,
      })),
    },
    {
      name: 'cellblock_request_errors_total',
      help: 'Requests answered with an error.',
      type: 'counter',
      samples: perKind(({ errors }) => errors),
    },
    {
      name: 'cellblock_request_bytes_total',
      help: 'Bytes read, written, trimmed, zeroed.',
      type: 'counter',
      samples: perKind(({ bytes }) => bytes),
    },
    latency(named),
  ];
}

/** Bucket n of the data plane counts requests of [2^(n-1), 2^n) microseconds; shown are bounds from 16 us to 33 s. */
const FIRST_SHOWN_BUCKET = 4;
const LAST_SHOWN_BUCKET = 25;

function latency(named: readonly { device: DeviceCounters; labels: { export: string } }[]): Family {
  const name = 'cellblock_request_duration_seconds';
  const samples = named.flatMap(({ device, labels }) =>
    KINDS.flatMap((kind) => {
      const { buckets, requests, microseconds } = device.kinds[kind];
      const all = { ...labels, kind };
      return [
        ...cumulative(buckets).map(({ bound, count }) => ({
          metricName: `${name}_bucket`,
          labels: { ...all, le: bound },
          value: count,
        })),
        { metricName: `${name}_bucket`, labels: { ...all, le: '+Inf' }, value: Number(requests) },
        { metricName: `${name}_sum`, labels: all, value: Number(microseconds) / 1e6 },
        { metricName: `${name}_count`, labels: all, value: Number(requests) },
      ];
    }),
  );
  return { name, help: 'Time from the arrival of a request to its reply.', type: 'histogram', samples };
}

function cumulative(buckets: BigUint64Array): { bound: string; count: number }[] {
  const shown: { bound: string; count: number }[] = [];
  let count = 0n;
  buckets.forEach((value, index) => {
    count += value;
    if (index >= FIRST_SHOWN_BUCKET && index <= LAST_SHOWN_BUCKET)
      shown.push({ bound: String(2 ** index / 1e6), count: Number(count) });
  });
  return shown;
}

function single(type: 'gauge' | 'counter', name: string, help: string, value: number | bigint): Family {
  return { name, help, type, samples: [{ labels: {}, value: Number(value) }] };
}

function states<State extends string>(
  name: string,
  help: string,
  all: readonly State[],
  current: State,
): Family {
  return {
    name,
    help,
    type: 'gauge',
    samples: all.map((state) => ({ labels: { state }, value: state === current ? 1 : 0 })),
  };
}
