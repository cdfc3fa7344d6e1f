// Every bound of the protocol. Whoever sends more is refused; nothing grows with what a peer sends.

const MIB = 1024 * 1024;

export const LIMITS = {
  /** A message, as UTF-8. A hello of MAX_VOLUMES and of all groups fits. */
  messageBytes: 4 * MIB,
  /** Objects and lists in one another. */
  depth: 24,
  volumes: 16_384,
  /** Ids of a lineage in one answer, and seqs one probe may ask for. */
  lineage: 4_096,
  addresses: 16,
  versions: 16,
  text: 1_024,
  /** Entries of an access list. */
  allowed: 256,
  /** Members of a request that names several volumes. */
  members: 256,
  /** Groups in one hello, and parts of all of them together. */
  groups: 64,
  groupParts: 1_024,
  /** Numbered messages that the peer has not acknowledged: more, and it does not read. */
  unacknowledged: 8_192,
  unacknowledgedBytes: 16 * MIB,
  /** Bytes a socket may owe before its host counts as not reading. */
  bufferedBytes: 16 * MIB,
  /** Messages of one connection between two ticks; the rest waits in its socket. */
  messagesPerTick: 4_096,
  bytesPerTick: 16 * MIB,
  /** Requests of a peer that are being worked on. */
  requestsInProgress: 1_024,
  /** Replies that are kept, to be given again when their request comes again. */
  repliesKept: 1_024,
  repliesKeptBytes: 4 * MIB,
} as const;

/** Milliseconds. Measured by the monotonic clock: setting the time of day decides nothing. */
export const TIMES = {
  /** Deadlines are looked at so often. */
  tickMs: 250,
  /** From the open socket to a whole hello. */
  helloMs: 10_000,
  /** From hello to the coordinator's own answer to it. */
  admissionMs: 15_000,
  heartbeatMs: 5_000,
  /** Nothing heard for so long: the peer is gone. */
  silenceMs: 15_000,
  /** How long a session without a connection may be taken up again. */
  resumeMs: 60_000,
  /** The last words of a connection are given so long to leave. */
  closeMs: 2_000,
  /** From dialling to the welcome. */
  dialMs: 30_000,
  /** The two clocks of a peer went apart by more than this between two heartbeats: its time of day was set. */
  clockJumpMs: 1_000,
} as const;
