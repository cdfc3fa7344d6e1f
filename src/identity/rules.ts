// The rules by which people say what becomes of a field: `fs.uuid=new`, `partition-2/fs=take`, `all=keep`.
//
//   [PLACE/]SUBJECT[.FIELD]   PLACE: disk, partition-N    SUBJECT: all, a group (fs, disk...), a kind (ext4, gpt...)    FIELD: uuid, label...
//
// A field of several parts (`lv/data/uuid`) is meant by all of it or by its last part.
//
// Invariant: a pattern that could never match anything anywhere is refused, so a slip of the pen does not change an identity in silence.

import { CellblockError } from '../base/errors.js';
import type { DiskIdentity } from './disk.js';
import type { Field, FieldGroup } from './kind.js';
import { groupsByKind } from './kind-names.js';

export type Policy = 'keep' | 'take' | 'new';

export interface IdentityRule {
  /** A pattern as above; upper and lower case are the same. */
  readonly field: string;
  readonly policy: Policy;
}

/** What a pattern is held against. */
export interface FieldName {
  /** `disk`, `partition-2`. */
  readonly place: string;
  /** All names of the kind, in lower case: `ext4`, `ext`. */
  readonly kinds: readonly string[];
  readonly group: FieldGroup;
  /** The field's name: `uuid`, `lv/data/uuid`. */
  readonly field: string;
}

export type Matcher = (name: FieldName) => boolean;

/** The words there are, whatever is on the disks at hand. */
const GROUP_WORDS: Record<FieldGroup, readonly string[]> = {
  disk: ['disk-guid', 'signature'],
  partition: ['guid', 'name'],
  fs: ['uuid', 'label', 'serial'],
  swap: ['uuid', 'label'],
  luks: ['uuid', 'label'],
  md: ['uuid', 'name'],
  lvm: ['pv-uuid', 'vg-uuid', 'vg-name', 'uuid'],
  image: ['cid', 'uuid', 'long-content-id'],
  vm: ['name', 'uuid', 'mac'],
};
const TABLE_GROUPS: readonly [string, FieldGroup][] = [
  ['gpt', 'disk'],
  ['gpt', 'partition'],
  ['mbr', 'disk'],
];
const PATTERN = /^(?:(disk|partition-[1-9]\d*)\/)?([^./=\s]+)(?:\.([^=\s]+))?$/;
const ALL = 'all';

/** `uuid` of `uuid`, `guid` of `partition/2048:.../guid`. */
export function wordOf({ name }: Pick<Field, 'name'>): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

/** Words by subject: those that are always known, and those that the disks at hand have besides. */
export type Vocabulary = ReadonlyMap<string, ReadonlySet<string>>;

export function vocabularyOf(...disks: readonly DiskIdentity[]): Vocabulary {
  const words = new Map<string, Set<string>>();
  const add = (subject: string, word: string): void => {
    for (const one of [subject.toLowerCase(), ALL]) words.set(one, (words.get(one) ?? new Set()).add(word));
  };
  for (const [group, names] of Object.entries(GROUP_WORDS)) for (const word of names) add(group, word);
  for (const [kind, group] of [...TABLE_GROUPS, ...groupsByKind()])
    for (const word of GROUP_WORDS[group]) add(kind, word);
  for (const { family, found } of disks.flatMap(({ parts }) => parts))
    for (const field of found.fields)
      for (const subject of [family, found.kind, field.group]) add(subject, wordOf(field));
  return words;
}

/** Throws `identity-invalid` for a pattern that could match nothing, with what there is. */
export function matcherOf(pattern: string, vocabulary: Vocabulary): Matcher {
  const parts = PATTERN.exec(pattern.toLowerCase());
  if (parts === null)
    throw unknown(pattern, 'a pattern is [PLACE/]SUBJECT[.FIELD], like fs.uuid or partition-2/fs');
  const [, place, subject = '', word] = parts;
  const words = vocabulary.get(subject);
  if (words === undefined) throw unknown(pattern, `subjects are ${[...vocabulary.keys()].sort().join(', ')}`);
  if (word !== undefined && !words.has(wordOf({ name: word })))
    throw unknown(pattern, `fields of ${subject} are ${[...words].sort().join(', ')}`);
  return (name) =>
    (place === undefined || place === name.place) &&
    (subject === ALL || subject === name.group || name.kinds.includes(subject)) &&
    (word === undefined || word === wordOf({ name: name.field }) || word === name.field.toLowerCase());
}

function unknown(pattern: string, what: string): CellblockError {
  return new CellblockError('identity-invalid', `No field can match ${JSON.stringify(pattern)}: ${what}.`, {
    hint: 'Name fields as `cellblock identity show` prints them.',
  });
}
