// The attributes of a file: what a copy of it has to have besides its content, and what no sync changes but the time of its last one.
// Kept in the container's record; nothing of it is in the content.

/** Permissions with set-user-id, set-group-id and sticky. */
export const MODE_BITS = 0o7777;

export interface FileAttributes {
  /** Numbers of user and group. */
  owner: number;
  group: number;
  /** MODE_BITS of it. */
  mode: number;
  /** Extended attributes: base64 by name. */
  xattrs: Record<string, string>;
  /** ISO 8601: of the file that was imported, or when it was made. */
  birth: string;
  /** ISO 8601: advances when its content is replaced, by an import or a sync. */
  modified: string;
}

/** Throws when it is none. */
export function decodeAttributes(value: unknown): FileAttributes {
  const { owner, group, mode, xattrs, birth, modified } = value as Partial<FileAttributes>;
  const numbers = [owner, group, mode].every((one) => Number.isSafeInteger(one) && (one as number) >= 0);
  const times = [birth, modified].every((one) => typeof one === 'string' && !Number.isNaN(Date.parse(one)));
  const texts = Object.values(xattrs ?? {}).every((one) => typeof one === 'string');
  if (!numbers || !times || !texts) throw new Error('its attributes are none');
  return { owner, group, mode, xattrs: xattrs ?? {}, birth, modified } as FileAttributes;
}

/** ISO 8601. A clock that was set back makes no file older. */
export function laterOf(a: string, b: string): string {
  return new Date(Math.max(Date.parse(a), Date.parse(b))).toISOString();
}

/** Its content was replaced. */
export function modifiedNow(attributes: FileAttributes): FileAttributes {
  return { ...attributes, modified: laterOf(attributes.modified, new Date().toISOString()) };
}

/** Of a new file that is otherwise like this one. */
export function bornNow(attributes: FileAttributes): FileAttributes {
  const now = new Date().toISOString();
  return { ...attributes, birth: now, modified: now };
}
