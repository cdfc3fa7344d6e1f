// What the hosts of a snapshot of several volumes are asked, and what is made of their answers.

import type { Head } from '../model/cell/route.js';
import type { GroupOutcome, GroupStep } from '../protocol/exchange.js';
import { askHost } from './asking.js';
import type { Ports } from './ports.js';
import type { RouteBook } from './route-book.js';
import type { GroupRecord } from './store.js';

export type Member = GroupRecord['members'][number];
export type Said = Extract<GroupOutcome, { kind: 'done' }>;

/** What hosts have published of a group; `lost`: volumes that do not have the snapshot, and never will. */
export interface Told {
  published: { volume: string; head: Head }[];
  lost: string[];
}

/** What one host made of a step; a sentence: why it has not done it, and the code of that if it says so itself. */
export type Answer = { host: string; said: Said } | { host: string; because: string; code?: string };

/** A host has published what is dropped here. */
export class PublishedAlready extends Error {}

const NOTHING: Told = { published: [], lost: [] };

export class GroupHosts {
  readonly #parts: Ports & { book: RouteBook };

  constructor(parts: Ports & { book: RouteBook }) {
    this.#parts = parts;
  }

  async ask({ id }: GroupRecord, host: string, step: GroupStep): Promise<Answer> {
    const { hosts, settings } = this.#parts;
    if (!hosts.isConnected(host)) return { host, because: `${host} is not connected` };
    const asked = await hosts.group(host, { group: id, step }, settings.commandMs);
    if (asked.kind === 'silent') return { host, because: `${host} does not answer` };
    if (asked.kind === 'failed') return { host, because: `${host}: ${asked.message}` };
    const { outcome } = asked.reply;
    return outcome.kind === 'done'
      ? { host, said: outcome }
      : { host, because: `${host}: ${outcome.message}`, code: outcome.code };
  }

  /** Null: it has to be asked again. */
  async madeOf(group: GroupRecord, answer: Answer): Promise<Told | null> {
    const code = 'code' in answer ? answer.code : null;
    if (group.decision === 'drop') {
      if (code === 'group-published-already') throw new PublishedAlready(answer.host);
      return 'said' in answer ? NOTHING : null;
    }
    // By a coordinator that knew less.
    if (code === 'group-dropped-already') return this.#published(group, answer.host, { heads: [] });
    return 'said' in answer ? this.#published(group, answer.host, answer.said) : null;
  }

  /** What it has published; what it does not say is looked for in its lineages. Null: it cannot be said yet. */
  async #published(group: GroupRecord, host: string, { heads }: Pick<Said, 'heads'>): Promise<Told | null> {
    const told: Told = { published: [], lost: [] };
    const lost: { member: Member; because: string }[] = [];
    for (const member of group.members.filter((each) => each.host === host)) {
      const { volume } = member;
      const said = heads.find((each) => each.volume === volume)?.head;
      const found = said ? { head: said } : await this.inLineage(member);
      if (found === null) return null;
      if (found.head) told.published.push({ volume, head: found.head });
      if (!found.head) lost.push({ member, because: 'its host does not have it any more' });
      else if (await this.#isGivenUp(member)) lost.push({ member, because: 'its host has lost its place' });
    }
    for (const { member, because } of lost) {
      const { volume, snapshot } = member;
      told.lost.push(volume);
      this.#parts.log.error(
        { event: 'group-member-lost', group: group.id, host, volume, snapshot, because },
        'a volume does not have its part of a group that was published',
      );
    }
    return told;
  }

  /** Null: the host does not say; without a head: it is not in its lineage. */
  async inLineage({ volume, host, snapshot }: Member): Promise<{ head: Head | null } | null> {
    const answer = await askHost(this.#parts, host, { volume, seqs: [] });
    if (!answer) return null;
    const seq = Object.entries(answer.lineage).find(([, id]) => id === snapshot)?.[0];
    return { head: seq === undefined ? null : { id: snapshot, seq: Number(seq) } };
  }

  /** Whether an operator lets the volume go on elsewhere, without what this host has of it. */
  async #isGivenUp({ volume, host }: Member): Promise<boolean> {
    const alternate = (await this.#parts.book.route(volume))?.alternate;
    return alternate?.primary === host && alternate.needsRepair;
  }
}
