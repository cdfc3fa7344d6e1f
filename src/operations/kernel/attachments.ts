// Volumes, files and snapshots as block devices of the kernel: attached, detached, found again after a restart.
//
// Invariants: what is attached is recorded before the kernel is asked, and its record goes after the device has; so a start finds every
// device of ours, whatever was interrupted. Nothing is attached twice. What the kernel uses (a mount, swap, a mapping, a partition that is
// open) is neither detached nor changed under it: that is asked by taking the device exclusively, which whoever mounts it would have to.

import { closeSync } from 'node:fs';
import { CellblockError } from '../../base/errors.js';
import type { Catalog } from '../../catalog/catalog.js';
import { type Attachment, attachmentKey, identifierPrefix } from '../../model/attachment.js';
import type { Container, Snapshot } from '../../model/entities.js';
import { parseSnapshotReference } from '../../model/names.js';
import type { KeptClient } from '../../plane/treaty.js';
import { requireContainer, requireSnapshot } from '../lookup.js';
import { errnoName, type PlaneClient } from '../plane-client.js';
import type { Logger } from '../types.js';
import { type AttachOptions, type AttachWishes, checkAttachOptions, indexIn } from './attachment-options.js';
import type { DeviceUser } from './device-users.js';
import { Doors } from './doors.js';
import { alreadyAttached, deviceInUse, kernelError, notAttached } from './kernel-errors.js';
import type { KernelFiles } from './kernel-files.js';
import { type Attached, type Link, type LinkCollaborators, Links } from './links.js';

/** A re-read waits for the device's connections; whoever changed the volume does not wait longer than this. */
const REREAD_MS = 10_000;

export interface AttachmentInfo {
  /** VOLUME or VOLUME@SNAPSHOT; null: that is gone. */
  name: string | null;
  /** `/dev/nbd0` */
  device: string;
  readOnly: boolean;
  sizeBytes: bigint;
  blockBytes: number;
  /** As it was attached with, and open now. */
  connections: number;
  connected: number;
  ioTimeoutSeconds: number;
  deadTimeoutSeconds: number;
  created: string;
  users: DeviceUser[];
}

/** Devices nobody else can take. */
export interface Claim {
  /** The kernel reads them anew, and they can be taken again. Never throws. */
  end(): Promise<void>;
}

export class Attachments {
  readonly #catalog: Catalog;
  readonly #client: PlaneClient;
  readonly #files: KernelFiles;
  readonly #log: Logger;
  readonly #links: Links;
  readonly #storeId: string;
  /** Of what is being attached, synced or shrunk: by key. */
  readonly #doors = new Doors();

  constructor(collaborators: LinkCollaborators, storeId: string) {
    this.#catalog = collaborators.catalog;
    this.#client = collaborators.client;
    this.#files = collaborators.files;
    this.#log = collaborators.log;
    this.#links = new Links(collaborators, storeId);
    this.#storeId = storeId;
  }

  /** `name`: VOLUME or VOLUME@SNAPSHOT. `attachment-exists`, `kernel-driver-missing`, `permission-denied`, `kernel-device-failed`, ... */
  async attach(name: string, wishes: AttachWishes): Promise<AttachmentInfo> {
    const options = checkAttachOptions(wishes);
    const attached = this.#find(name);
    const key = attachmentKey(attached.container, attached.snapshot);
    const sizeBytes = sizeOf(attached);
    refuseSize(name, sizeBytes, options.blockBytes);
    const leave = await this.#doors.enter(key);
    try {
      const there = this.#links.byKey(key);
      if (there) throw alreadyAttached(name, this.#nodeOf(there));
      const link = await this.#record(attached, key, options);
      await link.mutex.run(() => this.#connect(link, { options, sizeBytes }));
      const { index } = link.attachment;
      this.#log.info({ volume: name, device: `nbd${index}`, connections: options.connections }, 'attached');
      return await this.#info(link);
    } finally {
      leave();
    }
  }

  async #record({ container, snapshot }: Attached, key: string, options: AttachOptions): Promise<Link> {
    const attachment: Attachment = {
      key,
      container: container.id,
      snapshot: snapshot?.id ?? null,
      ...options,
      // Until the kernel has said which it is.
      index: null,
      readOnly: options.readOnly || snapshot !== null || container.failure !== null,
      created: new Date().toISOString(),
    };
    await this.#catalog.change().attachment(attachment).commit();
    return this.#links.add(attachment);
  }

  async #connect(
    link: Link,
    { options, sizeBytes }: { options: AttachOptions; sizeBytes: bigint },
  ): Promise<void> {
    const { attachment } = link;
    const { blockBytes, ioTimeoutSeconds, deadTimeoutSeconds } = attachment;
    try {
      // Before the kernel is asked: what it says of a new device has the name in it then.
      await this.#links.giveName(link);
      const backend = await this.#links.lease(link, attachment.connections);
      const answer = await this.#client.kernelConnect(
        {
          index: options.index,
          sizeBytes,
          blockBytes,
          ioTimeoutSeconds,
          deadTimeoutSeconds,
          identifier: this.#links.identifier(link),
        },
        backend,
      );
      if (answer.error !== 0) throw refusedConnect(options.index, answer);
      attachment.index = answer.index;
    } catch (error) {
      await this.#links.remove(link);
      throw error;
    }
    await this.#catalog.change().attachment(attachment).commit();
    // The driver may have told of it before it knew whose it is.
    await this.#links.giveName(link);
  }

  /** `name`: as attach(), or the device. `force`: whoever uses it gets errors. `attachment-not-found`, `kernel-device-in-use`. */
  async detach(name: string, { force }: { force: boolean }): Promise<AttachmentInfo> {
    const link = this.#linkNamed(name);
    return link.mutex.run(async () => {
      if (link.ended) throw notAttached(name);
      const info = await this.#info(link);
      const node = this.#nodeOf(link);
      if (!force) await this.#take(link);
      // From here on its connections are to end.
      link.ended = true;
      const answer = await this.#client.kernelDisconnect(link.attachment.index!);
      if (!force) await this.#client.unclaimNode(node);
      if (answer.error !== 0 && (await this.#isConnected(link))) {
        link.ended = false;
        throw kernelError(`disconnecting ${node}`, answer);
      }
      await this.#links.remove(link);
      this.#log.info({ volume: info.name, device: `nbd${link.attachment.index}` }, 'detached');
      return info;
    });
  }

  async list(): Promise<AttachmentInfo[]> {
    const links = this.#links
      .all()
      .filter(({ attachment }) => attachment.index !== null)
      .sort((a, b) => a.attachment.index! - b.attachment.index!);
    return Promise.all(links.map((link) => this.#info(link)));
  }

  /**
   * At start, before anybody is served: devices of earlier runs have connections again, those that were kept or new ones, and what is not there any
   * more is forgotten. One that was interrupted in the middle of being attached is found by what the kernel keeps of it.
   */
  async resume(kept: readonly KeptClient[] = []): Promise<void> {
    const links = [...this.#catalog.attachments.values()].map((attachment) => this.#links.add(attachment));
    for (const link of links) {
      const identifier = this.#links.identifier(link);
      this.#links.hand(
        link,
        kept.filter(({ exportName }) => exportName === identifier),
      );
    }
    const known = new Set(links.map((link) => this.#links.identifier(link)));
    for (const { exportName, descriptor } of kept) if (!known.has(exportName)) closeSync(descriptor);
    await this.#takeUp(links);
    await this.#links.keepNames();
  }

  async #takeUp(links: readonly Link[]): Promise<void> {
    if (links.length === 0) return;
    const found = await this.#ownDevices();
    for (const link of links) {
      const { attachment } = link;
      attachment.index = found.get(attachment.key) ?? null;
      try {
        const isThere = this.#links.attached(link) !== null;
        // Nobody can serve it any more: its users are told, instead of being kept waiting.
        if (!isThere && attachment.index !== null) await this.#client.kernelDisconnect(attachment.index);
        if (!isThere || !(await this.#links.takeUp(link))) {
          await this.#links.remove(link);
          continue;
        }
        await this.#catalog.change().attachment(attachment).commit();
        await this.#links.giveName(link);
        this.#log.info(
          { device: `nbd${attachment.index}`, connections: attachment.connections },
          'a device of an earlier run is served again',
        );
      } catch (error) {
        this.#log.warn({ err: error, device: `nbd${attachment.index}` }, 'a device is not served yet');
        this.#links.linkDead(attachment.index);
      }
    }
  }

  /** By what the kernel keeps of them. */
  async #ownDevices(): Promise<Map<string, number>> {
    const prefix = identifierPrefix(this.#storeId);
    const own = new Map<string, number>();
    for (const index of await this.#files.indices()) {
      const identifier = await this.#files.identifierOf(index);
      if (identifier?.startsWith(prefix)) own.set(identifier.slice(prefix.length), index);
    }
    return own;
  }

  leaseClosed(lease: number): void {
    this.#links.leaseClosed(lease);
  }

  linkDead(index: number | null): void {
    this.#links.linkDead(index);
  }

  /** Devices stay, and wait for the next process. */
  stop(): void {
    this.#links.stop();
  }

  /** `/dev/nbdN`; null: the current map of the container is not attached. */
  nodeOf(container: Container): string | null {
    const link = this.#linkOf(container);
    return link ? this.#nodeOf(link) : null;
  }

  /** The snapshot, or nothing of the container, snapshots included, is attached; `kernel-device-in-use`. */
  requireDetached(what: Container | Snapshot): void {
    for (const link of this.#links.all()) {
      const { container, snapshot } = link.attachment;
      if (what.id !== container && what.id !== snapshot) continue;
      throw new CellblockError(
        'kernel-device-in-use',
        `${JSON.stringify(this.#links.nameOf(link) ?? what.name)} is attached as ${this.#nodeOf(link)}.`,
        { hint: 'Detach it first, with `cellblock detach`.' },
      );
    }
  }

  /**
   * For who changes the content of containers beneath their clients. Their devices are taken, so that nobody can mount them until the
   * claim ends, and the kernel keeps nothing of them; nor are containers attached meanwhile. In the order of their ids.
   * `kernel-device-in-use`, with who uses it.
   */
  async claim(containers: readonly Container[]): Promise<Claim> {
    const leaves: (() => void)[] = [];
    const links: Link[] = [];
    const leaveAll = (): void => {
      for (const leave of leaves) leave();
    };
    try {
      for (const container of containers) {
        const key = attachmentKey(container, null);
        leaves.push(await this.#doors.enter(key));
        const link = this.#links.byKey(key);
        if (!link) continue;
        await this.#take(link);
        links.push(link);
      }
    } catch (error) {
      for (const link of links) await this.#client.unclaimNode(this.#nodeOf(link));
      leaveAll();
      throw error;
    }
    return {
      end: async () => {
        await Promise.all(links.map((link) => this.#reread(link)));
        leaveAll();
      },
    };
  }

  /** The container, or a snapshot of it, has another name. */
  async renamed(container: Container): Promise<void> {
    for (const link of this.#links.all())
      if (link.attachment.container === container.id) await this.#links.giveName(link);
  }

  /** The container has another size. */
  async sizeChanged(container: Container): Promise<void> {
    const link = this.#linkOf(container);
    if (!link) return;
    const { index } = link.attachment;
    const answer = await this.#client.kernelReconfigure(
      { index: index!, identifier: this.#links.identifier(link), sizeBytes: container.sizeBytes },
      { handle: 0, readOnly: link.attachment.readOnly, leases: [] },
    );
    if (answer.error !== 0) throw kernelError(`telling ${this.#nodeOf(link)} its new size`, answer);
  }

  async #take(link: Link): Promise<void> {
    const node = this.#nodeOf(link);
    const answer = await this.#client.claimNode(node);
    if (answer.error === 0) return;
    const name = this.#links.nameOf(link) ?? node;
    if (errnoName(answer.error) === 'EBUSY')
      throw deviceInUse(node, name, await this.#files.usersOf(link.attachment.index!));
    throw kernelError(`opening ${node}`, answer);
  }

  async #reread(link: Link): Promise<void> {
    const node = this.#nodeOf(link);
    try {
      const attached = this.#links.attached(link);
      if (attached && (await this.#files.sizeOf(link.attachment.index!)) !== sizeOf(attached))
        await this.sizeChanged(attached.container);
      const answer = await within(REREAD_MS, this.#client.rereadNode(node));
      if (answer?.error !== 0)
        this.#log.warn(
          { device: node, errno: answer ? errnoName(answer.error) : 'no answer yet' },
          'the kernel may still know of what a device held before',
        );
    } catch (error) {
      this.#log.warn({ err: error, device: node }, 'the kernel may still know of what a device held before');
    }
    await within(REREAD_MS, this.#client.unclaimNode(node));
  }

  async #isConnected(link: Link): Promise<boolean> {
    return (await this.#files.identifierOf(link.attachment.index!)) === this.#links.identifier(link);
  }

  async #info(link: Link): Promise<AttachmentInfo> {
    const { attachment, leases } = link;
    const attached = this.#links.attached(link);
    const { readOnly, blockBytes, connections, ioTimeoutSeconds, deadTimeoutSeconds, created } = attachment;
    return {
      name: this.#links.nameOf(link),
      device: this.#nodeOf(link),
      readOnly,
      sizeBytes: attached ? sizeOf(attached) : 0n,
      blockBytes,
      connections,
      connected: leases.size,
      ioTimeoutSeconds,
      deadTimeoutSeconds,
      created,
      users: attachment.index === null ? [] : await this.#files.usersOf(attachment.index),
    };
  }

  #find(name: string): Attached {
    if (!name.includes('@')) return { container: requireContainer(this.#catalog, name), snapshot: null };
    const { volume, snapshot } = parseSnapshotReference(name);
    return {
      container: requireContainer(this.#catalog, volume),
      snapshot: requireSnapshot(this.#catalog, volume, snapshot),
    };
  }

  #linkNamed(name: string): Link {
    const index = name.startsWith('/dev/') || !this.#isName(name) ? indexIn(name) : null;
    const link =
      index === null
        ? this.#links.all().find((one) => this.#links.nameOf(one) === name)
        : this.#links.byIndex(index);
    if (!link || link.attachment.index === null) throw notAttached(name);
    return link;
  }

  /** A volume may be called `nbd0`: then it is meant. */
  #isName(name: string): boolean {
    return this.#links.all().some((link) => this.#links.nameOf(link) === name);
  }

  #linkOf(container: Container): Link | undefined {
    const link = this.#links.byKey(attachmentKey(container, null));
    return link?.attachment.index === null ? undefined : link;
  }

  #nodeOf({ attachment }: Link): string {
    return attachment.index === null ? 'a device' : this.#files.nodePath(attachment.index);
  }
}

function sizeOf({ container, snapshot }: Attached): bigint {
  return snapshot?.sizeBytes ?? container.sizeBytes;
}

/** Undefined: it takes longer. */
async function within<T>(milliseconds: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Its end would be missing. */
function refuseSize(name: string, sizeBytes: bigint, blockBytes: number): void {
  if (sizeBytes % BigInt(blockBytes) === 0n) return;
  throw new CellblockError(
    'attachment-unsuitable',
    `${JSON.stringify(name)} has ${sizeBytes} bytes, which are no whole blocks of ${blockBytes}.`,
    {
      hint: 'Attach it with smaller blocks, or serve it over NBD: a device of the kernel has whole blocks only.',
    },
  );
}

function refusedConnect(index: number | null, answer: Parameters<typeof kernelError>[1]): CellblockError {
  if (index === null || errnoName(answer.error) !== 'EBUSY') return kernelError('attaching a device', answer);
  return new CellblockError('kernel-device-in-use', `The device /dev/nbd${index} is connected already.`, {
    hint: 'Name another one, or none: the kernel takes a free one.',
  });
}
