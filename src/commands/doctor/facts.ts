// What the checks of `cellblock doctor` judge: plain values, gathered in one place (gather.ts), given by hand in tests. What could not be
// found out says why, and the checks that need it say so too.

import type { Status } from '../../agent/api-schema.js';
import type { Diagnosis } from '../../agent/diagnosis-schema.js';
import type { ProcessFacts } from '../../agent/process-facts.js';
import type { Attachment } from '../../agent/routes/attachments.js';
import type { StorePlace } from '../../agent/store-place.js';

/** Why something is not known: the end of a sentence that begins with "because". */
export interface Unknown {
  unknown: string;
}

export type Maybe<Fact> = Fact | Unknown;

export function isUnknown(fact: unknown): fact is Unknown {
  return typeof fact === 'object' && fact !== null && 'unknown' in fact;
}

export interface Facts {
  /** Milliseconds since 1970. */
  nowMs: number;
  command: CommandFacts;
  kernel: KernelFacts;
  socket: SocketFacts;
  /** The group whose members may use the agent. */
  group: Maybe<GroupFacts>;
  agent: Maybe<AgentFacts>;
  store: Maybe<StorePlace>;
  configuration: Maybe<ConfigurationFacts>;
  clock: Maybe<{ synchronised: boolean }>;
  systemd: Maybe<SystemdFacts>;
  memory: Maybe<{ totalBytes: bigint; availableBytes: bigint }>;
}

/** This program, as it runs now. */
export interface CommandFacts {
  version: string;
  node: string;
  /** A sentence; null: the native part can be loaded. */
  addonProblem: string | null;
  uid: number;
  user: string;
}

export interface KernelFacts {
  /** `6.1.0-18-amd64` */
  release: string;
  nbd: Maybe<'loaded' | 'loadable' | 'missing'>;
  /** Partitions a device may have; null: the driver is not loaded, or does not tell. */
  nbdMaxPart: number | null;
  /** 0: allowed, 1: only for some, 2: forbidden; null: this kernel does not restrict it. */
  ioUringDisabled: number | null;
  devices: Maybe<KernelDevice[]>;
}

/** A device of the nbd driver that is connected. */
export interface KernelDevice {
  /** `/dev/nbd0` */
  device: string;
  /** Who connected it; null: not by ioctl, or not known. */
  pid: number | null;
  /** What it was connected with; null: nothing. */
  identifier: string | null;
}

export interface SocketFacts {
  path: string;
  /** Why nobody was reached there; null: the agent answered. */
  failure: { message: string; hint: string } | null;
}

export interface GroupFacts {
  name: string;
  exists: boolean;
  /** By /etc/group. */
  listed: boolean;
  /** This process has it. */
  held: boolean;
}

export interface AgentFacts {
  status: Status;
  /** Of an agent that can tell. */
  diagnosis: Maybe<Diagnosis>;
  attachments: Maybe<Attachment[]>;
}

export interface ConfigurationFacts {
  path: string;
  /** Null: it can be read and is right. */
  problem: { message: string; hint: string } | null;
  /** The agent was started with it. */
  inForce: boolean;
  /** ISO 8601; null: not known. */
  changed: string | null;
}

export interface UnitFacts {
  /** `loaded`, `not-found`, ... */
  loadState: string;
  /** `active`, `inactive`, `failed`, ... */
  activeState: string;
  /** `enabled`, `disabled`, ... */
  fileState: string;
  result: string;
}

export interface SystemdFacts {
  service: UnitFacts & {
    mainPid: number;
    restarts: number;
    /** 0: none. */
    watchdogMs: number;
    descriptorStoreMax: number;
    /** Of its command line; null: it has none. */
    store: string | null;
    configuration: string | null;
  };
  sockets: (UnitFacts & { name: string })[];
}

export type { ProcessFacts };
