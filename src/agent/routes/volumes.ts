// Volumes: create, rename, resize; and what they share with files: list, show, delete, repair.

import { type Static, type TSchema, Type } from '@sinclair/typebox';
import { CellblockError } from '../../base/errors.js';
import type { ContainerKind } from '../../model/entities.js';
import { parseSize } from '../../model/sizes.js';
import type { Operations } from '../../operations/operations.js';
import type { VolumeInfo } from '../../operations/types.js';
import type { AgentParts } from '../agent-parts.js';
import {
  ChangeVolume,
  CreateVolume,
  DeletePlan,
  DeleteVolumeQuery,
  ErrorAnswer,
  type File,
  type FileDetails,
  RepairReport,
  Task,
  Volume,
  VolumeDetails,
  VolumeParams,
} from '../api-schema.js';
import type { Api } from '../route-types.js';
import { limitsOf, settingChangesOf } from '../settings-schema.js';

const tags = ['volumes'];

/** What differs between the routes of volumes and those of files. */
export interface Noun {
  kind: ContainerKind;
  path: string;
  tags: string[];
  One: typeof Volume | typeof File;
  Details: typeof VolumeDetails | typeof FileDetails;
}

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
      const { name, size, limits, ...access } = body;
      const volume = await operations.createVolume(name, {
        sizeBytes: sizeOf(size),
        ...access,
        ...(limits && { limits: limitsOf(limits) }),
      });
      return reply.status(201).send(volume);
    },
  );

  api.patch(
    '/v1/volumes/:name',
    {
      schema: {
        tags,
        summary: 'Rename or resize a volume, say who may open it, or set its limits and its transaction log',
        description:
          'One of the four at a time; `allow` and `description` go together. Clients stay connected, and limits hold for them at once. Shrinking needs `force`: what lies behind the new end is gone.',
        params: VolumeParams,
        body: ChangeVolume,
        response: { 200: Volume, default: ErrorAnswer },
      },
    },
    async ({ params, body }) => {
      const { limits, transaction_log, ...change } = body;
      const settings = settingChangesOf({ limits, transaction_log });
      if (settings === null) return changeContainer(operations, params.name, { kind: 'volume', ...change });
      if (Object.keys(change).length === 0) return operations.setVolume(params.name, settings);
      throw new CellblockError('request-invalid', 'A change of settings comes alone.', {
        hint: 'Rename, resize and say who may open it in requests of their own.',
      });
    },
  );

  commonRoutes(api, operations, {
    kind: 'volume',
    path: '/v1/volumes',
    tags,
    One: Volume,
    Details: VolumeDetails,
  });
}

/** Renames, resizes, or sets who may open it and what they are told. */
export async function changeContainer(
  operations: Operations,
  container: string,
  change: { kind: ContainerKind } & Omit<Static<typeof ChangeVolume>, 'limits' | 'transaction_log'>,
): Promise<VolumeInfo> {
  const { kind, name, size, force, disconnect, ...access } = change;
  const isAccess = Object.keys(access).length > 0;
  if (Number(name !== undefined) + Number(size !== undefined) + Number(isAccess) !== 1) {
    throw new CellblockError(
      'request-invalid',
      'A change names either a new name, a new size, or who may open it and a description.',
      {
        hint: 'Send {"name": ...} to rename, {"size": ...} to resize, {"allow": [...]} to say who may open it.',
      },
    );
  }
  if (isAccess) return operations.setAccess(container, { ...access, disconnect: disconnect === true }, kind);
  if (name !== undefined) return operations.renameVolume(container, name, kind);
  const options = { sizeBytes: sizeOf(size ?? ''), force: force === true };
  return operations.resizeVolume(container, options, kind);
}

/** What both nouns have, with the same answers. */
export function commonRoutes(api: Api, operations: Operations, noun: Noun): void {
  const { kind, path, tags } = noun;
  // Of one shape, whichever of the two schemas writes it.
  const One = noun.One as typeof Volume;
  const Details = noun.Details as typeof VolumeDetails;
  const answers = <Answer extends TSchema>(answer: Answer) => ({ 200: answer, default: ErrorAnswer });

  api.get(
    path,
    { schema: { tags, summary: `List ${kind}s`, response: answers(Type.Array(One)) } },
    async () => operations.listVolumes(kind),
  );

  api.get(
    `${path}/:name`,
    { schema: { tags, summary: `Show a ${kind}`, params: VolumeParams, response: answers(Details) } },
    async ({ params }) => operations.showVolume(params.name, kind),
  );

  api.delete(
    `${path}/:name`,
    {
      schema: {
        tags,
        summary: `Delete a ${kind}`,
        description: 'Durable when answered; the task frees its space. Clones stay.',
        params: VolumeParams,
        querystring: DeleteVolumeQuery,
        response: answers(Task),
      },
    },
    async ({ params, query }) => {
      const options = {
        withSnapshots: query.with_snapshots === true,
        disconnect: query.disconnect === true,
      };
      return operations.deleteVolume(params.name, options, kind);
    },
  );

  api.get(
    `${path}/:name/delete-plan`,
    {
      schema: {
        tags,
        summary: `What deleting a ${kind} would take along`,
        params: VolumeParams,
        response: answers(DeletePlan),
      },
    },
    async ({ params }) => operations.planDeleteVolume(params.name, kind),
  );

  api.post(
    `${path}/:name/repair`,
    {
      schema: {
        tags,
        summary: `Make a failed ${kind} writable again`,
        params: VolumeParams,
        response: answers(RepairReport),
      },
    },
    async ({ params }) => operations.repairVolume(params.name, kind),
  );
}

export function sizeOf(size: number | string): bigint {
  return parseSize(typeof size === 'number' ? BigInt(size).toString() : size);
}
