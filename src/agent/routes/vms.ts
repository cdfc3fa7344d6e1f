// Virtual machines: groups of volumes and files with a configuration document.

import { type Static, Type } from '@sinclair/typebox';
import type { AgentParts } from '../agent-parts.js';
import { ErrorAnswer } from '../api-schema.js';
import type { Api } from '../route-types.js';
import { Bytes, closed, Moment, nullable, oneOf, Time, titled } from '../schema-parts.js';

const tags = ['vms'];
const text = Type.String();

const VmParams = closed({
  name: Type.String({ description: 'Name of the virtual machine, percent-encoded.' }),
});
const VmSnapshotParams = closed({ name: text, snapshot: text });
const CreateVm = closed({
  name: text,
  config: Type.String({ description: 'Domain XML of libvirt, or JSON; kept byte for byte.' }),
  disks: Type.Array(closed({ slot: text, volume: text }), {
    minItems: 1,
    description: 'Volumes by the target of their disk in the configuration (vda); files by any name.',
  }),
});
const DeleteVmQuery = closed({
  with_disks: Type.Optional(
    Type.Boolean({ description: 'Its volumes and files too, with their snapshots.' }),
  ),
});
const CreateVmSnapshot = closed({ name: text, expires: Type.Optional(Moment) });

const VmSnapshot = titled('VmSnapshot', {
  vm: text,
  name: text,
  fullName: Type.String({ description: 'VM@SNAPSHOT' }),
  created: Time,
  expires: nullable(Time),
  disks: Type.Array(
    closed({ slot: text, snapshot: nullable(Type.String({ description: 'null: deleted by itself.' })) }),
  ),
});
const vmProperties = {
  name: text,
  id: Type.Integer(),
  created: Time,
  disks: Type.Array(closed({ slot: text, volume: text, kind: oneOf(['volume', 'file']), sizeBytes: Bytes })),
  snapshots: Type.Array(text),
  format: oneOf(['libvirt', 'json']),
};
const Vm = titled('Vm', vmProperties);
const VmDetails = titled('VmDetails', {
  ...vmProperties,
  config: text,
  identity: Type.Array(closed({ field: text, value: text })),
  snapshotList: Type.Array(VmSnapshot),
});

export type Vm = Static<typeof Vm>;
export type VmDetails = Static<typeof VmDetails>;
export type VmSnapshot = Static<typeof VmSnapshot>;

export function vmRoutes(api: Api, { operations }: AgentParts): void {
  api.post(
    '/v1/vms',
    {
      schema: {
        tags,
        summary: 'Make a virtual machine of volumes and a configuration',
        body: CreateVm,
        response: { 201: VmDetails, default: ErrorAnswer },
      },
    },
    async ({ body: { name, config, disks } }, reply) =>
      reply.status(201).send((await operations.vms.create(name, config, disks)) as VmDetails),
  );

  api.get(
    '/v1/vms',
    {
      schema: {
        tags,
        summary: 'List virtual machines',
        response: { 200: Type.Array(Vm), default: ErrorAnswer },
      },
    },
    async () => operations.vms.list() as Vm[],
  );

  api.get(
    '/v1/vms/:name',
    {
      schema: {
        tags,
        summary: 'Show a virtual machine with its configuration',
        params: VmParams,
        response: { 200: VmDetails, default: ErrorAnswer },
      },
    },
    async ({ params }) => operations.vms.show(params.name) as VmDetails,
  );

  api.delete(
    '/v1/vms/:name',
    {
      schema: {
        tags,
        summary: 'Delete a virtual machine and its snapshots; its volumes stay',
        params: VmParams,
        querystring: DeleteVmQuery,
        response: { 204: Type.Null(), default: ErrorAnswer },
      },
    },
    async ({ params, query }, reply) => {
      await operations.vms.delete(params.name, { withDisks: query.with_disks ?? false });
      return reply.status(204).send(null);
    },
  );

  api.post(
    '/v1/vms/:name/snapshots',
    {
      schema: {
        tags,
        summary: 'Take a snapshot of all its disks in one instant, with its configuration',
        params: VmParams,
        body: CreateVmSnapshot,
        response: { 201: VmSnapshot, default: ErrorAnswer },
      },
    },
    async ({ params, body: { name, ...options } }, reply) =>
      reply.status(201).send(await operations.vms.snapshot(params.name, name, options)),
  );

  api.delete(
    '/v1/vms/:name/snapshots/:snapshot',
    {
      schema: {
        tags,
        summary: 'Delete a snapshot of a virtual machine, with those of its disks',
        params: VmSnapshotParams,
        response: { 204: Type.Null(), default: ErrorAnswer },
      },
    },
    async ({ params }, reply) => {
      await operations.vms.deleteSnapshot(params.name, params.snapshot);
      return reply.status(204).send(null);
    },
  );
}
