// A volume under load with what is known of it, and the judgement: one owner, no acknowledged write lost, one path of snapshots that are what they
// were at every host, stores that are sound.

import { createHash } from 'node:crypto';
import type { RouteDetails } from '../../src/coordinator/results.js';
import { until } from '../support/waiting.js';
import { type Installation, SELDOM } from './installation.js';
import { Load } from './load.js';
import type { HostParty } from './parties.js';

const READ_BYTES = 4 << 20;
/** Of a chain that grows only so many are read each time: the last ones, and some of the others in turn. */
const READ_LAST = 4;
const READ_IN_TURN = 4;
const OWNERS: readonly string[] = ['ACTIVE', 'OUTGOING'];

interface Known {
  name: string;
  id: string;
  /** What is wrong with its bytes as far as the writers know. */
  check: (bytes: Buffer) => string[];
  /** Of its bytes when they were first read. */
  sha256: string | null;
}

export class Subject {
  readonly name: string;
  readonly load: Load;
  readonly #site: Installation;
  /** In the order of the lineage. */
  readonly #known: Known[] = [];
  #asked = 0;
  #turn = 0;

  constructor(site: Installation, name: string) {
    this.#site = site;
    this.name = name;
    this.load = new Load(() => site.hosts.values(), name);
  }

  static async make(
    site: Installation,
    { name, host, sizeBytes }: { name: string; host: string; sizeBytes: number },
  ): Promise<Subject> {
    await site.host(host).daemon.api.createVolume(name, sizeBytes);
    await site.said('route', 'claim', name, '--host', host);
    return new Subject(site, name);
  }

  get snapshots(): number {
    return this.#known.length;
  }

  /** Taken by the coordinator; asked again under the same name until it is: then it is one, however often it was asked. */
  async snapshot(): Promise<void> {
    const name = `${this.name}-${++this.#asked}`;
    const { made, check } = await this.load.around(() =>
      until(
        `snapshot ${name}`,
        async () => {
          const words = ['snapshot', 'create', `${this.name}@${name}`, '--via', 'coordinator'];
          const { code, stdout, stderr } = await this.#site.typed('--json', ...words);
          if (code === 0) return idIn(JSON.parse(stdout));
          if (/"code":"snapshot-exists"/.test(stderr + stdout)) return 'exists';
          return null;
        },
        SELDOM,
      ),
    );
    this.#known.push({ name, id: made, check, sha256: null });
  }

  async route(): Promise<RouteDetails> {
    return this.#site.json<RouteDetails>('route', 'show', this.name);
  }

  /** The host that owns it, once the move is over and everybody says the same. */
  async settled(): Promise<HostParty> {
    let last = '';
    try {
      return await until(
        'the volume to be settled',
        async () => {
          const { code, stdout, stderr } = await this.#site.typed('--json', 'route', 'show', this.name);
          if (code !== 0) {
            last = stderr;
            return null;
          }
          const { route } = JSON.parse(stdout) as RouteDetails;
          const states = await this.states();
          last = `${route.status}, at ${route.active.primary} under epoch ${route.epoch}, move ${route.journal?.phase ?? 'over'}; ${[...states].map(([host, { state, epoch }]) => `${host} ${state}/${epoch}`).join(', ')}`;
          const owners = [...states].filter(([, { state }]) => OWNERS.includes(state));
          if (route.status !== 'open' || route.journal !== null || owners.length !== 1) return null;
          const [[owner, { epoch }]] = owners as [[string, { state: string; epoch: number }]];
          return owner === route.active.primary && epoch === route.epoch ? this.#site.host(owner) : null;
        },
        SELDOM,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}: ${last}`);
    }
  }

  /** What each host says that it is for the volume. */
  async states(): Promise<Map<string, { state: string; epoch: number }>> {
    const states = new Map<string, { state: string; epoch: number }>();
    for (const host of this.#site.hosts.values())
      if (host.isUsable) states.set(host.name, await host.stateOf(this.name));
    return states;
  }

  /** Everything that is wrong, once it is settled; of a long chain a part of the snapshots is read, or all. */
  async problems(how: 'part' | 'all' = 'part'): Promise<string[]> {
    const owner = await this.settled();
    const found = await this.load.verify();
    const read = how === 'all' ? this.#known : this.#toBeRead();
    for (const host of this.#site.hosts.values()) {
      const wrong = await this.#wrongAt(host, { owner, read });
      found.push(...wrong.map((problem) => `${host.name}: ${problem}`));
      const { clean, raw } = await host.daemon.api.check();
      if (!clean) found.push(`${host.name}: its store is not sound: ${JSON.stringify(raw).slice(0, 500)}`);
    }
    return found;
  }

  /** The chain there is a part of the one path, from its beginning; at the owner all of it. */
  async #wrongAt(
    host: HostParty,
    { owner, read }: { owner: HostParty; read: readonly Known[] },
  ): Promise<string[]> {
    const { state } = await host.stateOf(this.name);
    if (state === 'NONE' || state === 'GONE') return [];
    const listed = await host.daemon.api.call<{ name: string }[]>(
      'GET',
      `/v1/snapshots?volume=${encodeURIComponent(this.name)}`,
    );
    const names = listed.map(({ name }) => name.slice(name.indexOf('@') + 1));
    const wanted = this.#known.map(({ name }) => name);
    const there = host === owner ? wanted : wanted.slice(0, names.length);
    if (names.join() !== there.join()) return [`has the snapshots ${names.join()}, not ${there.join()}`];
    const found: string[] = [];
    for (const known of read.filter(({ name }) => names.includes(name)))
      found.push(...(await this.#changed(host, known)));
    return found;
  }

  #toBeRead(): Known[] {
    const before = this.#known.slice(0, -READ_LAST);
    const inTurn = Array.from({ length: Math.min(READ_IN_TURN, before.length) }, () => {
      this.#turn = (this.#turn + 1) % before.length;
      return before[this.#turn]!;
    });
    return [...inTurn, ...this.#known.slice(-READ_LAST)];
  }

  async #changed(host: HostParty, known: Known): Promise<string[]> {
    const bytes = await bytesOf(host, `${this.name}@${known.name}`);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const first = known.sha256 === null ? known.check(bytes) : [];
    known.sha256 ??= sha256;
    if (sha256 !== known.sha256) return [`${known.name} is not what it was`];
    return first.map((problem) => `${known.name}: ${problem}`);
  }
}

/** All of an export. */
export async function bytesOf(host: HostParty, exportName: string): Promise<Buffer> {
  const client = await host.connect(exportName);
  try {
    const parts: Buffer[] = [];
    const size = Number(client.sizeBytes);
    for (let at = 0; at < size; at += READ_BYTES)
      parts.push(await client.read(BigInt(at), Math.min(READ_BYTES, size - at)));
    return Buffer.concat(parts);
  } finally {
    client.destroy();
  }
}

function idIn(value: unknown): string {
  return /[0-9a-f]{32}/.exec(JSON.stringify(value))?.[0] ?? 'taken';
}
