// What binds a server, one line each: every MUST and MUST NOT of the protocol document that does (NetworkBlockDevice/nbd, doc/proto.md
// of 2026-05-02, by its sections; extended headers by its branch extension-ext-header), and below them what cellblock promises beyond.
// Cases name the lines they cover. A line that no case can show says where else it is shown.

export interface Requirement {
  /** The section of the protocol document, or `promise`. */
  section: string;
  says: string;
  /** What shows it, where bytes on a wire cannot. */
  elsewhere?: string;
}

const PERSISTENCE =
  'native/test/core_model_test.cc and volume_fault_test.cc: a disk that forgets what was not synced';
const FAILING_DISK = 'native/test/connection_test.cc: a device that fails in the middle of an answer';

type Rows = Record<string, string | [says: string, more: Omit<Requirement, 'section' | 'says'>]>;

const bySection = {
  Conventions: {
    strings: 'what the server sends as a string is UTF-8 without NUL, of at most 4096 bytes',
  },
  'Newstyle negotiation': {
    'unknown-client-flags': 'a client flag that the server does not recognize closes the connection',
    'unwilling-export-name': 'EXPORT_NAME that is not granted ends the session',
  },
  'Termination of the session during option haggling': {
    'errors-not-disconnects': 'options are refused with errors, not by a disconnect',
  },
  Transmission: {
    'simple-unless-negotiated': 'only simple replies without negotiation of structured ones',
    cookies: 'each reply carries the cookie of its request, whatever it is',
  },
  'Ordering of messages and writes': {
    'flush-covers-replied': [
      'a FLUSH is answered when all writes answered before are on stable storage',
      { elsewhere: PERSISTENCE },
    ],
    'fua-is-stable': [
      'a command with FUA is answered when its data is on stable storage',
      { elsewhere: PERSISTENCE },
    ],
  },
  'Structured reply chunk message': {
    'read-is-structured': 'once negotiated, a READ is never answered simply, also not with an early error',
    'done-is-last': 'the chunk with DONE comes last, and no other has it',
    'final-when-sure': ['no chunk is final while an error could still be found', { elsewhere: FAILING_DISK }],
  },
  'Terminating the transmission phase': {
    'disc-closes': 'DISC closes the connection',
    'no-other-disconnect': 'nothing but a breach by the client or a shutdown disconnects',
  },
  'NOTLS mode': {
    'notls-starttls': 'STARTTLS is refused with POLICY, UNSUP or another error that is allowed',
    'notls-never-required': 'no option is answered with ERR_TLS_REQD',
  },
  'Server-side requirements': {
    'tls-consistent': 'one mode for the life of a connection',
    'tls-only-fixed': 'no TLS for a client that did not choose fixed newstyle',
  },
  'FORCEDTLS mode': {
    'forced-ack': 'the first STARTTLS is acknowledged',
    'forced-again': 'a second STARTTLS is ERR_INVALID',
    'forced-all-over-tls': 'behind the acknowledgement everything goes over TLS',
    'forced-failed-handshake': 'a failed handshake ends the session',
    'forced-others': 'any other option before is ERR_TLS_REQD',
    'forced-export-name': 'EXPORT_NAME before ends the session',
    'forced-go': 'GO before is ERR_TLS_REQD',
    'forced-not-after': 'ERR_TLS_REQD is never sent under TLS',
    'forced-no-infos': 'ERR_TLS_REQD is not preceded by information',
  },
  'SELECTIVETLS mode': {
    'selective-ack': 'the first STARTTLS is acknowledged',
    'selective-again': 'a second STARTTLS is ERR_INVALID',
    'selective-only': 'INFO and GO of a TLS-only export are ERR_TLS_REQD before TLS',
    'selective-export-name': 'EXPORT_NAME of a TLS-only export before TLS ends the session',
    'selective-not-after': 'ERR_TLS_REQD is never sent under TLS, nor for other options',
  },
  'TLS versions': {
    'tls-1.2': 'TLS 1.2 is supported',
  },
  'Size constraints': {
    'sizes-advertised': 'constraints other than the default are told',
    'minimum-block': 'the minimum block size is a power of 2, at most 65,536',
    'preferred-block': 'the preferred block size is a power of 2, not below the minimum nor 512',
    'maximum-payload': 'the maximum payload is at least the preferred block size',
    'unaligned-clean': 'what breaks the constraints is an error that corrupts nothing',
  },
  'Metadata querying': {
    'status-per-context': 'BLOCK_STATUS is answered structured, one chunk per context chosen',
    'context-names':
      'names of contexts are namespace, colon, leaf; the namespaces are those that are registered',
  },
  'The base: metadata namespace': {
    'base-set-ignored': 'base: selects nothing',
    'base-list-wildcard': 'base: lists every context of the namespace',
    'base-unknown-leaf': 'an unknown leaf is ignored, not an error',
  },
  'base:allocation metadata context': {
    'allocated-has-room': [
      'writing to what is not a hole never fails for lack of space',
      { elsewhere: 'test/unit/operations/hazards.test.ts and native/test/volume_fault_test.cc: a full disk' },
    ],
  },
  'Handshake flags': {
    'fixed-newstyle-set': 'FIXED_NEWSTYLE is set',
    'no-zeroes': 'with NO_ZEROES of both sides no 124 zeroes follow',
    'no-other-flags': 'no other flag is set',
  },
  'Client flags': {
    'drop-unknown-flag': 'an unknown flag drops the connection',
  },
  'Transmission flags': {
    'has-flags': 'HAS_FLAGS is 1',
    'only-supported': 'no flag is set for what does not work',
    'read-only-errors': 'with READ_ONLY, writes fail',
    'df-flag': 'DF is set where READ takes it, and clear without structured replies',
    'multi-conn-visible': 'with CAN_MULTI_CONN, FLUSH and FUA are visible on all connections',
    'fast-zero-flag': 'FAST_ZERO is clear without WRITE_ZEROES',
  },
  'Option types: EXPORT_NAME': {
    'export-name-unknown': 'an unknown export ends the session',
    'export-name-fixed': 'who has other options supports fixed newstyle',
  },
  'Option types: ABORT': { 'abort-ack': 'ABORT is acknowledged' },
  'Option types: STARTTLS': {
    'starttls-answer': 'STARTTLS is acknowledged or refused with an error that is allowed',
    'starttls-forgets': 'nothing negotiated before TLS counts after it',
  },
  'Option types: INFO and GO': {
    'unknown-infos': 'unknown information requests are ignored',
    'info-export': 'INFO_EXPORT is sent before ACK',
    'block-size-reqd': 'ERR_BLOCK_SIZE_REQD is not sent to who asked for BLOCK_SIZE',
    'go-as-info': 'GO right behind INFO of the same parameters tells the same',
    'go-no-zeroes': 'no zeroes follow GO',
  },
  'Option types: STRUCTURED_REPLY': { 'structured-reads': 'after ACK, READs are answered structured' },
  'Option types: LIST_META_CONTEXT': {
    'list-syntax': 'a request that is wrong in form is ERR_INVALID',
    'list-unknown-namespace': 'queries of unknown namespaces are ignored',
    'list-nothing': 'where nothing matches there is a single ACK',
    'list-all': 'without queries every context is named, or how to ask for it',
    'list-matching': 'with queries every context that matches is named',
    'list-namespace': 'each name begins with its namespace',
  },
  'Option types: SET_META_CONTEXT': {
    'set-replaces': 'it replaces the former set, also when it fails',
    'set-none': 'no queries select nothing',
    'set-ids': 'one reply for each context, each with its own id, then ACK',
  },
  'Option reply types': {
    'server-length': 'the name of SERVER fits into the reply',
    'info-export-length': 'INFO_EXPORT is 12 bytes',
    'info-name-length': 'INFO_NAME and INFO_DESCRIPTION are at least 2 bytes',
    'info-block-size-length': 'INFO_BLOCK_SIZE is 14 bytes',
    'context-utf8': 'the name of a context is UTF-8',
  },
  'Command flags': {
    'fua-accepted': 'with SEND_FUA, every command takes the flag',
    'no-hole': 'with WRITE_ZEROES, NO_HOLE is supported',
    'req-one': 'with REQ_ONE there is one extent',
    'fast-zero-quick': 'FAST_ZERO that is not faster than writing fails with ENOTSUP',
  },
  'Structured reply flags': {
    'done-flag': 'DONE is clear while more follows, and set at the end',
    'no-reply-flags': 'no other flag is set',
  },
  'Structured reply types': {
    'chunk-payload': 'no chunk holds more than the maximum payload and its overhead',
    none: 'NONE is empty and final',
    'offset-data': 'OFFSET_DATA has content, within the request, and overlaps nothing',
    'offset-hole': 'OFFSET_HOLE is 12 bytes, not empty, within the request, and overlaps nothing',
    'block-status': 'BLOCK_STATUS is 4 bytes and one descriptor or more, none of them empty',
    'block-status-sum': 'all but the last descriptor stay below the length asked for',
    error: 'an error chunk has an error, and a message of at most 4096 bytes that fits',
    'error-offset': 'the offset of an error lies within the request',
  },
  'Request types: READ': {
    'read-simple': 'without negotiation a READ is answered simply, with its length of data',
    'read-error-no-payload': 'an error of a simple READ has no payload',
    'read-late-error': [
      'an error behind a header that said success disconnects',
      { elsewhere: FAILING_DISK },
    ],
    'read-chunk-content': 'each chunk describes at least a byte, none outside the request',
    'read-covers': 'the chunks of a success cover the whole request',
    'read-error-padded': [
      'a chunk that was begun is completed when reading fails, and an error chunk follows',
      { elsewhere: FAILING_DISK },
    ],
    'read-df-one': 'with DF there is one content chunk at most, zeroes within data explicit',
    'read-df-overflow': 'EOVERFLOW of a DF read has no content',
    'read-df-64k': 'DF reads of up to 64 KiB work',
  },
  'Request types: WRITE': {
    'write-then-reply': 'the data is written when the answer comes',
    'write-error': 'an error has its code',
  },
  'Request types: DISC': { 'disc-finishes': 'outstanding requests are handled, and the connection closed' },
  'Request types: FLUSH': {
    'flush-stable': [
      'not answered before all writes answered to are on stable storage',
      { elsewhere: PERSISTENCE },
    ],
  },
  'Request types: CACHE': {
    'cache-same': 'it changes nothing but speed',
    'cache-flags': 'flags that it does not know are rejected',
  },
  'Request types: WRITE_ZEROES': {
    'zeroes-read-back': 'it reads back as zeros, however they are made',
    'zeroes-provisioned': 'with NO_HOLE the area is provisioned',
    'zeroes-no-enotsup': 'without FAST_ZERO there is no ENOTSUP',
    'zeroes-error': 'an error has its code',
  },
  'Request types: BLOCK_STATUS': {
    'status-one-chunk': 'one chunk per context in a success',
    'status-progress': 'at least one descriptor, so that a client gets on',
  },
  Baseline: {
    'baseline-options': 'INFO, GO, LIST and ABORT are there',
    'baseline-unsup': 'what is not implemented is ERR_UNSUP, and the next message is understood',
    'baseline-commands': 'READ, WRITE and DISC work, with simple replies',
  },
  'Extended headers': {
    'ext-negotiated': 'EXTENDED_HEADERS is acknowledged, with structured replies before it or not',
    'ext-data': 'EXTENDED_HEADERS with data is ERR_INVALID',
    'ext-structured': 'STRUCTURED_REPLY behind it is ERR_EXT_HEADER_REQD',
    'ext-go': 'GO is there behind it',
    'ext-contexts': 'it does for contexts and DF what structured replies do',
    'ext-payload-flag': 'BLOCK_STATUS_PAYLOAD is told only with extended headers and contexts',
    'ext-requests': 'requests have the long header and no other',
    'ext-replies': 'every answer is in chunks of the long header, with the offset of the request',
    'ext-lengths': 'lengths count with all of their 64 bits',
    'ext-status': 'BLOCK_STATUS is answered with extents of 64 bits',
    'ext-payload-consumed': 'a payload that belongs to no command is consumed, and EINVAL',
    'ext-filter': 'BLOCK_STATUS with a payload is answered for the contexts in it, once each',
    'ext-filter-form': 'contexts that were not selected, and payloads of another form, are EINVAL',
  },
  promise: {
    'default-export':
      'the empty name is the default export where there is one, which says its real name and is listed under it alone',
    'names-checked': 'names are UTF-8 of at most 4096 bytes without NUL',
    'list-data': 'LIST and STRUCTURED_REPLY with data are ERR_INVALID',
    'options-bytewise': 'options are understood however they are cut into packets',
    'abort-tolerant': 'a client that does not wait for the answer to ABORT harms nobody',
    'option-lengths': 'lengths within options are checked against the data',
    sentences: 'every refusal carries a sentence',
    infos: 'NAME, DESCRIPTION and BLOCK_SIZE (1, 4096, 32 MiB) are given when asked for, and only then',
    'flags-told':
      'FLUSH, FUA, TRIM, WRITE_ZEROES, FAST_ZERO, DF, CACHE and CAN_MULTI_CONN; for a snapshot READ_ONLY and no TRIM or WRITE_ZEROES',
    'qemu-contexts': 'qemu:allocation-depth, and qemu:dirty-bitmap: of each snapshot, with wildcards',
    'many-queries': 'a thousand queries are answered or ERR_TOO_BIG',
    'set-structured': 'SET_META_CONTEXT wants structured replies',
    'set-same-name': 'contexts count only for the export they were set for',
    'status-no-context': 'BLOCK_STATUS without contexts is EINVAL',
    'status-range': 'BLOCK_STATUS past the end is EINVAL, of zero bytes answered',
    'allocation-exact': 'base:allocation tells every block as it is',
    'status-limit': ['at most 2^20 extents in a chunk', { elsewhere: 'native/test/nbd_request_test.cc' }],
    'past-end': 'past the end: EINVAL, ENOSPC of WRITE and WRITE_ZEROES',
    'unknown-einval': 'unknown commands and flags are EINVAL, and the connection stays',
    'read-only-eperm': 'writes to a read-only export are EPERM',
    'zero-length': 'requests of zero bytes succeed',
    'any-alignment': 'any alignment, down to the last byte of the device',
    'trim-zeros': 'whole blocks that were trimmed read as zeros, their neighbours as before',
    'payload-32m': 'payloads of 32 MiB are served; one beyond is drained and EINVAL',
    'df-32m': 'DF reads of up to 32 MiB',
    'holes-unsent': 'holes are answered as OFFSET_HOLE',
    'zeroes-of-any-length': 'TRIM and WRITE_ZEROES take any length, whole devices at once',
    'out-of-order': 'requests run at the same time, each answered once',
    'memory-bounded': 'clients that do not read cost bounded memory and stall nobody',
    'bytes-harmless': 'no bytes, and no end of a connection, harm anybody else',
    shutdown: [
      'requests on their way are finished or ESHUTDOWN at a stop',
      { elsewhere: 'test/conformance/stop.test.ts, with simple replies and with extended headers' },
    ],
    rotational: [
      'ROTATIONAL exactly where the store says that its disks are',
      { elsewhere: 'test/conformance/cellblock.test.ts' },
    ],
    resize: ['a new size is told at the next GO', { elsewhere: 'test/conformance/cellblock.test.ts' }],
    limits: [
      'unfinished handshakes are dropped, connections limited',
      { elsewhere: 'test/conformance/limits.test.ts' },
    ],
    'whole-device-fast': [
      'TRIM and WRITE_ZEROES of 2 TiB take less than a second',
      { elsewhere: 'bench/rows/trim-and-mkfs.ts' },
    ],
    'flush-range': 'FLUSH of a range, which is reserved, is EINVAL',
    'list-structured': 'LIST_META_CONTEXT without structured replies is answered or ERR_INVALID',
    'ext-export-name': 'EXPORT_NAME behind EXTENDED_HEADERS closes',
    'ext-payload-limits':
      'with extended headers a payload beyond 32 MiB, and data that a WRITE does not announce, are EINVAL and end the connection',
    'access-lists': 'exports for named identities only: to others not listed, ERR_POLICY with a sentence',
    'tls-1.3': 'TLS 1.3 is supported',
    'tls-only-hidden': 'in clear, what is served in TLS only is not listed and has no contexts',
    'starttls-data': 'STARTTLS with data is ERR_INVALID',
    descriptions: 'the description of an export is the same in INFO, GO and LIST',
  },
} as const satisfies Record<string, Rows>;

type Sections = typeof bySection;
export type RequirementId = { [S in keyof Sections]: keyof Sections[S] }[keyof Sections] & string;

function rowsOf(section: string, rows: Rows): [string, Requirement][] {
  return Object.entries(rows).map(([id, row]) => {
    const [says, more] = typeof row === 'string' ? [row, {}] : row;
    return [id, { section, says, ...more }];
  });
}

/** Ids are unique over all sections; a second one of a name would hide the first, see coverage.test.ts. */
export const requirements: ReadonlyMap<string, Requirement> = new Map(
  Object.entries(bySection).flatMap(([section, rows]) => rowsOf(section, rows)),
);

export const requirementCount: number = Object.values(bySection).reduce(
  (count, rows) => count + Object.keys(rows).length,
  0,
);
