// Snapshots and clones.

import { Type } from '@sinclair/typebox';
import { parseSnapshotReference } from '../../model/names.js';
import type { AgentParts } from '../agent-parts.js';
import {
  Clone,
  CreateClone,
  CreateSnapshots,
  DeleteSnapshots,
  Difference,
  DiffQuery,
  ErrorAnswer,
  Snapshot,
  SnapshotParams,
  SnapshotsQuery,
  Task,
} from '../api-schema.js';
import type { Api } from '../route-types.js';

const tags = ['snapshots'];

export function snapshotRoutes(api: Api, { operations, inspection }: AgentParts): void {
  api.post(
    '/v1/snapshots',
    {
      schema: {
        tags,
        summary: 'Take snapshots, of several volumes in one instant',
        body: CreateSnapshots,
        response: { 201: Type.Array(Snapshot), default: ErrorAnswer },
      },
    },
    async ({ body }, reply) => {
      const { targets, ...options } = body;
      const snapshots = await operations.createSnapshots(targets.map(parseSnapshotReference), options);
      return reply.status(201).send(snapshots);
    },
  );

  api.get(
    '/v1/snapshots',
    {
      schema: {
        tags,
        summary: 'List snapshots',
        querystring: SnapshotsQuery,
        response: { 200: Type.Array(Snapshot), default: ErrorAnswer },
      },
    },
    async ({ query }) => operations.listSnapshots(query.volume),
  );

  api.get(
    '/v1/snapshots/:name',
    {
      schema: {
        tags,
        summary: 'Show a snapshot',
        params: SnapshotParams,
        response: { 200: Snapshot, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.showSnapshot(parseSnapshotReference(params.name)),
  );

  api.delete(
    '/v1/snapshots/:name',
    {
      schema: {
        tags,
        summary: 'Delete a snapshot',
        description: 'Durable when answered; the task frees its space. No data is moved.',
        params: SnapshotParams,
        response: { 200: Task, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.deleteSnapshots([parseSnapshotReference(params.name)]),
  );

  api.delete(
    '/v1/snapshots',
    {
      schema: {
        tags,
        summary: 'Delete several snapshots, all or none',
        body: DeleteSnapshots,
        response: { 200: Task, default: ErrorAnswer },
      },
    },
    async ({ body }) => operations.deleteSnapshots(body.targets.map(parseSnapshotReference)),
  );

  api.get(
    '/v1/diff',
    {
      schema: {
        tags,
        summary: 'Which bytes may differ between two states',
        description: 'No data is read: the answer comes from the maps. It comes in pages.',
        querystring: DiffQuery,
        response: { 200: Difference, default: ErrorAnswer },
      },
    },
    async ({ query }) =>
      inspection.diff({ from: query.from, to: query.to, offset: BigInt(query.offset ?? 0) }),
  );

  api.post(
    '/v1/clones',
    {
      schema: {
        tags: ['volumes'],
        summary: 'Make a volume (of a file: a file) that continues a snapshot',
        body: CreateClone,
        response: { 201: Clone, default: ErrorAnswer },
      },
    },
    async ({ body: { source, name, expires, new_identity } }, reply) => {
      const options = { ...(expires && { expires }), newIdentity: new_identity ?? false };
      return reply.status(201).send(await operations.clone(parseSnapshotReference(source), name, options));
    },
  );
}
