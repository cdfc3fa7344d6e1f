// The daemon and the model side by side: every step is done to both, and they have to agree.
import type { ApiError } from '../support/api-client.js';
import type { Daemon } from '../support/daemon.js';
import type { Answer } from '../support/nbd-answers.js';
import { CMD, FLAG, MIB } from '../support/nbd-wire.js';
import { RawNbd } from '../support/raw-nbd.js';
import { clip, type Place, type Step } from './history.js';
import { ModelStore, swapHeader, swapIn } from './store-model.js';

const BLOCK = 4096;
/** More volumes or snapshots make histories slower, not better. */
const MOST_VOLUMES = 5;
const MOST_SNAPSHOTS = 5;

class Disagreement extends Error {}

interface Opened {
  client: RawNbd;
  contexts: Map<string, number>;
}

export class Subject {
  readonly #daemon: Daemon;
  readonly #model = new ModelStore();
  readonly #open = new Map<string, Opened>();
  #names = 0;
  #opened = 0;

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  async run(history: Step[]): Promise<void> {
    await this.#create(2048);
    for (const [index, step] of history.entries()) {
      try {
        await this.#do(step);
      } catch (error) {
        throw new Error(`step ${index} ${JSON.stringify(step)}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
    await this.#verify();
    await this.#closeAll();
  }

  async #do(step: Step): Promise<void> {
    switch (step.kind) {
      case 'write':
        return this.#write(this.#pick(step.volume), step.place, step.fill, step.fua);
      case 'zero':
        return this.#zero(this.#pick(step.volume), step.place, step.noHole, step.fast);
      case 'trim':
        return this.#trim(this.#pick(step.volume), step.place);
      case 'read':
        return this.#read(this.#pick(step.volume), step.place);
      case 'flush':
        return this.#succeed(this.#pick(step.volume), { type: CMD.flush });
      case 'create':
        return this.#model.volumes.size < MOST_VOLUMES ? this.#create(step.sizeBlocks) : undefined;
      case 'snapshot':
        return this.#snapshot([...new Set(step.volumes.map((number) => this.#pick(number)))]);
      case 'clone':
        return this.#clone(this.#pick(step.volume), step.snapshot);
      case 'delete-volume':
        return this.#model.volumes.size > 1 ? this.#deleteVolume(this.#pick(step.volume)) : undefined;
      case 'delete-snapshot':
        return this.#deleteSnapshot(this.#pick(step.volume), step.snapshot);
      case 'resize':
        return this.#resize(this.#pick(step.volume), step.sizeBlocks * BLOCK);
      case 'stamp':
        return this.#stamp(this.#pick(step.volume), step.uuid);
      case 'sync':
        return this.#sync(this.#pick(step.volume), step);
      case 'restart':
        return this.#restart(step.how);
      case 'verify':
        return this.#verify();
    }
  }

  #pick(number: number): string {
    const names = [...this.#model.volumes.keys()];
    return names[number % names.length] as string;
  }

  #pickSnapshot(volume: string, number: number): string | undefined {
    const names = [...this.#model.volume(volume).snapshots.keys()];
    return names[number % names.length];
  }

  async #create(blocks: number): Promise<void> {
    const name = `v${this.#names++}`;
    await this.#daemon.api.createVolume(name, blocks * BLOCK);
    this.#model.create(name, blocks * BLOCK);
  }

  async #write(name: string, place: Place, fill: number, fua: boolean): Promise<void> {
    const volume = this.#model.volume(name);
    const where = clip(place, volume.bytes.length);
    const content = Buffer.alloc(where.length);
    for (let i = 0; i < content.length; i++) content[i] = (fill + (i >> 9)) & 0xff || fill;
    await this.#succeed(name, { type: CMD.write, flags: fua ? FLAG.fua : 0, ...where }, content);
    volume.write(where.offset, content);
  }

  async #zero(name: string, place: Place, noHole: boolean, fast: boolean): Promise<void> {
    const volume = this.#model.volume(name);
    const where = clip(place, volume.bytes.length);
    const flags = (noHole ? FLAG.noHole : 0) | (fast ? FLAG.fastZero : 0);
    await this.#succeed(name, { type: CMD.writeZeroes, flags, ...where });
    volume.zero(where.offset, where.length);
  }

  /** TRIM of a part of a block may leave it or zero it; whole blocks read as zeros. */
  async #trim(name: string, place: Place): Promise<void> {
    const volume = this.#model.volume(name);
    const { offset, length } = clip(place, volume.bytes.length);
    await this.#succeed(name, { type: CMD.trim, offset, length });
    const first = Math.min(Math.ceil(offset / BLOCK) * BLOCK, offset + length);
    const end = Math.max(first, Math.floor((offset + length) / BLOCK) * BLOCK);
    volume.zero(first, end - first);
    for (const [from, to] of [
      [offset, first],
      [end, offset + length],
    ] as const) {
      if (from >= to) continue;
      const { data } = await this.#command(name, { type: CMD.read, offset: from, length: to - from });
      if (data.equals(Buffer.alloc(to - from))) volume.zero(from, to - from);
    }
  }

  async #read(name: string, place: Place): Promise<void> {
    const where = clip(place, this.#model.volume(name).bytes.length);
    await this.#agree(name, this.#model.volume(name).bytes, where.offset, where.length);
  }

  async #snapshot(names: string[]): Promise<void> {
    const volumes = names.filter((name) => this.#model.volume(name).snapshots.size < MOST_SNAPSHOTS);
    if (volumes.length === 0) return;
    const snapshot = `s${this.#names++}`;
    await this.#daemon.api.snapshot(...volumes.map((name) => `${name}@${snapshot}`));
    for (const name of volumes) this.#model.snapshot(name, snapshot);
  }

  async #clone(volume: string, number: number): Promise<void> {
    const snapshot = this.#pickSnapshot(volume, number);
    if (snapshot === undefined || this.#model.volumes.size >= MOST_VOLUMES) return;
    const name = `v${this.#names++}`;
    await this.#daemon.api.clone(`${volume}@${snapshot}`, name);
    this.#model.clone(volume, snapshot, name);
  }

  async #deleteVolume(name: string): Promise<void> {
    for (const snapshot of this.#model.volume(name).snapshots.keys())
      await this.#close(`${name}@${snapshot}`);
    await this.#close(name);
    await this.#daemon.api.deleteVolume(name);
    this.#model.volumes.delete(name);
  }

  async #deleteSnapshot(volume: string, number: number): Promise<void> {
    const snapshot = this.#pickSnapshot(volume, number);
    if (snapshot === undefined) return;
    await this.#close(`${volume}@${snapshot}`);
    await this.#daemon.api.deleteSnapshot(`${volume}@${snapshot}`);
    const model = this.#model.volume(volume);
    model.snapshots.delete(snapshot);
    if (model.undoPoint === snapshot) model.undoPoint = null;
  }

  async #resize(name: string, size: number): Promise<void> {
    await this.#close(name);
    await this.#daemon.api.resizeVolume(name, size, { force: true });
    this.#model.volume(name).resize(size);
  }

  /** From now on it is a swap area with this UUID, as far as it is not overwritten. */
  async #stamp(name: string, uuid: number): Promise<void> {
    const volume = this.#model.volume(name);
    const header = swapHeader(Buffer.alloc(16, uuid));
    if (volume.bytes.length < header.length) return;
    await this.#succeed(name, { type: CMD.write, offset: 0, length: header.length }, header);
    volume.write(0, header);
  }

  async #sync(name: string, step: Extract<Step, { kind: 'sync' }>): Promise<void> {
    const volume = this.#model.volume(name);
    const source = step.source === null ? name : this.#pick(step.source);
    const snapshot = step.source === null ? volume.undoPoint : this.#pickSnapshot(source, step.snapshot);
    if (snapshot === undefined || snapshot === null) return;
    const content = this.#model.volume(source).snapshots.get(snapshot) as Buffer;
    const safety = step.safety && volume.snapshots.size < MOST_SNAPSHOTS;
    if (step.clients !== 'stay') await this.#close(name);
    const force = step.clients === 'are sent away';
    const asked = { safety, online: step.clients === 'stay', force };
    const from = step.source === null ? null : `${source}@${snapshot}`;
    const ask = () =>
      this.#daemon.api.sync(name, from, from === null ? asked : { ...asked, grow: step.grow });
    const refusal = refusalOf(volume.bytes, content, from !== null && step.grow);
    const points = await this.#refusedOr(refusal, ask);
    if (points) this.#model.sync(name, content, safety ? (points[0] as string).slice(name.length + 1) : null);
  }

  /** Null: it was refused as it had to be. */
  async #refusedOr<T>(refusal: string | null, ask: () => Promise<T>): Promise<T | null> {
    let answer: T;
    try {
      answer = await ask();
    } catch (error) {
      if ((error as ApiError).code === refusal) return null;
      throw error;
    }
    if (refusal !== null) throw new Disagreement(`it was not refused as ${refusal}`);
    return answer;
  }

  async #restart(how: 'stop' | 'kill'): Promise<void> {
    for (const { client } of this.#open.values()) client.close();
    this.#open.clear();
    await this.#daemon.restart(how);
  }

  /** Everything that can be read agrees, the maps do not lie, and the store is clean. */
  async #verify(): Promise<void> {
    for (const [name, volume] of this.#model.volumes) {
      for (const [snapshot, bytes] of volume.snapshots) {
        await this.#agree(`${name}@${snapshot}`, bytes, 0, bytes.length);
        await this.#unchangedIsEqual(name, snapshot);
      }
      await this.#agree(name, volume.bytes, 0, volume.bytes.length);
      await this.#zeroIsZero(name);
    }
    const check = await this.#daemon.api.check();
    if (!check.clean) throw new Disagreement(`store check: ${JSON.stringify(check.raw)}`);
  }

  async #agree(exportName: string, expected: Buffer, offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += MIB) {
      const part = { offset: offset + done, length: Math.min(MIB, length - done) };
      const { data } = await this.#command(exportName, { type: CMD.read, ...part });
      const wanted = expected.subarray(part.offset, part.offset + part.length);
      if (data.equals(wanted)) continue;
      const at = data.findIndex((byte, i) => byte !== wanted[i]);
      throw new Disagreement(
        `${exportName} at byte ${part.offset + at} holds ${data[at]}, the model ${wanted[at]} (block ${Math.floor((part.offset + at) / BLOCK)})`,
      );
    }
  }

  /** Flags of one context over a whole export. */
  async #status(
    exportName: string,
    context: string,
  ): Promise<{ offset: number; length: number; flags: number }[]> {
    const { client, contexts } = await this.#export(exportName, [context]);
    // A volume does not continue each of its snapshots after a sync.
    if (!contexts.has(context)) return [];
    const size = this.#model.volume(exportName).bytes.length;
    const found: { offset: number; length: number; flags: number }[] = [];
    for (let offset = 0; offset < size; ) {
      const answer = await client.command({ type: CMD.blockStatus, offset, length: size - offset });
      if (answer.error !== 0) throw new Disagreement(`block status of ${exportName}: error ${answer.error}`);
      for (const { length, flags } of answer.status.get(contexts.get(context) as number) ?? []) {
        found.push({ offset, length, flags });
        offset += length;
      }
    }
    return found;
  }

  async #zeroIsZero(name: string): Promise<void> {
    const { bytes } = this.#model.volume(name);
    for (const { offset, length, flags } of await this.#status(name, 'base:allocation')) {
      const part = bytes.subarray(offset, offset + length);
      if (flags & 2 && !part.equals(Buffer.alloc(part.length))) {
        throw new Disagreement(`${name} is said to be zero at ${offset}, ${length} bytes, and is not`);
      }
    }
  }

  async #unchangedIsEqual(name: string, snapshot: string): Promise<void> {
    const volume = this.#model.volume(name);
    const before = volume.snapshots.get(snapshot) as Buffer;
    for (const { offset, length, flags } of await this.#status(name, `qemu:dirty-bitmap:${snapshot}`)) {
      if (flags & 1) continue;
      const end = Math.min(offset + length, before.length, volume.bytes.length);
      if (offset < end && !before.subarray(offset, end).equals(volume.bytes.subarray(offset, end))) {
        throw new Disagreement(`${name} is said not to have changed since ${snapshot} at ${offset}, and has`);
      }
    }
  }

  async #succeed(name: string, fields: Parameters<RawNbd['command']>[0], payload?: Buffer): Promise<void> {
    await this.#command(name, fields, payload);
  }

  async #command(name: string, fields: Parameters<RawNbd['command']>[0], payload?: Buffer): Promise<Answer> {
    const { client } = await this.#export(name, []);
    const answer = await client.command(fields, payload);
    if (answer.error !== 0)
      throw new Disagreement(`command ${fields.type} on ${name}: error ${answer.error}`);
    return answer;
  }

  async #export(name: string, contexts: string[]): Promise<Opened> {
    const key = [name, ...contexts].join(' ');
    const known = this.#open.get(key);
    if (known) return known;
    // Every other export with extended headers: which ones says the order in which a history opens them.
    const extended = this.#opened++ % 2 === 1;
    const opened = await RawNbd.open(this.#daemon.nbdPath, name, { contexts, extended });
    const inModel = name.includes('@') ? null : this.#model.volume(name).bytes.length;
    if (inModel !== null && opened.info.size !== BigInt(inModel)) {
      throw new Disagreement(`${name} has ${opened.info.size} bytes, the model ${inModel}`);
    }
    this.#open.set(key, opened);
    return opened;
  }

  /** Closes every connection to an export, and those whose contexts name one of its snapshots. */
  async #close(exportName: string): Promise<void> {
    const [volume, snapshot] = exportName.split('@') as [string, string | undefined];
    for (const [key, { client }] of this.#open) {
      const [name, ...contexts] = key.split(' ');
      const usesSnapshot = name === volume && contexts.includes(`qemu:dirty-bitmap:${snapshot}`);
      if (name !== exportName && !usesSnapshot) continue;
      this.#open.delete(key);
      await client.leave();
    }
  }

  async #closeAll(): Promise<void> {
    for (const { client } of this.#open.values()) await client.leave();
    this.#open.clear();
  }
}

/** The code a sync is refused with; null: it is not. */
function refusalOf(before: Buffer, content: Buffer, grow: boolean): string | null {
  if (content.length > before.length && !grow) return 'sync-source-larger';
  const damaged = [before, content].some((bytes) => swapIn(bytes) === 'damaged');
  return damaged ? 'identity-damaged' : null;
}
