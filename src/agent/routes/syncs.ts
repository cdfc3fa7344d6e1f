// Syncs, and the identity they keep.

import { Type } from '@sinclair/typebox';
import { parseSnapshotReference } from '../../model/names.js';
import type { SyncRequest } from '../../operations/sync-operations.js';
import type { AgentParts } from '../agent-parts.js';
import { ErrorAnswer, VolumeParams } from '../api-schema.js';
import type { Api } from '../route-types.js';
import { FoundIdentity, Sync, SyncBody, SyncParams, UndoBody } from '../sync-schema.js';

const tags = ['syncs'];

interface Asked {
  identity?: SyncRequest['rules'];
  online?: boolean;
  force?: boolean;
  safety?: boolean;
  take_keys?: boolean;
  grow?: boolean;
  disks?: { source: string; target: string }[];
  boot?: string;
  files?: boolean;
  guest_identity?: boolean;
}

function requestOf(asked: Asked): SyncRequest {
  const { identity, online, force, safety, take_keys, grow, disks, boot, files, guest_identity } = asked;
  return {
    ...(disks && { disks }),
    ...(boot && { boot }),
    files: files ?? false,
    guest: guest_identity ?? false,
    rules: identity ?? [],
    online: online ?? false,
    force: force ?? false,
    safety: safety ?? true,
    takeKeys: take_keys ?? false,
    grow: grow ?? false,
  };
}

export function syncRoutes(api: Api, { operations }: AgentParts): void {
  api.post(
    '/v1/syncs',
    {
      schema: {
        tags,
        summary: 'Bring a volume to the state of a snapshot, and keep its identity',
        description: 'In constant time, without copying. A failure at any step leaves the volume as it was.',
        body: SyncBody,
        response: { 200: Sync, default: ErrorAnswer },
      },
    },
    async ({ body }) => {
      const from = parseSnapshotReference(body.from);
      return body.dry_run
        ? operations.syncs.plan(body.target, from, requestOf(body))
        : operations.syncs.sync(body.target, from, requestOf(body));
    },
  );

  api.post(
    '/v1/syncs/undo',
    {
      schema: {
        tags,
        summary: 'Bring a volume back to its state before its last sync',
        body: UndoBody,
        response: { 200: Sync, default: ErrorAnswer },
      },
    },
    async ({ body }) => operations.syncs.undo(body.target, requestOf(body)),
  );

  api.get(
    '/v1/syncs',
    {
      schema: {
        tags,
        summary: 'List syncs, oldest first',
        response: { 200: Type.Array(Sync), default: ErrorAnswer },
      },
    },
    async () => operations.syncs.list(),
  );

  api.get(
    '/v1/syncs/:id',
    {
      schema: {
        tags,
        summary: 'Show a sync with its report',
        params: SyncParams,
        response: { 200: Sync, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.syncs.show(params.id),
  );

  api.get(
    '/v1/identity/:name',
    {
      schema: {
        tags,
        summary: 'The identity found on a volume or snapshot',
        params: VolumeParams,
        response: { 200: FoundIdentity, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.syncs.identity(params.name),
  );
}
