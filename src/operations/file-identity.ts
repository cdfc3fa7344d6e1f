// The identity of a file that lies in its record: name, id, owner, group, mode, extended attributes, birth. No sync touches it; each one
// says so in its report, and looks before its end whether it is true.
// Invariant: a sync whose file has another identity than before does not end well. A rename is no such thing: it may come at any time.

import { CellblockError } from '../base/errors.js';
import type { CapturedField, IdentityReport, ReportedField } from '../identity/report.js';
import type { Container } from '../model/entities.js';
import type { RecordedDisk } from './disk-identity.js';
import type { SyncIdentity } from './sync-types.js';

const KIND = 'file';
const NAME = `record/${KIND}.name`;

/** None of what is no file. The time of modification is no identity: it advances. */
export function attributeFields({ name, id, attributes }: Container): CapturedField[] {
  if (!attributes) return [];
  const { owner, group, mode, birth, xattrs } = attributes;
  const values = { name, id, owner, group, mode: mode.toString(8).padStart(4, '0'), birth };
  const extended = Object.entries(xattrs).map(([key, value]) => [`xattr/${key}`, value] as const);
  return [...Object.entries(values), ...extended].map(([field, value]) => {
    return { field: `record/${KIND}.${field}`, kind: KIND, value: String(value) };
  });
}

/** The identity of the content, and that of the records of these containers, one for each disk in their order. */
export function withAttributes(identity: SyncIdentity, containers: readonly Container[]): SyncIdentity {
  if (!containers.some(({ attributes }) => attributes)) return identity;
  const before = containers.map(attributeFields);
  return {
    async capture(disks) {
      const { captured, restore } = await identity.capture(disks);
      return {
        captured: { content: captured, records: before },
        restore: async (disks) => {
          const restored = (await restore(disks)) as readonly RecordedDisk[];
          return restored.map((disk, index) => {
            return { ...disk, report: withFields(disk.report, before[index]!) };
          });
        },
      };
    },
    async verify(disks, restored) {
      await identity.verify(disks, restored);
      for (const [index, container] of containers.entries()) assertSame(container, before[index]!);
    },
  };
}

function withFields(report: IdentityReport, fields: readonly CapturedField[]): IdentityReport {
  const same = fields.map(({ field, kind, value }): ReportedField => {
    return { field, kind, target: value, source: null, now: value, policy: 'keep', reason: null };
  });
  return { ...report, captured: [...fields, ...report.captured], same: [...same, ...report.same] };
}

function assertSame(container: Container, before: readonly CapturedField[]): void {
  const now = new Map(attributeFields(container).map(({ field, value }) => [field, value]));
  const other = before.find(({ field, value }) => field !== NAME && now.get(field) !== value);
  if (other === undefined && now.size === before.length) return;
  throw new CellblockError(
    'identity-not-restored',
    `The attributes of ${JSON.stringify(container.name)} changed during the sync (${other?.field ?? 'there are more'}).`,
    { hint: 'It was put back as it was. Sync it again.' },
  );
}
