// A whole installation of real processes in a network of its own: four agents of two cells, three coordinators, three members of etcd, each in a
// namespace. All of them prove who they are by certificates, and everything between hosts goes in TLS.
//
// People and clients reach an agent by its unix sockets, which no network can cut: so a host that is cut off from all others goes on being used.

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runCli } from '../cli/run-cli.js';
import { Certificates } from '../support/certificates.js';
import { Daemon, type Teardown } from '../support/daemon.js';
import { NetworkLab, type Spot } from '../support/network-lab.js';
import { Running, repositoryRoot } from '../support/programs.js';
import { until } from '../support/waiting.js';
import { Gate } from './gate.js';
import { CoordinatorParty, EtcdParty, HostParty, type Party } from './parties.js';

export const CELLS: Readonly<Record<string, string>> = { h1: 'east', h2: 'east', h3: 'west', h4: 'west' };
const COORDINATORS = ['c1', 'c2', 'c3'];
const MEMBERS = ['m1', 'm2', 'm3'];
/** The last parts of addresses. */
const FIRST = { hosts: 11, coordinators: 31, members: 41 };
const PORT = { coordinator: 7443, nbd: 10809, client: 2379, peer: 2380, gate: 7451 };

/** What is asked of processes that have other things to do. */
export const SELDOM = { everyMs: 100, hangMs: 240_000 };

export interface InstallationOptions {
  /** `etcd`: three coordinators and three members; `directory`: one coordinator with its own database. */
  state?: 'etcd' | 'directory';
  hosts?: readonly string[];
  /** What coordinators store goes through a gate (etcd only). */
  withStateGates?: boolean;
}

export class Installation {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'cellblock-cells-'));
  readonly lab = new NetworkLab();
  readonly hosts = new Map<string, HostParty>();
  readonly coordinators = new Map<string, CoordinatorParty>();
  readonly members = new Map<string, EtcdParty>();
  readonly #certificates: Certificates;
  readonly #state: 'etcd' | 'directory';

  private constructor(certificates: Certificates, state: 'etcd' | 'directory') {
    this.#certificates = certificates;
    this.#state = state;
  }

  /** All of it up and connected; removed by the teardown. */
  static async begin(t: Teardown, options: InstallationOptions = {}): Promise<Installation> {
    const { state = 'etcd', hosts = Object.keys(CELLS), withStateGates = false } = options;
    // Each program that runs listens for the end of this one.
    process.setMaxListeners(100);
    const keys = mkdtempSync(path.join(tmpdir(), 'cellblock-keys-'));
    t.teardown(() => rmSync(keys, { recursive: true, force: true }));
    const site = new Installation(await Certificates.make(keys), state);
    t.teardown(() => site.#end());
    if (state === 'etcd') await site.#startEtcd();
    await site.#startCoordinators(state === 'etcd' ? COORDINATORS : ['c1'], withStateGates);
    for (const [at, host] of hosts.entries()) await site.#startHost(host, FIRST.hosts + at);
    await site.connected();
    return site;
  }

  get parties(): Party[] {
    return [...this.hosts.values(), ...this.coordinators.values(), ...this.members.values()];
  }

  host(name: string): HostParty {
    return this.hosts.get(name)!;
  }

  /** Every agent is taken by a coordinator. */
  async connected(hosts: Iterable<HostParty> = this.hosts.values()): Promise<void> {
    for (const host of hosts) await until(`${host.name} to be connected`, () => host.isConnected(), SELDOM);
  }

  /** The coordinator that the agents are connected to; null: they do not agree, or none has one. */
  async leadingCoordinator(): Promise<CoordinatorParty | null> {
    const host = await this.#someHost();
    const { connected, coordinator } = (await host?.standing()) ?? { connected: false, coordinator: null };
    return connected && coordinator !== null ? (this.coordinators.get(coordinator) ?? null) : null;
  }

  /** The member of etcd that the others follow. */
  async leadingMember(): Promise<EtcdParty | null> {
    const gate = [...this.hosts.values()].find(({ harmed }) => harmed === null)!.gate;
    for (const member of this.members.values()) {
      const url = `http://${member.spot.address}:${PORT.client}/v3/maintenance/status`;
      const said = (await gate.ask(url)) as { leader?: string; header: { member_id: string } } | null;
      if (said?.leader && said.leader === said.header.member_id) return member;
    }
    return null;
  }

  /** What an operator types; at a host that is connected. Throws what it is refused with. */
  async said(...words: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.typed(...words);
    if (code !== 0) throw new Error(`cellblock ${words.join(' ')}: exit code ${code}\n${stderr}${stdout}`);
    return stdout;
  }

  async json<Value>(...words: string[]): Promise<Value> {
    return JSON.parse(await this.said('--json', ...words)) as Value;
  }

  async typed(...words: string[]) {
    const host = await until('a host that is connected', () => this.#someHost(), SELDOM);
    return runCli(words, { api: host.daemon.apiPath });
  }

  async #someHost(): Promise<HostParty | null> {
    for (const host of this.hosts.values()) if (await host.isConnected()) return host;
    return null;
  }

  async #startEtcd(): Promise<void> {
    const spots = MEMBERS.map((name, at) => this.lab.add(name, FIRST.members + at));
    const cluster = spots.map(({ name, address }) => `${name}=http://${address}:${PORT.peer}`).join(',');
    for (const spot of spots) {
      const peer = `http://${spot.address}:${PORT.peer}`;
      const client = `http://${spot.address}:${PORT.client}`;
      const disk = path.join(this.directory, spot.name);
      const words = [
        ['--name', spot.name, '--data-dir', disk],
        ['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ['--listen-client-urls', client, '--advertise-client-urls', client],
        ['--initial-cluster', cluster, '--logger', 'zap', '--log-outputs', 'stderr'],
      ].flat();
      const start = () => running(spot, ['etcd', ...words], { ETCD_UNSUPPORTED_ARCH: process.arch });
      const party = new EtcdParty(spot, { disk, start });
      this.members.set(spot.name, party);
      await party.run();
    }
  }

  async #startCoordinators(names: readonly string[], withGates: boolean): Promise<void> {
    for (const [at, name] of names.entries()) {
      const spot = this.lab.add(name, FIRST.coordinators + at);
      const tls = await this.#tlsDirectory(spot);
      const disk = path.join(this.directory, `${name}-state`);
      const gate = withGates ? await this.#stateGate(spot) : null;
      const state = this.#state === 'etcd' ? membersBy(gate) : disk;
      const listen = addressOf(spot);
      const words = ['--listen', listen, '--name', name, '--tls', tls, '--state', state];
      const program = path.join(repositoryRoot, 'dist/src/main/cellblock-coordinator.js');
      const start = () => running(spot, [process.execPath, program, ...words]);
      const party = new CoordinatorParty(spot, { disk, start, gate });
      this.coordinators.set(name, party);
      await party.run();
    }
  }

  #stateGate(spot: Spot): Promise<Gate> {
    const ways = [...this.members.values()].map((member, at) => ({
      port: PORT.gate + at,
      address: `http://${member.spot.address}:${PORT.client}`,
    }));
    return Gate.besideCoordinator(spot, { ways });
  }

  async #tlsDirectory({ name, address }: Spot): Promise<string> {
    const directory = path.join(this.directory, `${name}-tls`);
    mkdirSync(directory, { recursive: true });
    await this.#certificates.issue({
      files: name,
      subject: `/CN=${name}`,
      alternativeNames: `IP:${address},DNS:${name}`,
    });
    const from = (file: string) => this.#certificates.file(file);
    await copyFile(from('ca-cert.pem'), path.join(directory, 'ca.pem'));
    await copyFile(from(`${name}-cert.pem`), path.join(directory, 'cert.pem'));
    await copyFile(from(`${name}-key.pem`), path.join(directory, 'key.pem'));
    return directory;
  }

  async #startHost(name: string, number: number): Promise<void> {
    const cell = CELLS[name]!;
    const spot = this.lab.add(name, number);
    await this.#certificates.issueHost(name, cell);
    const file = (of: string) => this.#certificates.file(of);
    const own = { certificate: file(`${name}-cert.pem`), key: file(`${name}-key.pem`) };
    const ca = file('ca-cert.pem');
    const ways = [...this.coordinators.values()].map(({ spot: there }, at) => ({
      port: PORT.gate + at,
      address: addressOf(there),
    }));
    const server = { certificate: file('server-cert.pem'), key: file('server-key.pem') };
    const gate = await Gate.besideAgent(spot, { ca, server, host: own, ways });
    const listen = `tcp:${spot.address}:${PORT.nbd}`;
    const options = {
      directory: path.join(this.directory, name),
      args: ['--nbd', listen],
      entrance: spot.entrance,
      configuration: {
        coordinator: {
          addresses: ways.map(({ port }) => `wss://127.0.0.1:${port}`),
          host: name,
          cell,
          tls: { ca, ...own },
          announce: [listen],
          serve_alone_after: 'never',
        },
        nbd: {
          allow_remote: true,
          tls: { mode: 'selective', ...own, client_ca: ca, clients: 'optional' },
        },
      },
    };
    mkdirSync(options.directory, { recursive: true });
    const daemon = await Daemon.start({ teardown: () => undefined }, options);
    this.hosts.set(name, new HostParty(spot, { cell, daemon, gate }));
  }

  async #end(): Promise<void> {
    for (const party of this.parties) await party.end();
    this.lab.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The state of a coordinator: at the members of etcd, or at the gate before them. */
function membersBy(gate: Gate | null): string {
  const places = MEMBERS.map((_, at) =>
    gate ? `127.0.0.1:${PORT.gate + at}` : `10.77.0.${FIRST.members + at}:${PORT.client}`,
  );
  return `etcd://${places.join(',')}`;
}

const addressOf = ({ address }: Spot) => `wss://${address}:${PORT.coordinator}`;

function running(spot: Spot, words: string[], env: Record<string, string> = {}): Running {
  const [first, ...rest] = [...spot.entrance, ...words];
  return new Running(first!, rest, { env });
}
