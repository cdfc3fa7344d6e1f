// Which of several coordinators leads: the one whose key stands in etcd, made when there was none and held by its lease.
//
// Invariants: it counts as the leader from an answer that shows its key until three quarters of the lease's time after the *sending* of the last renewal that
// was answered, by the clock of this machine, of uptime and time of day the one that ran faster; so it ends here before it can end in etcd. It never leads again by the same
// key: a new time of leadership is a new key with a new lease. Nothing is ever decided by who etcd's key names alone: every write compares it (fenced-writer.ts).

import { randomBytes } from 'node:crypto';
import type { Log } from '../protocol/log.js';
import type { Clock } from '../protocol/timing.js';
import { type EtcdClient, EtcdFailure } from './etcd-client.js';
import type { EtcdKeys, KeyValue, RangeAnswer } from './etcd-keys.js';
import { LEADER_PATH, textOf } from './etcd-keys.js';
import type { FenceSource } from './etcd-store.js';
import type { Fence } from './fenced-writer.js';
import type { Leader, Leadership } from './store.js';

export interface EtcdLeadershipOptions {
  self: Leader;
  client: EtcdClient;
  keys: EtcdKeys;
  clock: Clock;
  log: Log;
  /** Of the lease: as long nobody leads when a leader dies. Whole seconds, at least 2. */
  ttlMs?: number;
}

const TTL_MS = 6_000;

/** A lease of this coordinator, with the key that it has made or tries to make. */
interface Claim {
  lease: string;
  /** Tells its key from others, of this coordinator too. */
  token: string;
  /** When the last renewal that was answered was sent. */
  renewed: { clockMs: number; uptimeMs: number };
  /** Null: the key is not known to be ours. */
  fence: Fence | null;
}

export class EtcdLeadership implements Leadership, FenceSource {
  readonly #options: EtcdLeadershipOptions;
  readonly #ttlMs: number;
  readonly #listeners: (() => void)[] = [];
  #claim: Claim | null = null;
  #leader: Leader | null = null;
  /** What listeners know. */
  #told = '';
  #endTimer: () => void = () => undefined;
  #running: Promise<void> | null = null;
  #isClosed = false;
  #wake: () => void = () => undefined;
  /** No candidate before this uptime: it has resigned. */
  #abstainsUntilMs = 0;

  constructor(options: EtcdLeadershipOptions) {
    this.#options = options;
    this.#ttlMs = Math.max(2, Math.round((options.ttlMs ?? TTL_MS) / 1000)) * 1000;
  }

  /** Competes from now on. */
  start(): void {
    this.#running ??= this.#run();
  }

  get fence(): Fence | null {
    const claim = this.#claim;
    return claim?.fence && this.#leftMs(claim) > 0 ? claim.fence : null;
  }

  get isLeader(): boolean {
    return this.fence !== null;
  }

  get leader(): Leader | null {
    return this.isLeader ? this.#options.self : this.#leader;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
    listener();
  }

  deposed(fence: Fence): void {
    if (this.#claim?.fence !== fence) return;
    void this.#drop('its key is gone');
    this.#wake();
  }

  async resign(): Promise<void> {
    this.#abstainsUntilMs = this.#options.clock.now().uptimeMs + this.#ttlMs;
    await this.#drop('it has resigned');
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.resign();
    this.#wake();
    await this.#running;
    // A round that was under way may have made a key.
    await this.resign();
    this.#endTimer();
  }

  // ---- rounds ----

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#round();
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        this.#options.log.debug({ reason: error.message }, 'etcd does not say who leads');
      }
      if (!this.#isClosed) await this.#pause(this.#ttlMs / 6);
    }
  }

  async #round(): Promise<void> {
    const claim = this.#claim;
    if (claim && this.#elapsedMs(claim) >= this.#ttlMs / 3) await this.#renew(claim);
    let key = await this.#look();
    if (key === null && this.#claim === null && this.#isCandidate()) {
      await this.#compete();
      key = await this.#look();
    }
    this.#judge(key);
  }

  #isCandidate(): boolean {
    return !this.#isClosed && this.#options.clock.now().uptimeMs >= this.#abstainsUntilMs;
  }

  async #look(): Promise<KeyValue | null> {
    const { client, keys } = this.#options;
    const { answer } = await client.ask<RangeAnswer>(
      '/v3/kv/range',
      { key: keys.key(LEADER_PATH) },
      this.#ttlMs / 3,
    );
    return answer.kvs?.[0] ?? null;
  }

  /** Compares what stands in etcd with what this one believes. */
  #judge(key: KeyValue | null): void {
    const claim = this.#claim;
    const said = key && whoIn(key);
    if (claim?.fence) {
      if (key?.create_revision !== claim.fence.createRevision) void this.#drop('its key is gone');
    } else if (claim && key && said?.token === claim.token && this.#isCandidate()) {
      claim.fence = { path: LEADER_PATH, createRevision: key.create_revision, lease: claim.lease };
    } else if (claim) {
      // Another one was first, or the request has not come yet: without its lease it does nothing any more.
      void this.#drop('');
    }
    // A key of ours that is not held any more, or of a run before, leads nobody anywhere.
    const isOther = said && said.coordinator !== this.#options.self.coordinator;
    this.#see(isOther ? { coordinator: said.coordinator, address: said.address } : null);
  }

  async #compete(): Promise<void> {
    const { client, keys, self, clock } = this.#options;
    const lease = `${randomBytes(8).readBigUInt64BE() >> 1n || 1n}`;
    const claim: Claim = { lease, token: randomBytes(12).toString('hex'), renewed: clock.now(), fence: null };
    const grant = { ID: lease, TTL: `${this.#ttlMs / 1000}` };
    await client.ask('/v3/lease/grant', grant, this.#ttlMs / 3).catch((error: unknown) => {
      // An answer was lost: it was granted before.
      if (!(error instanceof EtcdFailure && error.mayBeDone && error.code === ALREADY_THERE)) throw error;
    });
    this.#claim = claim;
    const who = JSON.stringify({ ...self, token: claim.token });
    await client.ask(
      '/v3/kv/txn',
      {
        compare: [keys.madeAt(LEADER_PATH, '0')],
        success: [keys.put(LEADER_PATH, who, lease)],
        failure: [],
      },
      this.#ttlMs / 3,
    );
  }

  async #renew(claim: Claim): Promise<void> {
    const sent = this.#options.clock.now();
    const { answer } = await this.#options.client.ask<{ result?: { TTL?: string } }>(
      '/v3/lease/keepalive',
      { ID: claim.lease },
      this.#ttlMs / 3,
    );
    const ttl = Number(answer.result?.TTL ?? 0);
    if (this.#claim !== claim) return;
    if (ttl <= 0 || this.#leftMs(claim) <= 0) await this.#drop('its lease has ended');
    else claim.renewed = sent;
  }

  // ---- time ----

  #elapsedMs({ renewed }: Claim): number {
    const now = this.#options.clock.now();
    // Uptime stands still while a machine sleeps; the time of day may be set back.
    return Math.max(now.uptimeMs - renewed.uptimeMs, now.clockMs - renewed.clockMs);
  }

  #leftMs(claim: Claim): number {
    return this.#ttlMs * 0.75 - this.#elapsedMs(claim);
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(milliseconds, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  // ---- what others are told ----

  /** At once; resolves when the lease has been given back too, or cannot be: then it ends by itself. */
  async #drop(why: string): Promise<void> {
    const claim = this.#claim;
    if (!claim) return;
    this.#claim = null;
    if (claim.fence) this.#options.log.warn({ reason: why }, 'this coordinator does not lead any more');
    this.#see(null);
    try {
      await this.#options.client.ask('/v3/lease/revoke', { ID: claim.lease }, this.#ttlMs / 3);
    } catch (error) {
      if (!(error instanceof EtcdFailure)) throw error;
    }
  }

  #see(leader: Leader | null): void {
    this.#leader = leader;
    this.#endTimer();
    this.#endTimer = () => undefined;
    const claim = this.#claim;
    if (claim?.fence)
      this.#endTimer = this.#options.clock.after(Math.max(0, this.#leftMs(claim)), () => this.#end(claim));
    this.#tell();
  }

  /** The time of the last renewal is over. */
  #end(claim: Claim): void {
    if (this.#claim !== claim) return;
    if (this.#leftMs(claim) > 0) this.#see(this.#leader);
    else void this.#drop('its lease could not be renewed in time');
  }

  #tell(): void {
    const now = JSON.stringify([this.isLeader, this.#claim?.fence?.createRevision, this.leader]);
    if (now === this.#told) return;
    this.#told = now;
    if (this.isLeader)
      this.#options.log.info({ revision: this.#claim?.fence?.createRevision }, 'this coordinator leads');
    for (const listener of this.#listeners) listener();
  }
}

/** "lease already exists". */
const ALREADY_THERE = 9;

function whoIn(key: KeyValue): (Leader & { token: string }) | null {
  try {
    const { coordinator, address, token } = JSON.parse(textOf(key)) as Leader & { token: string };
    return { coordinator: `${coordinator}`, address: `${address}`, token: `${token}` };
  } catch {
    return null;
  }
}
