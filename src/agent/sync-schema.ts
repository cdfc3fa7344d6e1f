// The control API's values of syncs, and of the identity they keep.

import { type Static, Type } from '@sinclair/typebox';
import { closed, nullable, oneOf, Time, titled } from './schema-parts.js';

const Rule = closed({
  field: Type.String({
    description:
      '[PLACE/]GROUP, KIND or `all`, and perhaps .FIELD: `fs`, `ext4.uuid`, `partition-2/fs.label`.',
  }),
  policy: Type.Union([Type.Literal('keep'), Type.Literal('take'), Type.Literal('new')]),
});

const flag = (description: string) => Type.Optional(Type.Boolean({ description }));

const syncOptions = {
  identity: Type.Optional(Type.Array(Rule, { description: 'The last that matches a field counts.' })),
  online: flag('Clients stay connected and are held: for those that cache nothing.'),
  force: flag('Close the connections of clients first.'),
  safety: flag('Keep the state before as a snapshot for 24 h, to undo it; on by default.'),
  take_keys: flag('The key slots of an encrypted source may come along.'),
  guest_identity: flag('Machine id, host name and SSH host keys on the boot disk survive.'),
};

export const SyncBody = closed({
  target: Type.String({ description: 'The volume that takes the state.' }),
  from: Type.String({ description: 'VOLUME@SNAPSHOT; of the target itself: a restore.' }),
  ...syncOptions,
  grow: flag('Take the size of a larger source.'),
  disks: Type.Optional(
    Type.Array(closed({ source: Type.String(), target: Type.String() }), {
      minItems: 1,
      description:
        'Of a VM: only these pairs of slots, and not its configuration. Else all that pair by slot.',
    }),
  ),
  boot: Type.Optional(
    Type.String({ description: "Slot of the target's boot disk, when a list of pairs has it." }),
  ),
  files: flag('Of a VM, without a list: its files too, such as firmware variables.'),
  dry_run: flag('Only say what would become of the identity.'),
});
export const UndoBody = closed({ target: Type.String(), ...syncOptions });
export const SyncParams = closed({ id: Type.Integer({ minimum: 1, description: 'Number of the sync.' }) });

const text = Type.String();
const Reported = closed({
  field: Type.String({ description: 'As rules name it: `partition-2/fs.uuid`.' }),
  kind: text,
  target: nullable(text),
  source: nullable(text),
  now: nullable(text),
  policy: oneOf(['keep', 'take', 'new']),
  reason: nullable(text),
});
const Captured = closed({ field: text, kind: text, value: text });
const Damaged = closed({ disk: oneOf(['target', 'content']), where: text, kind: text, reason: text });

export const IdentityReport = titled('IdentityReport', {
  boot: nullable(Type.String({ description: 'Why the content is that of a boot disk.' })),
  captured: Type.Array(Captured, { description: 'What the target had.' }),
  overwritten: Type.Array(Reported, { description: 'Replaced by the content of the source.' }),
  restored: Type.Array(Reported, { description: 'Put back.' }),
  unsupported: Type.Array(Reported, { description: 'Ought to be put back and was not, with the reason.' }),
  skipped: Type.Array(Reported, { description: "The source's, by policy." }),
  foreign: Type.Array(Reported, { description: "The source's, as the target had none." }),
  fresh: Type.Array(Reported, { description: 'Newly made.' }),
  same: Type.Array(Reported),
  gone: Type.Array(Captured, { description: 'Of the target, without a place in the content.' }),
  damaged: Type.Array(Damaged),
  notes: Type.Array(text),
});

const GuestFile = closed({ path: text, digest: Type.String({ description: 'SHA-256 of the content.' }) });
const GuestReport = titled('GuestReport', {
  restored: Type.Array(GuestFile),
  same: Type.Array(GuestFile),
  foreign: Type.Array(text, { description: "The source's, which the target had not." }),
  rewritten: Type.Array(text, {
    description: 'In which ids that were kept took the place of those of the source.',
  }),
  unsupported: Type.Array(closed({ path: text, reason: text })),
});

const ConfigReport = titled('ConfigReport', {
  restored: Type.Array(closed({ field: text, target: text, source: nullable(text) })),
  same: Type.Array(text),
  missing: Type.Array(closed({ field: text, target: text }), {
    description: 'Of the target, without a place in the document.',
  }),
  foreign: Type.Array(closed({ field: text, source: text }), {
    description: 'Of the source, which the target has not: they stay.',
  }),
  notes: Type.Array(text),
});

export const Sync = titled('Sync', {
  id: nullable(Type.Integer({ description: 'null: a dry run.' })),
  kind: oneOf(['sync', 'restore', 'undo']),
  phase: oneOf(['planned', 'captured', 'rebased', 'restored', 'done', 'undone']),
  target: text,
  disks: Type.Array(
    closed({
      target: text,
      from: Type.String({ description: 'VOLUME@SNAPSHOT' }),
      identity: nullable(IdentityReport),
      guest: nullable(GuestReport),
    }),
  ),
  config: nullable(ConfigReport),
  created: Time,
  ended: nullable(Time),
  safety: Type.Array(Type.String({ description: 'Undo points that are still there.' })),
  error: nullable(Type.String({ description: 'Why it was undone.' })),
  heldMs: nullable(Type.Number({ description: 'How long clients were held.' })),
});

export const FoundIdentity = titled('FoundIdentity', {
  boot: nullable(text),
  fields: Type.Array(Captured),
  unsupported: Type.Array(closed({ field: text, kind: text, reason: text })),
  damaged: Type.Array(closed({ where: text, kind: text, reason: text })),
  notes: Type.Array(text),
});

export type Sync = Static<typeof Sync>;
export type IdentityReport = Static<typeof IdentityReport>;
export type FoundIdentity = Static<typeof FoundIdentity>;
