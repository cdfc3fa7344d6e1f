// Keeps the devices of the kernel connected: each has as many connections as it was attached with, and one that ends for whatever
// reason gets another. The kernel holds the requests meanwhile and sends again those that were not answered.
//
// Invariants: a device that is not ours any more is left alone and forgotten; work on one device goes in order, and none waits for
// another; a new connection comes only after the old one's requests have ended, so none of them can end behind a newer one.

import { closeSync } from 'node:fs';
import { setTimeout as aWhile } from 'node:timers/promises';
import { Mutex } from '../../base/mutex.js';
import type { Catalog } from '../../catalog/catalog.js';
import { type Attachment, identifierOf } from '../../model/attachment.js';
import type { Container, Snapshot } from '../../model/entities.js';
import type { KeptClient } from '../../plane/treaty.js';
import type { Exports } from '../exports.js';
import { errnoName, type PlaneClient } from '../plane-client.js';
import type { Logger } from '../types.js';
import type { DeviceNames } from './device-names.js';
import type { KernelFiles } from './kernel-files.js';

/** Between attempts; doubled after each one, up to the last. */
const FIRST_PAUSE_MS = 25;
const LONGEST_PAUSE_MS = 2000;
/** Connections that last so long were no failure. */
const STEADY_MS = 5000;

export interface Link {
  readonly attachment: Attachment;
  readonly mutex: Mutex;
  /** Of its open connections. */
  readonly leases: Set<number>;
  /** Connections an earlier process left, not gone on with yet. */
  kept: KeptClient[];
  /** It is being detached, or gone: its connections are not made anew. */
  ended: boolean;
  /** A sync or the like goes on: see Attachments.claim. */
  restoring: boolean;
  attempts: number;
  connectedAtMs: number;
}

export interface Attached {
  container: Container;
  snapshot: Snapshot | null;
}

export interface LinkCollaborators {
  catalog: Catalog;
  client: PlaneClient;
  exports: Exports;
  files: KernelFiles;
  names: DeviceNames;
  log: Logger;
}

export class Links {
  readonly #catalog: Catalog;
  readonly #client: PlaneClient;
  readonly #exports: Exports;
  readonly #files: KernelFiles;
  readonly #names: DeviceNames;
  readonly #log: Logger;
  readonly #storeId: string;
  readonly #byKey = new Map<string, Link>();
  readonly #byLease = new Map<number, Link>();
  #stopping = false;

  constructor(collaborators: LinkCollaborators, storeId: string) {
    this.#catalog = collaborators.catalog;
    this.#client = collaborators.client;
    this.#exports = collaborators.exports;
    this.#files = collaborators.files;
    this.#names = collaborators.names;
    this.#log = collaborators.log;
    this.#storeId = storeId;
  }

  all(): Link[] {
    return [...this.#byKey.values()];
  }

  byKey(key: string): Link | undefined {
    return this.#byKey.get(key);
  }

  byIndex(index: number): Link | undefined {
    return this.all().find(({ attachment }) => attachment.index === index);
  }

  add(attachment: Attachment): Link {
    const link: Link = {
      attachment,
      mutex: new Mutex(),
      leases: new Set(),
      kept: [],
      ended: false,
      restoring: false,
      attempts: 0,
      connectedAtMs: 0,
    };
    this.#byKey.set(attachment.key, link);
    return link;
  }

  /** Durable when it resolves. */
  async remove(link: Link): Promise<void> {
    link.ended = true;
    this.hand(link, []);
    if (this.#byKey.get(link.attachment.key) === link) this.#byKey.delete(link.attachment.key);
    await this.#catalog.change().removeAttachment(link.attachment).commit();
    await this.#names.take(this.identifier(link), link.attachment.index);
  }

  identifier({ attachment }: Link): string {
    return identifierOf(this.#storeId, attachment.key);
  }

  /** What it is of; null: that is gone. */
  attached({ attachment }: Link): Attached | null {
    const container = this.#catalog.containers.get(attachment.container);
    if (container?.state !== 'live') return null;
    if (attachment.snapshot === null) return { container, snapshot: null };
    const snapshot = this.#catalog.snapshots.get(attachment.snapshot);
    return snapshot ? { container, snapshot } : null;
  }

  /** VOLUME or VOLUME@SNAPSHOT; null: that is gone. */
  nameOf(link: Link): string | null {
    const attached = this.attached(link);
    if (!attached) return null;
    const { container, snapshot } = attached;
    return snapshot ? `${container.name}@${snapshot.name}` : container.name;
  }

  /** Whatever it is called now. */
  async giveName(link: Link): Promise<void> {
    const name = this.nameOf(link);
    if (name !== null) await this.#names.give(this.identifier(link), name, link.attachment.index);
  }

  /** At start, when all of an earlier run are known: what names none of them goes. */
  keepNames(): Promise<void> {
    return this.#names.keepOnly(new Set(this.all().map((link) => this.identifier(link))));
  }

  /** Leases for connections about to be made, which are this link's until they are told of as closed. */
  async lease(link: Link, count: number): Promise<{ handle: number; readOnly: boolean; leases: number[] }> {
    const attached = this.attached(link);
    if (!attached) throw new Error('what is attached is gone');
    const { handle, leases } = await this.#exports.leaseForKernel(attached, count);
    for (const lease of leases) {
      link.leases.add(lease);
      this.#byLease.set(lease, link);
    }
    link.connectedAtMs = performance.now();
    return { handle, readOnly: link.attachment.readOnly, leases };
  }

  /** A connection has ended, and everything it asked for. */
  leaseClosed(lease: number): void {
    const link = this.#byLease.get(lease);
    if (!link) return;
    this.#byLease.delete(lease);
    link.leases.delete(lease);
    void this.#restoreSoon(link);
  }

  /** Null: it is not known which. */
  linkDead(index: number | null): void {
    for (const link of this.all())
      if (index === null || link.attachment.index === index) void this.#restoreSoon(link);
  }

  stop(): void {
    this.#stopping = true;
    for (const link of this.all()) this.hand(link, []);
  }

  /**
   * At start: a device of an earlier process goes on with the connections that one left, and gets new ones for the rest. False: it is not there any
   * more.
   */
  async takeUp(link: Link): Promise<boolean> {
    return link.mutex.run(async () => {
      if (!(await this.#isOurs(link))) return false;
      await this.#reconnect(link);
      return true;
    });
  }

  /** Connections an earlier process left; those it had before, and has not gone on with, are closed. */
  hand(link: Link, kept: readonly KeptClient[]): void {
    for (const { descriptor } of link.kept) closeSync(descriptor);
    link.kept = [...kept];
  }

  async #restoreSoon(link: Link): Promise<void> {
    if (link.restoring || link.ended || this.#stopping) return;
    link.restoring = true;
    try {
      while (!this.#isWhole(link)) {
        if (performance.now() - link.connectedAtMs > STEADY_MS) link.attempts = 0;
        await aWhile(Math.min(FIRST_PAUSE_MS * 2 ** link.attempts++, LONGEST_PAUSE_MS), null, { ref: false });
        await link.mutex.run(() => this.#restore(link));
      }
    } finally {
      link.restoring = false;
    }
  }

  #isWhole(link: Link): boolean {
    return link.ended || this.#stopping || link.leases.size >= link.attachment.connections;
  }

  async #restore(link: Link): Promise<void> {
    if (this.#isWhole(link)) return;
    const { index, key } = link.attachment;
    const facts = { device: `nbd${index}`, attachment: key };
    try {
      if (!this.attached(link)) {
        // An expired clone, say. Whoever uses the device is told, instead of being kept waiting.
        this.#log.warn(facts, 'what was attached is gone, and its device is disconnected');
        await this.#client.kernelDisconnect(index!);
        await this.remove(link);
        return;
      }
      if (!(await this.#isOurs(link))) {
        this.#log.warn(facts, 'a device was disconnected by somebody else: it is not attached any more');
        await this.remove(link);
        return;
      }
      await this.#reconnect(link);
      this.#log.info({ ...facts, connections: link.leases.size }, 'a device has connections again');
    } catch (error) {
      this.#log.warn({ err: error, ...facts }, 'a device has no new connection yet; it is tried again');
    }
  }

  /** The caller holds the mutex. Its size too: it may have changed while nobody could say so. */
  async #reconnect(link: Link): Promise<void> {
    const attached = this.attached(link);
    if (!attached) throw new Error('what is attached is gone');
    await this.#goOn(link);
    const missing = link.attachment.connections - link.leases.size;
    const sizeBytes = attached.snapshot?.sizeBytes ?? attached.container.sizeBytes;
    const index = link.attachment.index!;
    const grown = (await this.#files.sizeOf(index)) === sizeBytes ? {} : { sizeBytes };
    if (missing === 0 && grown.sizeBytes === undefined) return;
    const backend = await this.lease(link, missing);
    const answer = await this.#client.kernelReconfigure(
      { index, identifier: this.identifier(link), ...grown },
      backend,
    );
    if (answer.error !== 0)
      throw new Error(`the kernel refuses: ${errnoName(answer.error)} ${answer.sentence}`);
  }

  /** Its volume may not be served yet: then they wait, and the kernel's requests in them, until the next attempt. */
  async #goOn(link: Link): Promise<void> {
    if (link.kept.length === 0) return;
    const { handle, leases } = await this.lease(link, link.kept.length);
    const kept = link.kept.splice(0);
    for (const [at, lease] of leases.entries()) this.#client.plane.resumeKernel(kept[at]!, handle, lease);
  }

  async #isOurs(link: Link): Promise<boolean> {
    const { index } = link.attachment;
    return index !== null && (await this.#files.identifierOf(index)) === this.identifier(link);
  }
}
