// Volumes, files and snapshots as block devices of the kernel.

import { type Static, Type } from '@sinclair/typebox';
import type { AgentParts } from '../agent-parts.js';
import { ErrorAnswer } from '../api-schema.js';
import type { Api } from '../route-types.js';
import { Bytes, closed, nullable, oneOf, Time, titled } from '../schema-parts.js';

const tags = ['attachments'];
const text = Type.String();

const Attach = closed({
  name: Type.String({ description: 'VOLUME, FILE or VOLUME@SNAPSHOT; a snapshot is attached read-only.' }),
  read_only: Type.Optional(Type.Boolean()),
  connections: Type.Optional(Type.Integer({ description: '1 to 16; default 2.' })),
  device: Type.Optional(Type.String({ description: '/dev/nbdN; default: a free one.' })),
  block_size: Type.Optional(Type.Integer({ description: '512, 1024, 2048 or 4096 bytes; default 512.' })),
  io_timeout: Type.Optional(
    Type.Integer({
      description:
        'Seconds after which a request is sent again on another connection, so the longest stall after the agent was killed; default 10.',
    }),
  ),
  dead_timeout: Type.Optional(
    Type.Integer({ description: 'Seconds that requests wait for an agent before they fail; default 300.' }),
  ),
});
const AttachmentParams = closed({
  name: Type.String({ description: 'What was attached, or its device; percent-encoded.' }),
});
const DetachQuery = closed({
  force: Type.Optional(
    Type.Boolean({ description: 'Even if it is in use: whoever uses it gets I/O errors.' }),
  ),
});

const Attachment = titled('Attachment', {
  name: nullable(Type.String({ description: 'VOLUME or VOLUME@SNAPSHOT; null: that is gone.' })),
  device: Type.String({ description: '/dev/nbdN' }),
  readOnly: Type.Boolean(),
  sizeBytes: Bytes,
  blockBytes: Bytes,
  connections: Type.Integer({ description: 'As it was attached with.' }),
  connected: Type.Integer({ description: 'Open now.' }),
  ioTimeoutSeconds: Type.Integer(),
  deadTimeoutSeconds: Type.Integer(),
  created: Time,
  users: Type.Array(closed({ kind: oneOf(['mount', 'swap', 'holder']), device: text, where: text }), {
    description:
      'Who has it, a partition of it, or what is mapped onto it; of the mount namespace of the agent.',
  }),
});

export type Attachment = Static<typeof Attachment>;

export function attachmentRoutes(api: Api, { operations }: AgentParts): void {
  api.post(
    '/v1/attachments',
    {
      schema: {
        tags,
        summary: 'Attach a volume, file or snapshot as a block device of the kernel',
        body: Attach,
        response: { 201: Attachment, default: ErrorAnswer },
      },
    },
    async ({ body }, reply) => {
      const { name, read_only, block_size, io_timeout, dead_timeout, ...rest } = body;
      const info = await operations.attach(name, {
        ...rest,
        ...(read_only === undefined ? {} : { readOnly: read_only }),
        ...(block_size === undefined ? {} : { blockBytes: block_size }),
        ...(io_timeout === undefined ? {} : { ioTimeoutSeconds: io_timeout }),
        ...(dead_timeout === undefined ? {} : { deadTimeoutSeconds: dead_timeout }),
      });
      return reply.status(201).send(asAnswer(info));
    },
  );

  api.get(
    '/v1/attachments',
    {
      schema: {
        tags,
        summary: 'List what is attached, by device',
        response: { 200: Type.Array(Attachment), default: ErrorAnswer },
      },
    },
    async () => (await operations.listAttachments()).map(asAnswer),
  );

  api.delete(
    '/v1/attachments/:name',
    {
      schema: {
        tags,
        summary: 'Detach; what is mounted is refused unless forced',
        params: AttachmentParams,
        querystring: DetachQuery,
        response: { 200: Attachment, default: ErrorAnswer },
      },
    },
    async ({ params, query }) =>
      asAnswer(await operations.detach(params.name, { force: query.force ?? false })),
  );
}

function asAnswer(info: Awaited<ReturnType<AgentParts['operations']['attach']>>): Attachment {
  return { ...info, blockBytes: BigInt(info.blockBytes) };
}
