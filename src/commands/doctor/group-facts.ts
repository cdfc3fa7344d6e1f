// The group whose members may use the agent, and whether the caller is in it.

import { join } from 'node:path';
import type { GroupFacts, Maybe } from './facts.js';
import { type Sources, textOf } from './sources.js';

/** getent(1) knows groups that are not in /etc/group; there is not always one. */
export async function groupFacts({ run, roots, user }: Sources, name: string): Promise<Maybe<GroupFacts>> {
  const asked = await run('getent', ['group', name]);
  const text = asked === null ? await textOf(join(roots.etc, 'group')) : asked.stdout;
  if (text === null) return { unknown: 'the list of groups cannot be read' };
  const entry = text
    .split('\n')
    .map((line) => line.split(':'))
    .find(([found]) => found === name);
  if (entry === undefined) return { name, exists: false, listed: false, held: false };
  const [, , gid, members = ''] = entry;
  return {
    name,
    exists: true,
    listed: members.split(',').includes(user.name),
    held: user.groups.includes(Number(gid)),
  };
}
