// The treaty between TypeScript and the native data plane: every call, every record, with who owns what.
//
// Rules: commands never block and never wait for a request; what takes time carries a ticket and is answered by exactly one
// record of the same ticket. Buffers handed down are copied during the call; buffers handed up belong to JavaScript.
// A file number, container id, line id and layer is a number below 2^53; byte quantities, windows, positions and slots are bigint.

/** How the data plane is set up; all of it is fixed until close(). */
export interface PlaneOptions {
  /** Store directory; `journal` and `extents/` lie in it. */
  directory: string;
  /** 16 bytes, the store's id. */
  storeId: Uint8Array;
  windowBytes: number;
  /**
   * Bytes of the journal's ring when it has to be made; an existing one keeps its size. 0: it may not be made, and open() throws ENOENT
   * or ENODATA when it is not there or has no header.
   */
  journalBytes: bigint;
  reactors: number;
  engine: 'automatic' | 'io_uring' | 'workers';
  /** Open extents files with O_DIRECT. */
  direct: boolean;
  /** Bytes of resident windows for the whole store. */
  cacheBytes: bigint;
  /** First writes are refused (ENOSPC) when the file system has fewer free bytes than this. */
  reserveBytes: bigint;
  /** A container whose oldest change is not in LevelDB after this asks for a round. */
  roundAfterMs: number;
  maxConnections: number;
  /** Of one uid or address; 0: no limit of its own. */
  maxConnectionsPerClient: number;
  handshakeTimeoutMs: number;
  /** Changes with every boot; power loss is assumed when it differs from the journal's. */
  bootId: string;
  /** Tests only: an object of the addon's class SimulatedDisk, used instead of the real disk. */
  simulation?: object;
}

/** What lies in the journal at start. `entries` in position order, one per line of `JournalEntry`. */
export interface JournalScan {
  /** No journal file was there (a new store). */
  created: boolean;
  /** Stopped cleanly: nothing to replay. */
  clean: boolean;
  /** Same boot, device, inode and store: every entry counts. False: power loss, only what is committed. */
  sameIncarnation: boolean;
  entries: JournalEntry[];
  /** The position the next entry will get at least; above everything seen. */
  nextPosition: bigint;
}

export type JournalEntry =
  | {
      kind: 'own';
      position: bigint;
      line: number;
      version: number;
      window: bigint;
      start: number;
      count: number;
      slot: bigint;
    }
  | {
      kind: 'zero';
      position: bigint;
      line: number;
      version: number;
      window: bigint;
      start: number;
      count: number;
    }
  /** Windows [first, end); end null: open. */
  | { kind: 'cut-off'; position: bigint; line: number; version: number; first: bigint; end: bigint | null }
  /** Everything of the line up to `upTo` counts after power loss. */
  | { kind: 'commit'; position: bigint; line: number; upTo: bigint }
  | { kind: 'cut'; position: bigint; members: CutMember[] }
  /** Everything of the line after `after` is void for ever. */
  | { kind: 'failed'; position: bigint; line: number; after: bigint };

/** One container of a cut: `version` of `line` ended here and became the snapshot. */
export interface CutMember {
  line: number;
  version: number;
  /** The line's entries at or below this position belong to the snapshot or older and count. */
  upTo: bigint;
  /** 16 bytes. */
  snapshotId: Uint8Array;
  name: string;
}

export interface ExtentsFile {
  number: number;
  /** Path relative to the store directory. */
  path: string;
}

/** Opens a current map (writable) or a frozen one (read-only view). `handle` is chosen by JavaScript, unique while open. */
export interface DeviceOptions {
  handle: number;
  container: number;
  line: number;
  version: number;
  sizeBytes: bigint;
  readOnly: boolean;
  /** Layer numbers of the live versions of the chain, ascending; the last is this version's. */
  layers: number[];
  /** The container's own files, in order; writes go to the last. Empty for read-only views. */
  files: ExtentsFile[];
  /** Nothing in LevelDB or below: faults need not be asked. */
  empty: boolean;
  /** After an unclean stop: the first flush syncs every file. */
  unclean: boolean;
}

export interface DeviceLimits {
  iops: number;
  iopsBurst: number;
  bandwidth: bigint;
  bandwidthBurst: bigint;
}

/** The map a held volume continues with. */
export interface RebaseTarget {
  line: number;
  version: number;
  sizeBytes: bigint;
  layers: number[];
  /** Nothing in LevelDB or below. */
  empty: boolean;
  /** What LevelDB lacks of the old map is dropped: it is of no use any more. */
  discard: boolean;
}

/** A block device of the kernel, /dev/nbdN. */
export interface KernelDevice {
  /** N; null: the kernel takes a free one. */
  index: number | null;
  sizeBytes: bigint;
  /** Smallest unit of its users, 512 to 4096. */
  blockBytes: number;
  /** A request that takes longer goes to another connection; 0: none does. */
  ioTimeoutSeconds: number;
  /** Requests wait so long for a connection when all are dead; 0: not at all. */
  deadTimeoutSeconds: number;
  /** Whose it is: who reconfigures it has to know. */
  identifier: string;
}

/** What the connections of a device of the kernel are to: the open device `handle`, one connection for each lease. */
export interface KernelBackend {
  handle: number;
  readOnly: boolean;
  leases: number[];
}

/** Who comes to a listener: NBD clients, or programs that hand one over (`cellblock serve-stdio`). */
export type Visitors = 'clients' | 'handovers';

export interface ExportDescription {
  /** Its own name, which differs from what was asked for when that was empty. */
  name: string;
  sizeBytes: bigint;
  readOnly: boolean;
  rotational: boolean;
  description: string;
  /** Names X offered as qemu:dirty-bitmap:X. */
  snapshots: string[];
}

/** Who asks for an export. */
export interface Peer {
  /** `unix:uid=0`, `tcp:127.0.0.1:1234`, `unknown`. */
  name: string;
  /** Of a unix socket's peer; -1: not known. */
  uid: number;
  /** What TLS proved: `x509:NAME` or `psk:NAME`; empty: nothing. */
  identity: string;
  tls: boolean;
  /** Of a host of a cell, as TLS proved it: `cellblock://cell/CELL/host/HOST`; empty: it is none. */
  host: string;
}

/** A client that a stop left between two messages, with nothing of its under way: what it negotiated, and what of it was not looked at. */
export interface KeptClient {
  /** Its socket, whose owner whoever has this is. */
  descriptor: number;
  peer: Peer;
  exportName: string;
  structured: boolean;
  extended: boolean;
  transmissionFlags: number;
  /** It is a connection of a device of the kernel, and `exportName` the device's identifier. */
  kernel: boolean;
  contexts: { id: number; kind: 'allocation' | 'depth' | 'changed'; snapshot: string }[];
  input: Uint8Array;
}

/** How connections that begin from now on are secured. Contents of files, which are copied; null: not there. */
export interface TlsOptions {
  /** selective: clients may begin TLS; forced: they have to. */
  mode: 'off' | 'selective' | 'forced';
  /** PEM: the server's own certificate, then those that lead to the root. */
  certificate: Uint8Array | null;
  /** PEM, not encrypted. */
  key: Uint8Array | null;
  /** PEM: who may have signed certificates of clients. */
  clientCa: Uint8Array | null;
  /** PEM: whose word it is that a client is a host of a cell. */
  hostCa: Uint8Array | null;
  clients: 'none' | 'optional' | 'required';
  /** Lines NAME:HEXKEY. */
  psk: Uint8Array | null;
}

/** A dirty-bitmap context of an export about to be opened. */
export interface ChangedContext {
  sinceLayer: number;
  /** Byte ranges that differ besides; sorted pairs offset, length. */
  alsoChanged: BigUint64Array;
}

/** Records of one window of a fault's answer, newest first. */
export interface FaultRecord {
  window: bigint;
  layer: number;
  /** The stored record; null: a cut-off of that layer: nothing older is asked (and it comes last for the window). */
  record: Uint8Array | null;
}

/** One dirty record of a round: the whole record of (line, version, window) as it is to be stored. */
export interface RoundRecord {
  version: number;
  window: bigint;
  /** Stored bytes; empty: nothing is said any more, delete it. */
  record: Uint8Array;
  /** The record held places that are not its own slot (or adopted some): compare with the stored one for pending punches. */
  compare: boolean;
}

export interface RoundCutOff {
  version: number;
  first: bigint;
  end: bigint | null;
}

/** The record stream, in order of happening. */
export type PlaneRecord =
  /** Answer with faultReply(). Windows [first, first + count) of a device. */
  | { kind: 'fault'; ticket: number; handle: number; first: bigint; count: number }
  /** A container wants its changes moved to LevelDB. `urgent`: the ring or the cache is a quarter full. */
  | { kind: 'round-wanted'; handle: number; urgent: boolean }
  /** The current file of a container is nearly full: add another with addFile(). */
  | { kind: 'file-wanted'; handle: number }
  /** Answers of tickets. `error` 0 or an errno value. */
  | { kind: 'done'; ticket: number; error: number }
  | {
      kind: 'round';
      ticket: number;
      error: number;
      /** Everything of the line at or below is in records and cutOffs (or was in earlier rounds). */
      position: bigint;
      records: RoundRecord[];
      cutOffs: RoundCutOff[];
    }
  /** Per member of a cut, in the order asked: 0, or the errno that made it a hidden version. */
  | { kind: 'cut'; ticket: number; error: number; position: bigint; errors: number[]; members: CutMember[] }
  /** Answer of keepClients(). */
  | { kind: 'clients-kept'; ticket: number; error: number; clients: KeptClient[] }
  /** Answer of read(): as many bytes as were asked for, or none with an error. */
  | { kind: 'bytes'; ticket: number; error: number; data: Uint8Array }
  /** Blocks that were taken over from the deleted version, in the order of the windows handed in. */
  | { kind: 'adopted'; ticket: number; error: number }
  /** A client asks; answer with listReply / describeReply / openReply. `peer`: who asks. */
  | { kind: 'list'; ticket: number; peer: Peer }
  | { kind: 'describe'; ticket: number; peer: Peer; name: string }
  | { kind: 'open'; ticket: number; peer: Peer; name: string; changedSince: string[] }
  /** A connection gave back what openReply handed out. */
  | { kind: 'closed'; lease: number }
  /**
   * Write-back of a container's file failed: it is read-only from now on; the FAILED entry is durable. `entries`: those of its line
   * that LevelDB may lack, as in a JournalScan; when what counts of them (up to `after`, and cuts) is in LevelDB, with `applied` =
   * `position` and the container marked failed, call reopen(): reads wait for it.
   */
  | {
      kind: 'failed';
      handle: number;
      error: number;
      after: bigint;
      position: bigint;
      entries: JournalEntry[];
    }
  /** The journal could not be made stable: the whole store is read-only. */
  | { kind: 'store-failed'; error: number }
  /** The transaction log of a device could not be written and has ended; the device goes on. */
  | { kind: 'transaction-log-lost'; handle: number; error: number }
  /** Of /dev/nbdN, N being `index`. `sentence`: what the kernel says of an error, where it does. */
  | { kind: 'kernel'; ticket: number; error: number; index: number; sentence: string }
  /** N of each /dev/nbdN that somebody is connected to. */
  | { kind: 'kernel-status'; ticket: number; error: number; connected: number[] }
  /** A connection of /dev/nbdN died; null: of one or several, which is not known. */
  | { kind: 'link-dead'; index: number | null }
  | {
      kind: 'log';
      level: 'info' | 'warn' | 'error';
      message: string;
      fields: Record<string, string | number>;
    };

export interface DeviceCounters {
  handle: number;
  connections: number;
  residentBytes: bigint;
  dirtyWindows: number;
  /** Requests that waited for a limit of the device when they were next of their connection, and how long they did in all. */
  throttledRequests: bigint;
  throttledMicroseconds: bigint;
  /** requests, bytes, errors and 32 log2 buckets of microseconds, per kind. */
  kinds: Record<
    'read' | 'write' | 'flush' | 'trim' | 'write_zeroes' | 'block_status',
    {
      requests: bigint;
      bytes: bigint;
      errors: bigint;
      buckets: BigUint64Array;
      microseconds: bigint;
    }
  >;
}

export interface PlaneCounters {
  engine: string;
  connections: number;
  /** Because of the limit of all connections, and of that of one client. */
  connectionsRefused: bigint;
  /** Handshakes of TLS that were completed, and that failed. */
  tlsBegun: bigint;
  tlsFailed: bigint;
  connectionsRefusedPerClient: bigint;
  handshakesTimedOut: bigint;
  journalCells: bigint;
  journalUsedCells: bigint;
  journalSyncs: bigint;
  residentBytes: bigint;
  inFlightBytes: bigint;
  faults: bigint;
  faultedWindows: bigint;
  evictedWindows: bigint;
  punches: bigint;
  devices: DeviceCounters[];
}

/** Every counter of PlaneCounters with its type: compared with what the addon supplies when it is loaded. */
export const PLANE_COUNTERS = {
  engine: 'string',
  connections: 'number',
  connectionsRefused: 'bigint',
  tlsBegun: 'bigint',
  tlsFailed: 'bigint',
  connectionsRefusedPerClient: 'bigint',
  handshakesTimedOut: 'bigint',
  journalCells: 'bigint',
  journalUsedCells: 'bigint',
  journalSyncs: 'bigint',
  residentBytes: 'bigint',
  inFlightBytes: 'bigint',
  faults: 'bigint',
  faultedWindows: 'bigint',
  evictedWindows: 'bigint',
  punches: 'bigint',
  devices: 'object',
} as const satisfies Record<keyof PlaneCounters, 'string' | 'number' | 'bigint' | 'object'>;

/** The data plane. One per process; implemented by the addon and by fakes in tests. */
export interface Plane {
  /** Opens directory, journal and reactors. Throws an Error with `code` (errno name). No export is served yet. */
  open(options: PlaneOptions, onRecords: (records: PlaneRecord[]) => void): JournalScan;
  /**
   * Ends recovery: the journal is emptied, gets a new incarnation and starts at `position`.
   * Everything in the scan must be in LevelDB, synced, by now. Blocks (start only).
   */
  startJournal(position: bigint): void;
  /** Blocking fdatasync of extents files by number, for recovery. Throws on an error. */
  syncFiles(files: ExtentsFile[]): void;

  /** Opens a device. Synchronous bookkeeping; files are opened at first use. */
  openDevice(options: DeviceOptions): void;
  /** Ends a device: no lease may be open. Answered by done; its dirty records must have gone out in a round. */
  closeDevice(ticket: number, handle: number): void;
  /** Of a device that has just been closed: does nothing. */
  addFile(handle: number, file: ExtentsFile): void;
  /** Makes places of a file readable for every device; needed before records naming it are handed down. */
  knowFile(file: ExtentsFile): void;
  /** Closes descriptors of a file nothing names any more and unlinks it. Answered by done. */
  dropFile(ticket: number, number: number): void;

  faultReply(ticket: number, records: FaultRecord[], error: number): void;

  /** Flushes the container and hands out what LevelDB lacks. Answered by round. */
  takeRound(ticket: number, handle: number): void;
  /** The batches of that round are durable, with `applied` = position. */
  roundDone(handle: number, position: bigint): void;
  /** After a `failed` record: its entries up to `position` are dealt with, reads go on from LevelDB. */
  reopen(handle: number, position: bigint): void;
  /** Between `failed` and reopen(): LevelDB cannot take the entries. What waits to read gets EIO, and what comes until reopen() too. */
  refuseReads(handle: number): void;
  /** A round's batches failed: the changes stay dirty and will come again; until a round succeeds, what waits for the journal gets ENOSPC. */
  roundFailed(handle: number): void;

  /** Snapshots of several containers in one instant. Answered by cut. One at a time per container. */
  cut(ticket: number, members: { handle: number; snapshotId: Uint8Array; name: string }[]): void;

  /**
   * The version right below the open current map is being deleted, and what it says goes over to that map wherever that is
   * silent. `below`: something lies below (else zeros need not be taken). Records of one chunk of windows. Answered by adopted
   * once the maps in memory have changed; the next round carries them.
   */
  adopt(
    ticket: number,
    handle: number,
    below: boolean,
    records: { window: bigint; record: Uint8Array }[],
  ): void;
  /** A version left the chain of this device: its layer is no longer counted as depth. One that has just been closed: nothing is done. */
  removeLayer(handle: number, layer: number): void;

  /** Grow, or shrink (a cut-off and a cleared tail). Answered by done when the new size is in force and, for shrink, flushed. */
  resize(ticket: number, handle: number, sizeBytes: bigint): void;
  setReadOnly(handle: number, readOnly: boolean): void;
  /**
   * Holds admission (no socket is read) until release; answered by done when every request that had begun is answered, or ECANCELED
   * when release came first.
   */
  hold(ticket: number, handle: number): void;
  release(handle: number): void;
  /** Makes everything written so far stable (a FLUSH). Answered by done. */
  flush(ticket: number, handle: number): void;

  /**
   * The current map of a held volume becomes that of another line of its container, which is durable in LevelDB, as everything of the old one is.
   * `layers` as in DeviceOptions, all above those the device has had. Answered by done: EBUSY when it is not held and quiet, or dirty.
   */
  rebase(ticket: number, handle: number, to: RebaseTarget): void;
  /**
   * The agent's own requests: they go on while the device is held. At most 32 MiB; EINVAL when they leave the device, EPERM for changes of what is
   * read-only. read() is answered by bytes, the others by done. Durable after flush().
   */
  read(ticket: number, handle: number, offset: bigint, bytes: number): void;
  write(ticket: number, handle: number, offset: bigint, data: Uint8Array): void;
  zero(ticket: number, handle: number, offset: bigint, bytes: bigint): void;

  /** Answered by done when every request, fault and read begun before this call has ended. */
  grace(ticket: number): void;
  /** Deallocates ranges; answered by done (the first error, all are tried). */
  punch(ticket: number, ranges: { file: number; offset: bigint; bytes: bigint }[]): void;
  /** Drops clean resident windows of a device. */
  evict(handle: number): void;

  /**
   * Of all clients of the device together, from now on; all 0: none. Bandwidth in bytes a second. The agent's own requests are not
   * counted. Of a device that has just been closed: does nothing.
   */
  limit(handle: number, limits: DeviceLimits): void;
  /**
   * What clients of the device ask from now on is appended to the file at `path` (made when it is not there), in place of an earlier
   * log. Empty: none. Answered by done: no file, when the file is open; empty, when everything is written.
   */
  setTransactionLog(ticket: number, handle: number, path: string, data: boolean): void;

  /**
   * A device of the kernel whose connections are to an open device, one for each lease: these are the connections' from now on, and
   * each is told of as closed when its connection ends. Answered by kernel; EPROTONOSUPPORT: there is no nbd driver.
   */
  kernelConnect(ticket: number, device: KernelDevice, backend: KernelBackend): void;
  /** New connections in place of dead ones, as many as there are of these; the others are closed. Answered by kernel. */
  kernelReconfigure(
    ticket: number,
    device: { index: number; identifier: string; sizeBytes?: bigint },
    backend: KernelBackend,
  ): void;
  /** Whoever uses it gets errors. Answered by kernel. */
  kernelDisconnect(ticket: number, index: number): void;
  /** Answered by kernel-status. */
  kernelStatus(ticket: number): void;
  /**
   * Takes a node of a block device so that nobody can mount it, writes back and forgets what the kernel keeps of it and of its partitions.
   * Answered by kernel, which may take as long as the device's connections are dead; EBUSY: somebody has it, or a partition of it.
   */
  claimNode(ticket: number, path: string): void;
  /** The kernel forgets what it keeps of it, claimed or not, and looks for partitions anew. Answered by kernel. */
  rereadNode(ticket: number, path: string): void;
  /** Answered by kernel. */
  unclaimNode(ticket: number, path: string): void;

  /** Ends leases of a device by closing their connections. Answered by done when none is left. */
  disconnect(ticket: number, handle: number): void;

  listReply(ticket: number, exports: { name: string; description: string }[]): void;
  /**
   * Null: `refusal` is one sentence, `error` its errno: ENOENT, EACCES when this peer may not use it, ENOKEY when it may in TLS only.
   */
  describeReply(ticket: number, description: ExportDescription | null, refusal: string, error: number): void;
  openReply(
    ticket: number,
    lease: { lease: number; handle: number; contexts: ChangedContext[] } | null,
    error: number,
    refusal: string,
  ): void;

  /**
   * Throws with `code`. Address `unix:PATH` or `tcp:HOST:PORT`, or the number of a listening descriptor, which is the data plane's from
   * then on; returns the address bound (port 0 resolved).
   */
  listen(
    address: string | number,
    options: { mode: number; allowRemote: boolean; visitors: Visitors },
  ): string;
  /** Throws with a sentence as its message when the options cannot serve; then nothing changes. */
  setTls(options: TlsOptions): void;
  counters(): PlaneCounters;

  /**
   * Stops: no new connections, in-flight requests finish (deadline), later ones get ESHUTDOWN, sockets close. Answered by
   * done; devices stay open so that last rounds can be taken. Then close().
   */
  stopServing(ticket: number, deadlineMs: number): void;
  /**
   * The same, but clients in clear are told nothing: what is in flight is answered, and their sockets are left as they are. Answered by
   * clients-kept. Those of the kernel, in TLS, handed over or in the handshake end as with stopServing().
   */
  keepClients(ticket: number, deadlineMs: number): void;
  /** Goes on with one that keepClients() of an earlier process left; its export is asked for with open, and it is closed if it may not have it. */
  resumeClient(client: KeptClient): void;
  /**
   * The same of a connection of the kernel, which has no name to ask for: it goes on with this lease on an open device. Closed, and the lease with
   * it, when the kernel has given it up meanwhile.
   */
  resumeKernel(client: KeptClient, handle: number, lease: number): void;
  /** Answered by done when every reactor has come by. */
  pulse(ticket: number): void;
  /**
   * Joins every thread and releases everything; idempotent. `clean`: every round is in LevelDB, mark the journal so. Commands given
   * afterwards do nothing.
   */
  close(clean: boolean): void;
}
