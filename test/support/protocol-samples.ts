// Messages of the coordinator's protocol for tests: one of each, and what they are put together from.

import { NO_RECORD } from '../../src/model/cell/answer.js';
import type { HelloFacts } from '../../src/protocol/host-machine.js';
import type { Message, MessageOf, MessageType } from '../../src/protocol/messages.js';

/** 32 hexadecimal digits that say their number. */
export function idOf(number: number): string {
  return number.toString(16).padStart(32, '0');
}

export const STORE = idOf(0x5708e);
export const VOLUME = idOf(0xa);

const head = { id: idOf(7), seq: 3 };

export function factsOf(host: string, more: Partial<HelloFacts> = {}): HelloFacts {
  return {
    host,
    cell: 'east',
    storeId: STORE,
    boot: 1,
    nbd: ['tcp:127.0.0.1:10809'],
    program: '0.1.0',
    volumes: [{ id: VOLUME, epoch: 4, head, state: 'ACTIVE' }],
    groups: [
      { group: idOf(0x9), parts: [{ volume: VOLUME, host, epoch: 4, snapshot: idOf(0x11), name: 'all' }] },
    ],
    ...more,
  };
}

export function helloOf(host: string, more: Partial<MessageOf<'hello'>> = {}): MessageOf<'hello'> {
  return { type: 'hello', versions: [1], resume: null, ...factsOf(host), ...more };
}

export function answerOf(host: string): MessageOf<'answer'>['answer'] {
  return {
    ...NO_RECORD,
    host,
    cell: 'east',
    storeId: STORE,
    state: 'ACTIVE',
    epoch: 4,
    lineageHead: head,
    replica: null,
    lineage: { 3: head.id },
  };
}

const clocks = { clockMs: 1_800_000_000_000, uptimeMs: 1_000 };
const place = { seq: 1, ack: 0 };
const id = idOf(1);

const description: MessageOf<'description'>['description'] = {
  name: 'db',
  kind: 'volume',
  sizeBytes: '1073741824',
  attributes: null,
  base: null,
  allow: [],
  description: '',
  snapshots: [
    {
      ...head,
      hidden: false,
      name: 'before',
      sizeBytes: '1073741824',
      created: '2027-01-01T00:00:00.000Z',
      expires: null,
      base: { volume: VOLUME, snapshot: idOf(6) },
    },
  ],
  more: false,
};

export const SAMPLES: { [T in MessageType]: MessageOf<T> } = {
  hello: helloOf('web-1'),
  welcome: {
    type: 'welcome',
    version: 1,
    session: idOf(0x5e),
    resumed: false,
    received: 0,
    coordinator: 'c1',
    leader: { coordinator: 'c1', address: 'wss://c1:8443' },
    heartbeatMs: 5_000,
    silenceMs: 15_000,
    resumeMs: 60_000,
    regressed: false,
    highest: [{ id: VOLUME, epoch: 4, seq: 3 }],
  },
  refused: {
    type: 'refused',
    code: 'busy',
    message: 'Not now.',
    versions: [1],
    leader: null,
    retryAfterMs: 100,
  },
  error: { type: 'error', code: 'duplicate', message: 'Message 1 came before.', id: null },
  ping: { type: 'ping', number: 1, ack: 0, ...clocks },
  pong: { type: 'pong', number: 1, ack: 0, ...clocks },
  ack: { type: 'ack', ack: 0 },
  goodbye: { type: 'goodbye', reason: 'stopping' },
  probe: { type: 'probe', ...place, id, volume: VOLUME, seqs: [1, 2] },
  answer: { type: 'answer', ...place, id, volume: VOLUME, answer: answerOf('web-1') },
  command: { type: 'command', ...place, id, volume: VOLUME, command: { do: 'fence', releasedTo: 5 } },
  perform: {
    type: 'perform',
    ...place,
    id,
    volume: VOLUME,
    epoch: 4,
    parent: head,
    operation: { kind: 'snapshot', id: idOf(8), name: 'before' },
  },
  outcome: { type: 'outcome', ...place, id, outcome: { kind: 'done', head } },
  claim: { type: 'claim', ...place, id, volume: VOLUME, name: 'db' },
  describe: { type: 'describe', ...place, id, volume: VOLUME, after: null },
  description: { type: 'description', ...place, id, description },
  pull: {
    type: 'pull',
    ...place,
    id,
    volume: VOLUME,
    pull: {
      move: idOf(9),
      from: { host: 'web-2', cell: 'west', addresses: ['tcp:127.0.0.1:10809'] },
      description,
      through: head,
      bytesPerSecond: null,
    },
  },
  digest: { type: 'digest', ...place, id, volume: VOLUME, snapshot: head.id, since: null },
  digested: { type: 'digested', ...place, id, sha256: '0'.repeat(64), bytes: '4096' },
  group: {
    type: 'group',
    ...place,
    id,
    group: idOf(10),
    step: { do: 'quiesce', volumes: [VOLUME], limitMs: 1000 },
  },
  grouped: {
    type: 'grouped',
    ...place,
    id,
    outcome: { kind: 'done', held: 'held', heldMs: 1.5, heads: [{ volume: VOLUME, head }] },
  },
  load: { type: 'load', ...place, id },
  loads: { type: 'loads', ...place, id, volumes: [{ id: VOLUME, writtenBytes: '4096' }] },
  call: {
    type: 'call',
    ...place,
    id,
    call: { verb: 'route-show', arguments: { volume: 'db', explain: true } },
  },
  result: { type: 'result', ...place, id, value: { rule: 'stay' } },
  failed: { type: 'failed', ...place, id, code: 'volume-not-found', message: 'No.', hint: 'Look.' },
  progress: {
    type: 'progress',
    ...place,
    of: null,
    volume: VOLUME,
    move: idOf(9),
    stage: 'copying',
    done: 1,
    total: 2,
  },
  event: {
    type: 'event',
    ...place,
    name: 'staged',
    volume: { id: VOLUME, epoch: 4, head, state: 'STAGED' },
    move: idOf(9),
    through: head,
    message: '',
  },
};

export const ALL_SAMPLES: Message[] = Object.values(SAMPLES);
