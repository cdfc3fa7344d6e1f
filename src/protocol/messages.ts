// Every message of the protocol: its schema, who sends it, and whether it is numbered. The one source of what is checked, of the types, and
// of the document.
//
// Numbered messages have a place in the order of their session (`seq`: 1, 2, 3, …, each direction its own) and are sent again when the
// session is taken up after a loss; `ack` is the last one that was received. The others belong to their connection.

import { type Static, type TLiteral, type TObject, type TSchema, Type } from '@sinclair/typebox';
import { LIMITS } from './limits.js';
import {
  Answer,
  BootCounter,
  Command,
  Description,
  GroupOutcome,
  GroupStep,
  HeadOrNull,
  OpenGroup,
  Outcome,
  PerformedOperation,
  Pull,
  VolumeFacts,
  VolumeHighest,
  VolumeLoad,
} from './lineage-schema.js';
import {
  Address,
  Bytes,
  Code,
  Count,
  closed,
  Id,
  listOf,
  Name,
  nullable,
  oneOf,
  PlaceName,
  Positive,
  Text,
} from './schema-parts.js';
import { VERBS } from './verbs.js';

export type Side = 'host' | 'coordinator';

type Properties = Record<string, TSchema>;

interface Definition<Type extends string, Fields extends Properties, Numbered extends boolean> {
  schema: TObject<{ type: TLiteral<Type> } & Fields>;
  from: Side | 'both';
  numbered: Numbered;
  summary: string;
}

function plain<const T extends string, Fields extends Properties>(
  type: T,
  from: Side | 'both',
  summary: string,
  fields: Fields,
): Definition<T, Fields, false> {
  const schema = closed({ type: Type.Literal(type), ...fields }) as Definition<T, Fields, false>['schema'];
  return { schema, from, numbered: false, summary };
}

const ORDER = { seq: Positive, ack: Count };

function numbered<const T extends string, Fields extends Properties>(
  type: T,
  from: Side | 'both',
  summary: string,
  fields: Fields,
): Definition<T, Fields & typeof ORDER, true> {
  const schema = closed({ type: Type.Literal(type), ...ORDER, ...fields });
  return { schema: schema as never, from, numbered: true, summary };
}

/** Both clocks of whoever sends it: the time of day, and the time its process has run, which nobody sets. */
const CLOCKS = {
  clockMs: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'since 1970' }),
  uptimeMs: Count,
};

const Leader = nullable(closed({ coordinator: Code, address: Address }));

const Progress = {
  /** The request it belongs to; null: a copy that goes on by itself. */
  of: nullable(Id),
  volume: nullable(Id),
  move: nullable(Id),
  stage: Code,
  done: Count,
  total: nullable(Count),
};

export const EVENT_NAMES = [
  'created',
  'deleted',
  'snapshot-taken',
  'staged',
  'copy-failed',
  'faulted',
  'changed',
] as const;

const call = Object.entries(VERBS).map(([verb, schema]) =>
  closed({ verb: Type.Literal(verb), arguments: schema }),
);

export const MESSAGES = {
  hello: plain('hello', 'host', 'The first message: who the host is and what it holds.', {
    versions: listOf(Positive, LIMITS.versions, 1),
    host: PlaceName,
    cell: PlaceName,
    storeId: Id,
    boot: BootCounter,
    nbd: listOf(Address, LIMITS.addresses),
    program: Text,
    volumes: listOf(VolumeFacts, LIMITS.volumes),
    /** Open here, as far as they fit: whoever leads may have a state of before them. */
    groups: listOf(OpenGroup, LIMITS.groups),
    /** The session to take up again, and the last numbered message of it that was received. */
    resume: nullable(closed({ session: Id, received: Count })),
  }),
  welcome: plain('welcome', 'coordinator', 'The host is admitted.', {
    version: Positive,
    session: Id,
    /** Nothing of the session was lost. If not, what was asked and not answered may have been done. */
    resumed: Type.Boolean(),
    /** The last numbered message that was received of the session. */
    received: Count,
    coordinator: Code,
    leader: Leader,
    heartbeatMs: Positive,
    silenceMs: Positive,
    resumeMs: Count,
    /** Older than it was before: its volumes are faulted until an operator readmits it. */
    regressed: Type.Boolean(),
    /** What the coordinator keeps as the highest it has seen of the volumes of this host. */
    highest: listOf(VolumeHighest, LIMITS.volumes),
  }),
  refused: plain('refused', 'coordinator', 'The host is not admitted; the connection is closed.', {
    code: Code,
    message: Text,
    /** The versions that are spoken here. */
    versions: listOf(Positive, LIMITS.versions),
    leader: Leader,
    retryAfterMs: nullable(Count),
  }),
  error: plain('error', 'both', 'Something was wrong with a message.', {
    code: Code,
    message: Text,
    /** The request it is about, where there is one. */
    id: nullable(Id),
  }),
  ping: plain('ping', 'coordinator', 'A heartbeat.', { number: Positive, ack: Count, ...CLOCKS }),
  pong: plain('pong', 'host', 'The answer to a heartbeat, with its number.', {
    number: Positive,
    ack: Count,
    ...CLOCKS,
  }),
  ack: plain('ack', 'both', 'Received so far, when there is nothing else to say.', { ack: Count }),
  goodbye: plain('goodbye', 'both', 'The connection ends as meant; the session too.', {
    reason: oneOf(['stopping', 'restarting']),
  }),
  probe: numbered('probe', 'coordinator', 'What does this host know of a volume?', {
    id: Id,
    volume: Id,
    /** The ids of these snapshots are wanted too. */
    seqs: listOf(Positive, LIMITS.lineage),
  }),
  answer: numbered(
    'answer',
    'host',
    'The answer to a probe, or to a claim: of a volume that was claimed before under the id it has.',
    { id: Id, volume: Id, answer: Answer },
  ),
  command: numbered('command', 'coordinator', 'Changes the part of a host in the lineage of a volume.', {
    id: Id,
    volume: Id,
    command: Command,
  }),
  perform: numbered('perform', 'coordinator', 'An operation on a volume, by its owner under its epoch.', {
    id: Id,
    volume: Id,
    epoch: Count,
    /** The head that the new snapshot continues; null: it is the first one. */
    parent: HeadOrNull,
    operation: PerformedOperation,
  }),
  outcome: numbered('outcome', 'host', 'What became of a command or an operation.', {
    id: Id,
    outcome: Outcome,
  }),
  claim: numbered('claim', 'coordinator', 'A volume that no cell knows gets an id and a lineage.', {
    id: Id,
    /** The id it gets, unless it has one from an earlier claim: the answer names the one it has. */
    volume: Id,
    /** As it is called at this host. */
    name: Name,
  }),
  describe: numbered('describe', 'coordinator', 'What is there of a volume, for a copy of it?', {
    id: Id,
    volume: Id,
    /** Only what comes behind this snapshot; null: all. */
    after: nullable(Id),
  }),
  description: numbered('description', 'host', 'The answer to that.', {
    id: Id,
    description: Description,
  }),
  pull: numbered('pull', 'coordinator', 'Copies a volume from another host, or goes on with that.', {
    id: Id,
    volume: Id,
    pull: Pull,
  }),
  digest: numbered(
    'digest',
    'coordinator',
    'A hash of what a snapshot changed, to be compared with its copy.',
    {
      id: Id,
      volume: Id,
      snapshot: Id,
      /** Null: of all it holds. */
      since: nullable(Id),
    },
  ),
  digested: numbered('digested', 'host', 'The answer to that.', {
    id: Id,
    /** SHA-256, as docs/coordinator-protocol.md says what it is of. */
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    bytes: Bytes,
  }),
  group: numbered('group', 'coordinator', 'A step of a snapshot of several volumes in one instant.', {
    id: Id,
    group: Id,
    step: GroupStep,
  }),
  grouped: numbered('grouped', 'host', 'What became of that.', { id: Id, outcome: GroupOutcome }),
  load: numbered('load', 'coordinator', 'How much was written to the volumes of this host?', { id: Id }),
  loads: numbered('loads', 'host', 'The answer to that.', {
    id: Id,
    volumes: listOf(VolumeLoad, LIMITS.volumes),
  }),
  call: numbered('call', 'host', 'A verb of the command line, forwarded to the coordinator.', {
    id: Id,
    call: Type.Union(call),
  }),
  result: numbered('result', 'coordinator', 'What a call gives: any JSON.', {
    id: Id,
    value: Type.Unknown(),
  }),
  failed: numbered('failed', 'both', 'A request could not be carried out, or not be taken.', {
    id: Id,
    code: Code,
    message: Text,
    /** What to do. */
    hint: Text,
  }),
  progress: numbered('progress', 'both', 'How far a request is, or a copy.', Progress),
  event: numbered('event', 'host', 'Something has happened to a volume that nobody asked for.', {
    name: oneOf(EVENT_NAMES),
    volume: VolumeFacts,
    move: nullable(Id),
    /** What a copy is complete through now. */
    through: HeadOrNull,
    message: Text,
  }),
} as const;

export type MessageType = keyof typeof MESSAGES;

export type MessageOf<T extends MessageType> = Static<(typeof MESSAGES)[T]['schema']>;

export type Message = { [T in MessageType]: MessageOf<T> }[MessageType];

type NumberedType = {
  [T in MessageType]: (typeof MESSAGES)[T]['numbered'] extends true ? T : never;
}[MessageType];

export type NumberedMessage = { [T in NumberedType]: MessageOf<T> }[NumberedType];

/** A numbered message before it has its place. */
export type Body = { [T in NumberedType]: Omit<MessageOf<T>, 'seq' | 'ack'> }[NumberedType];

export type Hello = MessageOf<'hello'>;
export type Welcome = MessageOf<'welcome'>;
export type Refused = MessageOf<'refused'>;

/** What is answered, and by what. */
export const REPLIES = {
  probe: ['answer', 'failed'],
  command: ['outcome', 'failed'],
  perform: ['outcome', 'failed'],
  claim: ['answer', 'failed'],
  describe: ['description', 'failed'],
  pull: ['outcome', 'failed'],
  digest: ['digested', 'failed'],
  group: ['grouped', 'failed'],
  load: ['loads', 'failed'],
  call: ['result', 'failed'],
} as const;

const REPLY_TYPES: ReadonlySet<string> = new Set(Object.values(REPLIES).flat());

export type RequestType = keyof typeof REPLIES;
/** What is told and not answered. */
export type TellBody = Extract<Body, { type: 'progress' | 'event' }>;
export type Request = MessageOf<RequestType>;
export type RequestBody = Extract<Body, { type: RequestType }>;
export type Reply = MessageOf<(typeof REPLIES)[RequestType][number]>;
export type ReplyBody = Extract<Body, { type: Reply['type'] }>;

export function isNumbered(message: Message): message is NumberedMessage {
  return MESSAGES[message.type].numbered;
}

export function isRequest(message: Message): message is Request {
  return Object.hasOwn(REPLIES, message.type);
}

export function isReply(message: Message): message is Reply {
  return REPLY_TYPES.has(message.type);
}

/** Whether this side may send it. */
export function mayCome(message: Message, from: Side): boolean {
  const sender = MESSAGES[message.type].from;
  return sender === 'both' || sender === from;
}
