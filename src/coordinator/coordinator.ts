// The coordinator: what decides behind the protocol. It leads or it does not; all it does as the leader ends with that.
//
// Invariants: who does not lead admits nobody and decides nothing. When another leads, the hosts are sent there.

import type { Admission } from '../protocol/coordinator-effects.js';
import type { Call, HostEvent, Progress } from '../protocol/exchange.js';
import type { Log } from '../protocol/log.js';
import type { Hello } from '../protocol/messages.js';
import type { CoordinatorApplication } from '../protocol/server.js';
import type { Clock } from '../protocol/timing.js';
import { notAdmitted } from './admission.js';
import { backoffMs } from './backoff.js';
import { Leading } from './leading.js';
import type { Hosts, Ports } from './ports.js';
import { DEFAULT_SETTINGS, type Settings } from './settings.js';
import type { CoordinatorStore, Leadership } from './store.js';
import { notLeader, Term } from './term.js';
import { storeOfTerm } from './term-store.js';

export interface CoordinatorOptions {
  store: CoordinatorStore;
  leadership: Leadership;
  clock: Clock;
  log: Log;
  freshId: () => string;
  /** In [0, 1). */
  random: () => number;
  settings?: Partial<Settings>;
}

export class Coordinator implements CoordinatorApplication {
  readonly #options: CoordinatorOptions;
  readonly #settings: Settings;
  #hosts: Hosts | null = null;
  #term: Term | null = null;
  #leading: Leading | null = null;
  #isStopped = false;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
    this.#settings = { ...DEFAULT_SETTINGS, ...options.settings };
  }

  /** `hosts` is the server this is the application of. */
  start(hosts: Hosts): void {
    this.#hosts = hosts;
    this.#options.leadership.onChange(() => this.#looked());
    this.#looked();
  }

  /** What is under way is left to whoever leads next. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#endTerm();
    await this.#options.leadership.resign();
  }

  /** Leads, and has taken up what was left. */
  get isReady(): boolean {
    return this.#leading !== null;
  }

  async admit(hello: Hello): Promise<Admission> {
    const { leadership } = this.#options;
    const leading = this.#leading;
    if (leading) return leading.admit(hello);
    if (!leadership.isLeader) return notAdmitted({ leadership, settings: this.#settings });
    return {
      admit: false,
      code: 'busy',
      message: 'This coordinator has just begun to lead.',
      leader: leadership.leader,
      retryAfterMs: this.#settings.backoffMs.first,
    };
  }

  async call(host: string, call: Call): Promise<unknown> {
    if (!this.#leading) throw notLeader(this.#options.leadership);
    return this.#leading.call(host, call);
  }

  joined(hello: Hello, resumed: boolean): void {
    this.#leading?.joined(hello, resumed);
  }

  lost(): void {
    // What is asked meanwhile waits for it, or for its deadline.
  }

  left(): void {
    // What waits for it goes on when it joins again.
  }

  event(host: string, event: HostEvent): void {
    this.#leading?.event(host, event);
  }

  progress(host: string, progress: Progress): void {
    this.#leading?.progress(host, progress);
  }

  #looked(): void {
    const { leadership, log } = this.#options;
    if (this.#isStopped || leadership.isLeader === (this.#term !== null)) return;
    if (!leadership.isLeader) {
      log.info(
        { event: 'leads-no-more', leader: leadership.leader?.coordinator ?? null },
        'this coordinator leads no more',
      );
      this.#endTerm();
      this.#hosts!.dismiss();
      return;
    }
    log.info({ event: 'leads' }, 'this coordinator leads');
    void this.#begin();
  }

  /** Tried until it can be, or another leads. */
  async #begin(): Promise<void> {
    const { log, random, clock, leadership } = this.#options;
    for (let tries = 1; ; tries++) {
      const term = new Term(clock, leadership);
      this.#term = term;
      try {
        const leading = await Leading.begin(this.#portsOf(term), term);
        if (!term.isOver) this.#leading = leading;
        return;
      } catch (error) {
        if (term.isOver) return;
        log.error({ event: 'cannot-lead', err: error }, 'what was left could not be taken up yet');
        await term.sleep(backoffMs(this.#settings, tries, random));
        if (term.isOver) return;
        // What the failed beginning had set going ends with it.
        term.end();
      }
    }
  }

  #endTerm(): void {
    this.#term?.end();
    this.#term = null;
    this.#leading = null;
  }

  #portsOf(term: Term): Ports {
    const { leadership, clock, log, freshId, random } = this.#options;
    const store = storeOfTerm(this.#options.store, term);
    return { store, leadership, clock, log, freshId, random, hosts: this.#hosts!, settings: this.#settings };
  }
}
