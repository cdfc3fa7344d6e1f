// Volumes: create, list, show, rename, resize, delete, repair.

import { Type } from '@sinclair/typebox';
import { CellblockError } from '../../base/errors.js';
import { parseSize } from '../../model/sizes.js';
import type { AgentParts } from '../agent-parts.js';
import {
  ChangeVolume,
  CreateVolume,
  DeletePlan,
  DeleteVolumeQuery,
  ErrorAnswer,
  RepairReport,
  Task,
  Volume,
  VolumeDetails,
  VolumeParams,
} from '../api-schema.js';
import type { Api } from '../route-types.js';

const tags = ['volumes'];

export function volumeRoutes(api: Api, { operations }: AgentParts): void {
  api.post(
    '/v1/volumes',
    {
      schema: {
        tags,
        summary: 'Make an empty volume',
        body: CreateVolume,
        response: { 201: Volume, default: ErrorAnswer },
      },
    },
    async ({ body }, reply) => {
      const volume = await operations.createVolume(body.name, { sizeBytes: sizeOf(body.size) });
      return reply.status(201).send(volume);
    },
  );

  api.get(
    '/v1/volumes',
    {
      schema: { tags, summary: 'List volumes', response: { 200: Type.Array(Volume), default: ErrorAnswer } },
    },
    async () => operations.listVolumes(),
  );

  api.get(
    '/v1/volumes/:name',
    {
      schema: {
        tags,
        summary: 'Show a volume',
        params: VolumeParams,
        response: { 200: VolumeDetails, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.showVolume(params.name),
  );

  api.patch(
    '/v1/volumes/:name',
    {
      schema: {
        tags,
        summary: 'Rename or resize a volume',
        description:
          'One of the two at a time. Shrinking needs `force`: what lies behind the new end is gone.',
        params: VolumeParams,
        body: ChangeVolume,
        response: { 200: Volume, default: ErrorAnswer },
      },
    },
    async ({ params, body }) => {
      if ((body.name === undefined) === (body.size === undefined)) {
        throw new CellblockError('request-invalid', 'A change names either a new name or a new size.', {
          hint: 'Send {"name": ...} to rename or {"size": ...} to resize.',
        });
      }
      if (body.name !== undefined) return operations.renameVolume(params.name, body.name);
      return operations.resizeVolume(params.name, {
        sizeBytes: sizeOf(body.size ?? ''),
        force: body.force === true,
      });
    },
  );

  api.delete(
    '/v1/volumes/:name',
    {
      schema: {
        tags,
        summary: 'Delete a volume',
        description: 'Durable when answered; the task frees its space. Clones stay.',
        params: VolumeParams,
        querystring: DeleteVolumeQuery,
        response: { 200: Task, default: ErrorAnswer },
      },
    },
    async ({ params, query }) =>
      operations.deleteVolume(params.name, {
        withSnapshots: query.with_snapshots === true,
        disconnect: query.disconnect === true,
      }),
  );

  api.get(
    '/v1/volumes/:name/delete-plan',
    {
      schema: {
        tags,
        summary: 'What deleting a volume would take along',
        params: VolumeParams,
        response: { 200: DeletePlan, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.planDeleteVolume(params.name),
  );

  api.post(
    '/v1/volumes/:name/repair',
    {
      schema: {
        tags,
        summary: 'Make a failed volume writable again',
        params: VolumeParams,
        response: { 200: RepairReport, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.repairVolume(params.name),
  );
}

function sizeOf(size: number | string): bigint {
  return parseSize(typeof size === 'number' ? BigInt(size).toString() : size);
}
