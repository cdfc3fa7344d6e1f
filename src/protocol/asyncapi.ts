// The AsyncAPI document of the protocol, made from the schemas of its messages. Written by src/main/make-pages.ts.

import { FAULTS } from './faults.js';
import { LIMITS } from './limits.js';
import { MESSAGES, type MessageType, REPLIES, type RequestType } from './messages.js';
import { PROTOCOL_VERSION, subprotocolOf } from './version.js';

type Json = Record<string, unknown>;

const MESSAGE_TYPES = Object.keys(MESSAGES) as MessageType[];

/** From the coordinator's point of view: it sends, and it receives. */
export function asyncApiDocument(): Json {
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'cellblock coordinator protocol',
      version: String(PROTOCOL_VERSION),
      description: `WebSocket subprotocol ${subprotocolOf(PROTOCOL_VERSION)}: one JSON object in a text frame of at most ${LIMITS.messageBytes} bytes. See coordinator-protocol.md.`,
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      coordinator: {
        host: 'coordinator:8443',
        pathname: '/',
        protocol: 'wss',
        description: 'A coordinator; hosts open the connection.',
        security: [
          { $ref: '#/components/securitySchemes/certificate' },
          { $ref: '#/components/securitySchemes/token' },
        ],
      },
    },
    channels: {
      session: {
        address: '/',
        description: 'The connection of one host.',
        messages: Object.fromEntries(
          MESSAGE_TYPES.map((type) => [type, { $ref: `#/components/messages/${type}` }]),
        ),
        bindings: { ws: { method: 'GET' } },
      },
    },
    operations: Object.fromEntries(MESSAGE_TYPES.filter((type) => !isReplyOnly(type)).flatMap(operationsOf)),
    components: {
      messages: Object.fromEntries(MESSAGE_TYPES.map((type) => [type, messageOf(type)])),
      securitySchemes: {
        certificate: {
          type: 'X509',
          description: 'Mutual TLS: subjectAltName URI cellblock://cell/CELL/host/HOST.',
        },
        token: { type: 'http', scheme: 'bearer', description: 'From a file of lines HOST CELL TOKEN.' },
      },
    },
    'x-faults': FAULTS,
  };
}

function messageOf(type: MessageType): Json {
  const { schema, numbered, summary } = MESSAGES[type];
  return {
    name: type,
    title: type,
    summary,
    ...(numbered ? { tags: [{ name: 'numbered' }] } : {}),
    payload: JSON.parse(JSON.stringify(schema)),
  };
}

/** Operations by name: what both sides send is two of them. */
function operationsOf(type: MessageType): [string, Json][] {
  const { from } = MESSAGES[type];
  const operations: [string, Json][] = [];
  if (from !== 'host') operations.push([`send-${type}`, operation('send', type)]);
  if (from !== 'coordinator') operations.push([`receive-${type}`, operation('receive', type)]);
  return operations;
}

function operation(action: 'send' | 'receive', type: MessageType): Json {
  const messages = (types: readonly string[]) =>
    types.map((name) => ({ $ref: `#/channels/session/messages/${name}` }));
  const channel = { $ref: '#/channels/session' };
  const replies = Object.hasOwn(REPLIES, type) ? REPLIES[type as RequestType] : undefined;
  return {
    action,
    channel,
    summary: MESSAGES[type].summary,
    messages: messages([type]),
    ...(replies ? { reply: { channel, messages: messages(replies) } } : {}),
  };
}

/** Said in the reply of its requests. */
function isReplyOnly(type: MessageType): boolean {
  return Object.values(REPLIES).some((replies: readonly string[]) => replies.includes(type));
}
