// Facts of an installation where all is well, for tests that spoil one thing.

import type { Status } from '../../src/agent/api-schema.js';
import type { Diagnosis } from '../../src/agent/diagnosis-schema.js';
import type { AgentFacts, Facts } from '../../src/commands/doctor/facts.js';

export const NOW_MS = Date.parse('2026-06-01T12:00:00.000Z');
const STORE_ID = '0123456789abcdef0123456789abcdef';

const FILE = { error: null, uid: 0, mode: 0o640 };
const CERTIFICATE = {
  subject: 'CN=h1',
  from: '2026-01-01T00:00:00.000Z',
  expires: '2027-01-01T00:00:00.000Z',
};

export function soundDiagnosis(): Diagnosis {
  return {
    program: {
      version: '1.2.3',
      node: process.versions.node,
      engine: 'io_uring',
      engineWanted: 'automatic',
      configuration: '/etc/cellblock/cellblock.yaml',
      started: '2026-06-01T10:00:00.000Z',
      keepsClients: true,
      maxConnections: 4096,
    },
    process: {
      pid: 77,
      uid: 0,
      capabilities: '000001ffffffffff',
      openDescriptors: 60,
      descriptorLimit: 524_288,
      residentBytes: 100n << 20n,
      swappedBytes: 0n,
      memoryLimitBytes: 1n << 30n,
      memoryUsedBytes: 200n << 20n,
    },
    store: {
      directory: '/var/lib/cellblock',
      error: null,
      uid: 0,
      mode: 0o700,
      mount: { point: '/', type: 'ext4', source: '/dev/sda1', options: ['rw', 'relatime'] },
      sizeBytes: 1n << 40n,
      freeBytes: 1n << 39n,
      trend: { bytesPerSecond: -1000, seconds: 3600 },
    },
    journal: { sizeBytes: 64n << 20n, usedBytes: 8n << 20n },
    cache: { limitBytes: 64n << 20n, residentBytes: 1n << 20n },
    inFlightBytes: 0n,
    files: [
      {
        key: 'nbd.tls.certificate',
        path: '/tls/cert.pem',
        holds: 'certificates',
        ...FILE,
        certificate: { ...CERTIFICATE },
      },
      { key: 'nbd.tls.key', path: '/tls/key.pem', holds: 'secret', ...FILE, mode: 0o600, certificate: null },
      {
        key: 'coordinator.tls.certificate',
        path: '/cell/cert.pem',
        holds: 'certificates',
        ...FILE,
        certificate: { ...CERTIFICATE },
      },
    ],
    coordinator: { addresses: ['wss://c1:7443'], clockDifferenceMs: 12 },
  };
}

function soundStatus(): Status {
  return {
    version: '1.2.3',
    pid: 77,
    uptimeSeconds: 7200,
    listeners: ['unix:/run/cellblock/nbd.sock', 'tcp:127.0.0.1:10809'],
    tls: {
      mode: 'selective',
      clients: 'none',
      psk: false,
      certificate: { subject: 'CN=h1', expires: CERTIFICATE.expires },
      begun: 0,
      failed: 0,
    },
    store: {
      directory: '/var/lib/cellblock',
      id: STORE_ID,
      formatVersion: 3,
      windowBytes: 2n << 20n,
      journalBytes: 64n << 20n,
      space: { freeBytes: 1n << 39n, reserveBytes: 256n << 20n, belowReserve: false },
      state: 'running',
      recovery: {
        isNew: false,
        clean: true,
        powerLoss: false,
        entriesSeen: 0,
        entriesCounted: 0,
        cutsCompleted: 0,
        failedVolumes: [],
        milliseconds: 5,
      },
    },
    counts: {
      volumes: 3,
      snapshots: 1,
      connections: 2,
      openDevices: 2,
      pendingDeletes: 0,
      pendingPunches: 0,
    },
    coordinator: {
      host: 'h1',
      cell: 'east',
      connected: true,
      coordinator: 'c1',
      leader: 'c1',
      serving: true,
    },
    failedVolumes: [],
    engine: 'io_uring',
  };
}

const UNIT = { loadState: 'loaded', activeState: 'active', fileState: 'enabled', result: 'success' };

export interface SoundFacts extends Facts {
  agent: AgentFacts & {
    diagnosis: Diagnosis;
    attachments: Exclude<AgentFacts['attachments'], { unknown: string }>;
  };
  store: Exclude<Facts['store'], { unknown: string }>;
  group: Exclude<Facts['group'], { unknown: string }>;
  configuration: Exclude<Facts['configuration'], { unknown: string }>;
  systemd: Exclude<Facts['systemd'], { unknown: string }>;
  memory: Exclude<Facts['memory'], { unknown: string }>;
}

export function soundFacts(): SoundFacts {
  const diagnosis = soundDiagnosis();
  return {
    nowMs: NOW_MS,
    command: { version: '1.2.3', node: process.versions.node, addonProblem: null, uid: 1000, user: 'ann' },
    kernel: {
      release: '6.1.0-18-amd64',
      nbd: 'loaded',
      nbdMaxPart: 16,
      ioUringDisabled: 0,
      devices: [
        { device: '/dev/nbd0', pid: null, identifier: `cellblock:${STORE_ID}:container-1` },
        { device: '/dev/nbd7', pid: 800, identifier: null },
      ],
    },
    socket: { path: '/run/cellblock/api.sock', failure: null },
    group: { name: 'cellblock', exists: true, listed: true, held: true },
    agent: {
      status: soundStatus(),
      diagnosis,
      attachments: [
        {
          name: 'web',
          device: '/dev/nbd0',
          readOnly: false,
          sizeBytes: 1n << 30n,
          blockBytes: 512n,
          connections: 2,
          connected: 2,
          ioTimeoutSeconds: 10,
          deadTimeoutSeconds: 300,
          created: '2026-06-01T10:00:00.000Z',
          users: [],
        },
      ],
    },
    store: { ...diagnosis.store, mount: { ...diagnosis.store.mount! } },
    configuration: {
      path: '/etc/cellblock/cellblock.yaml',
      problem: null,
      inForce: true,
      changed: '2026-05-01T00:00:00.000Z',
    },
    clock: { synchronised: true },
    systemd: {
      service: {
        ...UNIT,
        mainPid: 77,
        restarts: 0,
        watchdogMs: 30_000,
        descriptorStoreMax: 8192,
        store: '/var/lib/cellblock',
        configuration: '/etc/cellblock/cellblock.yaml',
      },
      sockets: [
        { name: 'cellblockd.socket', ...UNIT },
        { name: 'cellblockd-api.socket', ...UNIT },
      ],
    },
    memory: { totalBytes: 16n << 30n, availableBytes: 8n << 30n },
  };
}
