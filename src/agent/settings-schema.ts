// Settings of volumes in the control API: limits and transaction logs, as they are given and as they are shown.

import { type Static, Type } from '@sinclair/typebox';
import type { Limits } from '../model/volume-settings.js';
import { MAX_BANDWIDTH, MAX_IOPS } from '../model/volume-settings.js';
import type { SettingChanges } from '../operations/volume-settings.js';
import { Bytes, closed, nullable } from './schema-parts.js';

const Count = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_IOPS, description }));
const Quantity = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: Number(MAX_BANDWIDTH), description }));

export const LimitsInput = closed(
  {
    iops: Count('Requests a second; flushes are not counted.'),
    iops_burst: Count("Requests at once; a tenth of a second's when it is not given."),
    bandwidth: Quantity('Bytes a second of reads and writes.'),
    bandwidth_burst: Quantity("Bytes at once; a tenth of a second's when it is not given."),
  },
  { description: 'Of all clients of the volume together. What is not given, or 0, is no limit.' },
);

export const TransactionLogInput = closed(
  {
    file: Type.String({ description: 'Name of the file in the directory of the agent for such logs.' }),
    data: Type.Optional(Type.Boolean({ description: 'With the data of writes.' })),
  },
  { description: "Log of what clients ask, in nbd-server's format." },
);

/** Parts of a request that changes a volume. */
export const settingInputs = {
  limits: Type.Optional(nullable(LimitsInput)),
  transaction_log: Type.Optional(nullable(TransactionLogInput)),
};

/** Parts of an answer about a volume. */
const LimitsShown = closed({
  iops: Type.Integer(),
  iopsBurst: Type.Integer(),
  bandwidth: Bytes,
  bandwidthBurst: Bytes,
});
export const settingProperties = {
  // Not one of two schemas: the serialiser chooses by validating, and takes no bigint for an integer then.
  limits: Type.Unsafe<Static<typeof LimitsShown> | null>({ ...LimitsShown, nullable: true }),
  transactionLog: nullable(
    closed({
      file: Type.String(),
      data: Type.Boolean({ description: 'With the data of writes.' }),
      lost: nullable(
        Type.String({
          description: 'Why it is not written (errno or code); null: it is, while the volume is open.',
        }),
      ),
    }),
  ),
};

export function limitsOf(input: Static<typeof LimitsInput>): Limits {
  return {
    iops: input.iops ?? 0,
    iopsBurst: input.iops_burst ?? 0,
    bandwidth: BigInt(input.bandwidth ?? 0),
    bandwidthBurst: BigInt(input.bandwidth_burst ?? 0),
  };
}

interface SettingInputs {
  limits?: Static<typeof LimitsInput> | null | undefined;
  transaction_log?: Static<typeof TransactionLogInput> | null | undefined;
}

/** Null: nothing of it is to be changed. */
export function settingChangesOf({ limits, transaction_log: log }: SettingInputs): SettingChanges | null {
  if (limits === undefined && log === undefined) return null;
  return {
    ...(limits === undefined ? {} : { limits: limits && limitsOf(limits) }),
    ...(log === undefined ? {} : { transactionLog: log && { file: log.file, data: log.data === true } }),
  };
}
