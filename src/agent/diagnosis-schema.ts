// What `GET /v1/diagnosis` tells: what of an installation only the agent itself knows. For `cellblock doctor`.

import { type Static, Type } from '@sinclair/typebox';
import { Bytes, BytesOrNull, closed, nullable, oneOf, Time, titled } from './schema-parts.js';

const Count = nullable(Type.Integer());
const Mode = nullable(Type.Integer({ description: 'Permissions.' }));
const Failed = nullable(Type.String({ description: 'errno of what kept it from being looked at.' }));

const Mount = closed({
  point: Type.String(),
  type: Type.String(),
  source: Type.String(),
  options: Type.Array(Type.String()),
});

export const Diagnosis = titled('Diagnosis', {
  program: closed({
    version: Type.String(),
    node: Type.String(),
    engine: Type.String({ description: 'How blocking disk work is done.' }),
    engineWanted: oneOf(['automatic', 'io_uring', 'workers']),
    configuration: nullable(Type.String({ description: 'The file it was started with.' })),
    started: Time,
    keepsClients: Type.Boolean({ description: 'A stop leaves clients with the service manager.' }),
    maxConnections: Type.Integer(),
  }),
  process: closed({
    pid: Type.Integer(),
    uid: Count,
    capabilities: nullable(Type.String({ description: 'The effective set, 16 hexadecimal digits.' })),
    openDescriptors: Count,
    descriptorLimit: Count,
    residentBytes: BytesOrNull,
    swappedBytes: BytesOrNull,
    memoryLimitBytes: BytesOrNull,
    memoryUsedBytes: BytesOrNull,
  }),
  store: closed({
    directory: Type.String(),
    error: Failed,
    uid: Count,
    mode: Mode,
    mount: nullable(Mount),
    sizeBytes: BytesOrNull,
    freeBytes: BytesOrNull,
    trend: nullable(
      closed({
        bytesPerSecond: Type.Number({ description: 'Of free space; negative: it fills up.' }),
        seconds: Type.Number({ description: 'Measured over so long.' }),
      }),
    ),
  }),
  journal: closed({ sizeBytes: Bytes, usedBytes: Bytes }),
  cache: closed({ limitBytes: Bytes, residentBytes: Bytes }),
  inFlightBytes: Bytes,
  files: Type.Array(
    closed({
      key: Type.String({ description: 'The key of the configuration that names it.' }),
      path: Type.String(),
      holds: oneOf(['certificates', 'secret']),
      error: Failed,
      uid: Count,
      mode: Mode,
      certificate: nullable(closed({ subject: Type.String(), from: Time, expires: Time })),
    }),
    { description: 'Those of TLS and of the coordinator. What holds a secret is never opened for this.' },
  ),
  coordinator: nullable(
    closed({
      addresses: Type.Array(Type.String()),
      clockDifferenceMs: nullable(
        Type.Number({
          description: 'Clock of the coordinator less that of this host, at its last heartbeat.',
        }),
      ),
    }),
  ),
});

export type Diagnosis = Static<typeof Diagnosis>;
