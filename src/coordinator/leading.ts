// Everything that one term of leading consists of, put together in order. The list is the architecture of the coordinator.

import type { Route } from '../model/cell/route.js';
import type { Admission } from '../protocol/coordinator-effects.js';
import type { Call, HostEvent, Progress } from '../protocol/exchange.js';
import type { Hello } from '../protocol/messages.js';
import { type AdmissionParts, admitHost } from './admission.js';
import { Bases } from './bases.js';
import { carryOutCall, type Verbs } from './calls.js';
import { CellVerbs } from './cell-verbs.js';
import { Claims } from './claims.js';
import { Copies } from './copies.js';
import { DecisionBook } from './decisions.js';
import { Deletion } from './deletion.js';
import { EvidenceBook } from './evidence.js';
import { GroupHosts } from './group-hosts.js';
import { Groups } from './groups.js';
import { Highest } from './highest.js';
import { HostForgetting } from './host-forgetting.js';
import { HostVerbs } from './host-verbs.js';
import { Locks } from './locks.js';
import { MoveVerbs } from './move-verbs.js';
import { Mover } from './mover.js';
import { Operations } from './operations.js';
import { Ownership } from './ownership.js';
import { type Ports, timeOf } from './ports.js';
import { QuarantineVerbs } from './quarantine-verbs.js';
import { quarantined } from './refusals.js';
import { Replication } from './replication.js';
import { Retirement } from './retirement.js';
import { RouteBook } from './route-book.js';
import { RouteVerbs } from './route-verbs.js';
import { SnapshotDeletions } from './snapshot-deletions.js';
import { SnapshotVerbs } from './snapshot-verbs.js';
import { Strays } from './strays.js';
import { type Next, REST, soonest, Tender } from './tender.js';
import type { Term } from './term.js';
import { Troubles, type Why, whyOf } from './troubles.js';
import { UnfinishedGroups } from './unfinished-groups.js';
import { VolumeVerbs } from './volume-verbs.js';

/** What of the store is known by heart. */
interface Known {
  highest: Highest;
  evidence: EvidenceBook;
}

export class Leading {
  readonly #ports: Ports;
  readonly #term: Term;
  readonly #admission: AdmissionParts;
  readonly #book: RouteBook;
  readonly #highest: Highest;
  readonly #copies: Copies;
  readonly #operations: Operations;
  readonly #snapshotDeletions: SnapshotDeletions;
  readonly #bases: Bases;
  readonly #unfinished: UnfinishedGroups;
  readonly #tender: Tender;
  readonly #verbs: Verbs;

  private constructor(ports: Ports, term: Term, { highest, evidence }: Known) {
    const { store } = ports;
    const locks = new Locks();
    const wake = (volume: string) => this.#tender.wake(volume);
    const book = new RouteBook(store, (route) => {
      if (isRestless(route)) wake(route.volume);
      for (const volume of this.#unfinished.heldWith(route.volume)) wake(volume);
    });
    const decisions = new DecisionBook(store);
    const copies = new Copies(ports);
    const troubles = new Troubles(ports.clock);
    const bases = new Bases({ ...ports, copies, wake });
    const snapshotDeletions = new SnapshotDeletions({ ...ports, bases });
    const common = {
      ...ports,
      term,
      book,
      locks,
      highest,
      decisions,
      evidence,
      copies,
      troubles,
      snapshotDeletions,
      bases,
      wake,
    };
    const groupHosts = new GroupHosts(common);
    const unfinished = new UnfinishedGroups({ ...common, groupHosts });
    const ownership = new Ownership({
      ...common,
      whyAwaited: (volume, host) => unfinished.whyAwaited(volume, host),
    });
    const operations: Operations = new Operations({
      ...common,
      settleOwners: (volume) => ownership.settle(volume),
      deletedAtOwner: (route, snapshot) => snapshotDeletions.begin(route, snapshot),
      whyHeld: (volume) => unfinished.whyHeld(volume),
      keepEvidence: (route, { x, y, trials }) =>
        evidence.keep({ volume: route.volume, at: timeOf(ports.clock), route, x, y, trials }),
    });
    const parts = { ...common, operations };
    const deletion = new Deletion(parts);
    const mover = new Mover(parts);
    const replication = new Replication(parts);
    const groups = new Groups({ ...parts, groupHosts, unfinished });
    const moves = new MoveVerbs({ ...parts, mover });
    const strays = new Strays(parts);
    this.#ports = ports;
    this.#term = term;
    this.#admission = common;
    this.#book = book;
    this.#highest = highest;
    this.#copies = copies;
    this.#operations = operations;
    this.#snapshotDeletions = snapshotDeletions;
    this.#bases = bases;
    this.#unfinished = unfinished;
    this.#tender = new Tender({
      ...common,
      step: stepOf(
        { book, unfinished, deletion },
        {
          ownership,
          mover,
          retirement: new Retirement(parts),
          replication,
          snapshotDeletions,
          bases,
        },
      ),
    });
    this.#verbs = {
      cells: new CellVerbs({ ...parts, moves, unfinished }),
      hosts: new HostVerbs({ ...parts, strays, moves, unfinished }),
      forgetting: new HostForgetting(parts),
      strays,
      volumes: new VolumeVerbs({ ...parts, groups, deletion }),
      snapshots: new SnapshotVerbs(parts),
      moves,
      routes: new RouteVerbs({ ...parts, replication }),
      claims: new Claims(parts),
      quarantine: new QuarantineVerbs({ ...parts, unfinished }),
      ports,
    };
  }

  /** Takes up what was left: nobody is admitted before it is known what that is. */
  static async begin(ports: Ports, term: Term): Promise<Leading> {
    const { store } = ports;
    const known = { highest: await Highest.load(store), evidence: await EvidenceBook.load(store) };
    const leading = new Leading(ports, term, known);
    await leading.#unfinished.takeUp();
    await leading.#operations.takeUp();
    const restless = [...(await leading.#snapshotDeletions.takeUp()), ...(await leading.#bases.takeUp())];
    for (const volume of restless) leading.#tender.wake(volume);
    for await (const route of leading.#book.all()) {
      term.check();
      if (isRestless(route)) leading.#tender.wake(route.volume);
    }
    return leading;
  }

  admit(hello: Hello): Promise<Admission> {
    return admitHost(this.#admission, hello);
  }

  async call(host: string, call: Call): Promise<unknown> {
    this.#term.check();
    return carryOutCall(this.#verbs, host, call);
  }

  joined({ host, volumes, groups }: Hello, resumed: boolean): void {
    if (!resumed) this.#copies.joined(host);
    this.#tender.joined(host);
    this.#unfinished.joined(host);
    void this.#unfinished
      .told(host, groups)
      .catch((error) =>
        this.#ports.log.warn(
          { event: 'group-not-stored', host, err: error },
          'a group of which a host has told could not be kept',
        ),
      );
    for (const { id } of volumes) this.#operations.settle(id);
  }

  event(host: string, event: HostEvent): void {
    const { volume, name } = event;
    if (name === 'copy-failed') this.#copies.failed(host, event);
    if (name === 'copy-failed' || name === 'faulted')
      this.#ports.log.warn(
        { event: name, host, volume: volume.id, detail: event.message },
        'a host says that something is wrong with a volume',
      );
    void this.#raise(host, volume).catch((error) =>
      this.#ports.log.warn(
        { event: 'highest-not-stored', host, err: error },
        'what a host said could not be kept',
      ),
    );
    this.#tender.wake(volume.id);
  }

  progress(host: string, progress: Progress): void {
    this.#copies.progressed(host, progress);
  }

  async #raise(host: string, volume: HostEvent['volume']): Promise<void> {
    const changes = this.#highest.raise(host, [volume]);
    if (changes.length > 0) await this.#ports.store.put(changes);
  }
}

/** Something is to be done about it that nobody asks for. */
function isRestless({ status, journal, alternate, active }: Route): boolean {
  return status === 'gone' || journal !== null || alternate !== null || active.replicas.length > 0;
}

/** Nothing is done by itself to what an operator has to decide. */
function whyShut({ name, status }: Route): Why {
  return status === 'quarantined'
    ? whyOf(quarantined(name, 'an operator has to decide'))
    : {
        because: `No cell of its route knows volume ${name}.`,
        hint: `Look at \`cellblock route show ${name} --explain\`; \`cellblock route forget ${name}\` drops the route.`,
      };
}

type Step = { step: (route: Route) => Promise<Next> };

function stepOf(
  { book, unfinished, deletion }: { book: RouteBook; unfinished: UnfinishedGroups; deletion: Step },
  {
    ownership,
    mover,
    retirement,
    replication,
    ...others
  }: Record<'ownership' | 'mover' | 'retirement' | 'replication' | 'snapshotDeletions' | 'bases', Step>,
): (volume: string) => Promise<Next> {
  return async (volume) => {
    const route = await book.route(volume);
    if (!route) return REST;
    // Also of a volume of an unfinished group: that may wait for the very host whose place was taken.
    const owned = route.status === 'open' ? await ownership.step(route) : REST;
    if (owned.do === 'again') return owned;
    const held = await unfinished.whyHeld(volume);
    // They are woken when a group is finished, and when one of them has another route.
    if (held) return soonest([owned, { do: 'rest', why: whyOf(held) }]);
    if (route.status === 'gone') return deletion.step(route);
    if (route.status !== 'open') return { do: 'rest', why: whyShut(route) };
    const moved = route.journal ? await mover.step(route) : await retirement.step(route);
    // The route may be another one by now.
    if (moved.do === 'again') return moved;
    const rest = [replication, others.snapshotDeletions, others.bases];
    const nexts: Next[] = [owned, moved];
    for (const part of rest) nexts.push(await part.step(route));
    return soonest(nexts);
  };
}
