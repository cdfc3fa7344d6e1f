// The control API's values that have to do with the coordinator; see api-schema.ts.

import { type Static, Type } from '@sinclair/typebox';
import { cellStanding, membership } from './api-schema.js';
import { DEFAULT_TIMEOUT_SECONDS } from './coordinator-calls.js';
import { closed, oneOf, titled } from './schema-parts.js';

export const CoordinatorView = titled('Coordinator', {
  ...membership,
  volumes: Type.Array(closed({ name: Type.String(), kind: oneOf(['volume', 'file']), ...cellStanding }), {
    description: 'Those of this host that belong to a cell.',
  }),
});
export type CoordinatorView = Static<typeof CoordinatorView>;

export const CallQuery = closed({
  stream: Type.Optional(Type.Boolean({ description: 'Lines of JSON: how far it is, then what it gives.' })),
});

const id = Type.String({
  pattern: '^[0-9a-f]{32}$',
  description: 'Of the call: asked again with the same one, it is done once.',
});

export const CoordinatorCall = titled('CoordinatorCall', {
  verb: Type.String({ description: 'A verb of docs/coordinator-protocol.json, such as `route-show`.' }),
  arguments: Type.Record(Type.String(), Type.Unknown(), { description: 'What the verb takes.' }),
  id: Type.Optional(id),
  timeout_seconds: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 3_600,
      default: DEFAULT_TIMEOUT_SECONDS,
      description: 'How long the coordinator may take.',
    }),
  ),
});

export const CallAnswer = titled('CallAnswer', {
  id,
  value: Type.Unknown({ description: 'What the verb gives; any JSON.' }),
});
