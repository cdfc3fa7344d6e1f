// Files: made with attributes, renamed, resized; attributes set. What else there is they share with volumes.

import { CellblockError } from '../../base/errors.js';
import type { AgentParts } from '../agent-parts.js';
import { ChangeFile, CreateFile, ErrorAnswer, File, FileDetails, VolumeParams } from '../api-schema.js';
import type { Api } from '../route-types.js';
import { changeContainer, commonRoutes, sizeOf } from './volumes.js';

const tags = ['files'];

export function fileRoutes(api: Api, { operations }: AgentParts): void {
  api.post(
    '/v1/files',
    {
      schema: {
        tags,
        summary: 'Make an empty file of so many bytes',
        body: CreateFile,
        response: { 201: File, default: ErrorAnswer },
      },
    },
    async ({ body: { name, size, attributes = {}, ...access } }, reply) => {
      const file = await operations.createFile(name, { sizeBytes: sizeOf(size), attributes, ...access });
      return reply.status(201).send(file);
    },
  );

  api.patch(
    '/v1/files/:name',
    {
      schema: {
        tags,
        summary: 'Rename or resize a file, set attributes of it, or say who may open it',
        description:
          'One of the four at a time; `allow` and `description` go together. Shrinking needs `force`: what lies behind the new end is gone.',
        params: VolumeParams,
        body: ChangeFile,
        response: { 200: File, default: ErrorAnswer },
      },
    },
    async ({ params, body: { attributes, ...change } }) => {
      if (attributes === undefined)
        return changeContainer(operations, params.name, { kind: 'file', ...change });
      if (Object.keys(change).length === 0) return operations.setFileAttributes(params.name, attributes);
      throw new CellblockError('request-invalid', 'A change of attributes comes alone.', {
        hint: 'Rename and resize in requests of their own.',
      });
    },
  );

  commonRoutes(api, operations, { kind: 'file', path: '/v1/files', tags, One: File, Details: FileDetails });
}
