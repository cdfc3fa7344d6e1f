// What `store check` can find: a closed table of codes, and the list of what it did find.
// Invariant: a code never changes its meaning (docs/operations/check.md has the same list; a test compares them).

export type Severity = 'error' | 'warning';

/** Append only. `means` and `todo` are one sentence each. */
export const FINDING_CODES = {
  'metadata-missing': [
    'error',
    'The store has no metadata directory.',
    'Give the directory of a store, or restore `metadata` from a copy.',
  ],
  'metadata-unopenable': [
    'error',
    'LevelDB cannot open the metadata.',
    'Restore `metadata` from a copy; the data in `extents` is of no use without it.',
  ],
  'metadata-unreadable': [
    'error',
    'A part of the metadata cannot be read; what lies behind it was not checked.',
    'Check the disk, and restore `metadata` from a copy.',
  ],
  'store-record-missing': [
    'error',
    'The metadata does not say which store it belongs to.',
    'Restore `metadata` from a copy.',
  ],
  'store-record-damaged': [
    'error',
    'The record that says what the store is cannot be understood.',
    'Restore `metadata` from a copy.',
  ],
  'store-newer': [
    'error',
    'The store has a newer format than this program knows.',
    'Use a newer version of cellblock.',
  ],
  'key-unknown': [
    'error',
    'A key of the metadata is of no known kind.',
    'Check the disk; export what matters and make the store anew.',
  ],
  'record-damaged': [
    'error',
    'A record of a volume, line, snapshot or file cannot be understood.',
    'Restore `metadata` from a copy.',
  ],
  'record-misplaced': [
    'error',
    'A record stands under the key of another.',
    'Restore `metadata` from a copy.',
  ],
  'counter-behind': [
    'error',
    'A number in use is not below the counter it was taken from: it could be given out again.',
    'Do not write to this store; export what matters and make it anew.',
  ],
  'container-invalid': [
    'error',
    'A volume has a name or size that is not allowed.',
    'Export the volume, delete it, and import it again.',
  ],
  'container-name-taken': ['error', 'Two volumes have the same name.', 'Rename one of them.'],
  'container-line-missing': [
    'error',
    'A volume has no map.',
    'Delete the volume, and restore it from a backup.',
  ],
  'container-state-wrong': [
    'error',
    'The versions of a volume contradict its state (live or being deleted).',
    'Export what still reads, and restore the store from a copy.',
  ],
  'container-without-file': [
    'error',
    'A volume has no extents file it could write to.',
    'Export the volume and import it again.',
  ],
  'line-container-missing': [
    'error',
    'A map belongs to a volume that is not there.',
    'Export what still reads, and restore the store from a copy.',
  ],
  'line-empty': ['warning', 'A map has no versions and should be gone.', 'Nothing; it takes no space.'],
  'base-missing': [
    'error',
    'A map continues a version that is not there: what was read from it is lost.',
    'Restore the volume from a backup.',
  ],
  'base-cycle': ['error', 'Maps continue one another in a circle.', 'Restore the store from a copy.'],
  'sync-invalid': [
    'error',
    'A sync that was interrupted names maps that are not there: it can be neither finished nor undone.',
    'Restore the store from a copy.',
  ],
  'vm-member-missing': [
    'error',
    'A virtual machine names a volume that is not there, or that another one has.',
    'Delete the virtual machine and make it again of what is there.',
  ],
  'vm-snapshot-strange': [
    'warning',
    'A snapshot is kept of a virtual machine that is not there.',
    'Nothing is lost by it; snapshots of its volumes can be used by themselves.',
  ],
  'line-left-open': [
    'error',
    'A map that its volume does not use any more is not ended, and no sync says why.',
    'Restore the store from a copy.',
  ],
  'version-order-wrong': [
    'error',
    'The versions of a map are named twice, or the current one is not the last.',
    'Restore the store from a copy.',
  ],
  'cut-off-malformed': [
    'error',
    'A cut-off has an empty range, overlaps another of its version, or names a version that is not live.',
    'Check the volume against a backup.',
  ],
  'snapshot-line-missing': [
    'error',
    'A snapshot names a map or a volume that is not there.',
    'Delete the snapshot.',
  ],
  'snapshot-invalid': [
    'error',
    'A snapshot has a name, size or id that is not allowed, or a name twice.',
    'Delete the snapshot.',
  ],
  'applied-unknown': [
    'warning',
    'A journal position is kept for a map that is not there.',
    'Nothing; it is not used.',
  ],
  'window-key-malformed': [
    'error',
    'The key of a window record cannot be understood.',
    'Check the volumes against a backup.',
  ],
  'window-record-damaged': [
    'error',
    'A window record is damaged (checksum, format or contents): its blocks cannot be read.',
    'Restore the volume or snapshot from a backup.',
  ],
  'window-record-empty': [
    'warning',
    'A window record says nothing and should be gone.',
    'Nothing; it takes no space.',
  ],
  'window-line-unknown': [
    'error',
    'A window record belongs to a map that is not there: what it names is lost or leaked.',
    'Check the volumes against a backup.',
  ],
  'window-version-dead': [
    'error',
    'A window record belongs to a version that is not live: readers may find it by mistake.',
    'Check the volume against a backup.',
  ],
  'window-region-missing': [
    'error',
    'A window record lies where its map says that it has none: readers may not find it.',
    'Check the volume against a backup.',
  ],
  'window-beyond-end': [
    'warning',
    'The current map has a record behind the end of the volume.',
    'Nothing; it is not read.',
  ],
  'slot-file-unknown': [
    'error',
    'A window record names an extents file that is not known.',
    'Restore the volume or snapshot from a backup.',
  ],
  'slot-file-dropping': [
    'error',
    'A window record names an extents file that is being removed.',
    'Stop the agent, copy the file, and restore the store from a copy.',
  ],
  'slot-file-unmarked': [
    'error',
    'A record of another volume names a file that is not marked so: it could be removed too early.',
    'Do not delete volumes; export what matters and make the store anew.',
  ],
  'own-slot-foreign': [
    'error',
    'A volume would write into the extents file of another.',
    'Export both volumes and import them again.',
  ],
  'block-owned-twice': [
    'error',
    'Two records name the same block of a file: what one writes the other reads.',
    'Check both against a backup.',
  ],
  'punch-damaged': [
    'error',
    'A pending punch is damaged; the agent does not start with it.',
    'Restore the store from a copy.',
  ],
  'punch-file-unknown': [
    'warning',
    'A pending punch names an extents file that is not known.',
    'Nothing; there is nothing to free.',
  ],
  'punch-live': [
    'error',
    'A pending punch would destroy a block that a record names.',
    'Do not start the agent; copy the store and check the volume.',
  ],
  'extents-missing': [
    'error',
    'An extents file that records name is not there.',
    'Put the file back, or restore its volumes from a backup.',
  ],
  'extents-short': [
    'error',
    'An extents file ends before blocks that records name: they read as zero.',
    'Put the file back, or restore its volumes from a backup.',
  ],
  'extents-unreadable': [
    'error',
    'The extents files cannot be looked at.',
    'Check the disk and the permissions.',
  ],
  'extents-orphan': [
    'warning',
    'An extents file is not known to the metadata.',
    'The leak sweep removes what is older than the newest known file; else remove it when the store is clean.',
  ],
  'extents-stranger': [
    'warning',
    'The directory of extents files holds something else.',
    'Move it elsewhere.',
  ],
  'extents-unneeded': [
    'warning',
    'An extents file belongs to no volume and no record names it.',
    'Nothing; it is removed a minute after the next delete, or by the leak sweep.',
  ],
  'journal-missing': [
    'error',
    'The journal is not there although the store was not stopped cleanly: the last changes are lost.',
    'Put the file `journal` back, or restore the store from a copy.',
  ],
  'journal-damaged': [
    'error',
    'The header of the journal cannot be understood, or the file is too short.',
    'Put the file `journal` back, or restore the store from a copy.',
  ],
  'journal-newer': [
    'error',
    'The journal has a newer format than this program knows.',
    'Use a newer version of cellblock.',
  ],
  'journal-foreign': ['error', 'The journal belongs to another store.', 'Put the right file `journal` back.'],
  'journal-unreadable': ['error', 'The journal cannot be read.', 'Check the disk and the permissions.'],
  'journal-line-invalid': [
    'error',
    'A journal entry names a map that was never made.',
    'Check the volumes against a backup.',
  ],
  'journal-entry-invalid': [
    'error',
    'A journal entry names blocks or places that cannot be.',
    'Check the volume against a backup.',
  ],
  'journal-version-dead': [
    'error',
    'A journal entry that is still to be replayed names a version that is not live.',
    'Check the volume against a backup.',
  ],
  'store-older': [
    'error',
    'The store has a format from before the first release, which this program does not know.',
    'Export its volumes with the version that made it, and import them into a new store.',
  ],
  'window-unnoted': [
    'error',
    'A window record is missing in the index of written windows: differences and deletes may pass over it.',
    'Export the volume and import it again; do not rely on a difference.',
  ],
  'written-damaged': [
    'error',
    'A part of the index of written windows is damaged; readers take it for full, so nothing is lost.',
    'Check the disk; a part of a current map is made anew when it next grows.',
  ],
  'lineage-container-missing': [
    'error',
    'The record of a volume of a cell names a volume here that is not there, or that another record has.',
    'The volume is not served here: see `cellblock route show`; purge it at this host, or restore the store from a copy.',
  ],
  'lineage-head-unknown': [
    'error',
    'The last snapshot of a lineage, or the one it was sealed at, is not known.',
    'Do not take snapshots of the volume; compare with its other hosts, or restore the store from a copy.',
  ],
  'lineage-hidden-strange': [
    'warning',
    'A hidden snapshot is not there, or no record names it.',
    'Nothing; the next start of the agent removes what nobody needs.',
  ],
  'lineage-id-strange': [
    'warning',
    'Ids of snapshots are kept for a volume that has no record.',
    'Nothing; the next start of the agent removes them.',
  ],
  'group-cut-strange': [
    'error',
    'A snapshot of several volumes that is to be published or dropped lacks a part.',
    'Nothing is lost of the volumes; the volume does not get that snapshot, the others of the group do.',
  ],
  'copy-target-missing': [
    'error',
    'A copy from another host that is under way writes into a volume or a version that is not there, or brings what is here already.',
    'Purge the volume at this host, or turn its move back and begin it again.',
  ],
  'copy-unneeded': [
    'warning',
    'A copy from another host is kept of a volume that is not received here any more.',
    'Nothing; the record goes with the volume.',
  ],
  'written-unneeded': [
    'warning',
    'A part of the index of written windows belongs to no live version.',
    'Nothing; it takes little space.',
  ],
} as const satisfies Record<string, readonly [Severity, string, string]>;

export type FindingCode = keyof typeof FINDING_CODES;

export interface Finding {
  severity: Severity;
  code: FindingCode;
  /** One sentence: where, and what exactly. */
  message: string;
  means: string;
  /** What the operator should do. */
  todo: string;
}

/** Listed of each code; all are counted. */
const LISTED_OF_A_CODE = 100;

export class Findings {
  readonly #onFinding: (finding: Finding) => void;
  #listed: Finding[] = [];
  #counts = new Map<FindingCode, number>();
  /** Told to the listener before: a check that begins anew does not repeat them. */
  readonly #told = new Set<string>();

  constructor(onFinding: (finding: Finding) => void = () => undefined) {
    this.#onFinding = onFinding;
  }

  add(code: FindingCode, message: string): void {
    const count = (this.#counts.get(code) ?? 0) + 1;
    this.#counts.set(code, count);
    if (count > LISTED_OF_A_CODE) return;
    const [severity, means, todo] = FINDING_CODES[code];
    const finding: Finding = { severity, code, message, means, todo };
    this.#listed.push(finding);
    const told = `${code} ${message}`;
    if (this.#told.has(told)) return;
    this.#told.add(told);
    this.#onFinding(finding);
  }

  /** The reading begins anew. */
  reset(): void {
    this.#listed = [];
    this.#counts.clear();
  }

  has(code: FindingCode): boolean {
    return this.#counts.has(code);
  }

  get listed(): Finding[] {
    return this.#listed;
  }

  /** How often each code was found, listed or not. */
  get counts(): Partial<Record<FindingCode, number>> {
    return Object.fromEntries(this.#counts);
  }

  get hasErrors(): boolean {
    return [...this.#counts.keys()].some((code) => FINDING_CODES[code][0] === 'error');
  }
}

/** What a thrown value says, without the part of it that repeats for every record. */
export function reasonOf(error: unknown): string {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at instanceof Error ? at.message.replace(/\.$/, '') : String(at);
}
