// What of a journal counts. Pure: entries and what LevelDB knows go in, a plan comes out; recover.ts carries it out.
// Rules of DESIGN section 5 "Recovery" and HAZARDS J1 to J15:
// * at or below a line's `applied`, and lines LevelDB does not know: skipped;
// * a FAILED entry voids the line's entries between its `after` and itself, whatever the incarnation;
// * same incarnation: the rest counts; else only up to the line's last commit record or cut;
// * a cut of the version that is still the current one in LevelDB is completed, in order; others were there before;
// * entries of a version whose cut is missing fold into the current one.

export interface CutMemberSeen {
  line: number;
  version: number;
  upTo: bigint;
  snapshotId: Uint8Array;
  name: string;
}

/** As the treaty's JournalEntry (model imports nothing but base). */
export type SeenEntry =
  | {
      kind: 'own';
      position: bigint;
      line: number;
      version: number;
      window: bigint;
      start: number;
      count: number;
      slot: bigint;
    }
  | {
      kind: 'zero';
      position: bigint;
      line: number;
      version: number;
      window: bigint;
      start: number;
      count: number;
    }
  | { kind: 'cut-off'; position: bigint; line: number; version: number; first: bigint; end: bigint | null }
  | { kind: 'commit'; position: bigint; line: number; upTo: bigint }
  | { kind: 'cut'; position: bigint; members: CutMemberSeen[] }
  | { kind: 'failed'; position: bigint; line: number; after: bigint };

export type ChangeEntry = Extract<SeenEntry, { kind: 'own' | 'zero' | 'cut-off' }>;

/** What LevelDB knows of a line before the replay. */
export interface KnownLine {
  /** Null: no current version (its container is being deleted). */
  current: number | null;
  live: readonly number[];
  applied: bigint;
  /** Its container has failed: what comes after this position is void. */
  voidAfter?: bigint;
}

export interface ReplayPlan {
  /** Snapshots to complete, in order. */
  cuts: CutMemberSeen[];
  /** Changes per line, in order of position, `version` being the one they go to. */
  changes: Map<number, ChangeEntry[]>;
  /** Lines with a FAILED entry: the last position that counts, of the newest one. */
  failed: Map<number, bigint>;
  /** The last position a commit record or a cut speaks for, of lines that have one. */
  committed: Map<number, bigint>;
  /** Entries seen of known lines that were changes and neither counted nor were applied. */
  void: number;
  counted: number;
}

interface LineState {
  applied: bigint;
  current: number | null;
  live: Set<number>;
  committed: bigint;
  voids: { after: bigint; before: bigint | null }[];
}

export function planReplay(
  entries: readonly SeenEntry[],
  known: (line: number) => KnownLine | undefined,
  mode: { sameIncarnation: boolean },
): ReplayPlan {
  const plan: ReplayPlan = {
    cuts: [],
    changes: new Map(),
    failed: new Map(),
    committed: new Map(),
    void: 0,
    counted: 0,
  };
  const lines = new Map<number, LineState | null>();
  const stateOf = (line: number): LineState | null => {
    let state = lines.get(line);
    if (state === undefined) {
      state = newState(known(line));
      lines.set(line, state);
    }
    return state;
  };
  for (const entry of entries) noteBounds(entry, stateOf, plan);
  for (const [line, state] of lines) if (state) plan.committed.set(line, state.committed);
  for (const entry of entries) {
    if (entry.kind !== 'own' && entry.kind !== 'zero' && entry.kind !== 'cut-off') continue;
    const state = stateOf(entry.line);
    if (!state || entry.position <= state.applied) continue;
    const version = counts(entry.position, state, mode.sameIncarnation)
      ? versionFor(entry.version, state)
      : null;
    if (version === null) {
      plan.void++;
      continue;
    }
    plan.counted++;
    const changes = plan.changes.get(entry.line);
    const change = version === entry.version ? entry : { ...entry, version };
    if (changes) changes.push(change);
    else plan.changes.set(entry.line, [change]);
  }
  return plan;
}

function newState(known: KnownLine | undefined): LineState | null {
  if (!known) return null;
  return {
    applied: known.applied,
    current: known.current,
    live: new Set(known.live),
    committed: -1n,
    voids: known.voidAfter === undefined ? [] : [{ after: known.voidAfter, before: null }],
  };
}

/** First pass: commits, cuts and FAILED entries, which say what the others are worth. */
function noteBounds(entry: SeenEntry, stateOf: (line: number) => LineState | null, plan: ReplayPlan): void {
  if (entry.kind === 'commit') {
    const state = stateOf(entry.line);
    if (state && entry.upTo > state.committed) state.committed = entry.upTo;
  } else if (entry.kind === 'failed') {
    const state = stateOf(entry.line);
    if (!state) return;
    state.voids.push({ after: entry.after, before: entry.position });
    if (entry.position > state.applied) plan.failed.set(entry.line, entry.after);
  } else if (entry.kind === 'cut') {
    for (const member of entry.members) {
      const state = stateOf(member.line);
      if (!state) continue;
      if (member.upTo > state.committed) state.committed = member.upTo;
      if (state.current !== member.version || entry.position <= state.applied) continue;
      plan.cuts.push(member);
      state.current = member.version + 1;
      state.live.add(state.current);
    }
  }
}

function counts(position: bigint, state: LineState, sameIncarnation: boolean): boolean {
  if (state.voids.some(({ after, before }) => position > after && (before === null || position < before)))
    return false;
  return sameIncarnation || position <= state.committed;
}

/** The live version an entry goes to. Null: a dead one, which rounds before every merge make impossible. */
function versionFor(version: number, state: LineState): number | null {
  if (state.live.has(version)) return version;
  return state.current !== null && version > state.current ? state.current : null;
}
