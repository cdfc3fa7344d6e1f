// A whole installation in one process, with nothing in it that is not real: a coordinator on its own database behind a listener, and agents
// of cells with their stores, data planes and NBD listeners, all on loopback.

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { CoordinatorSettings } from '../../src/agent/coordinator-settings.js';
import { copyCredentialsOf } from '../../src/agent/member-credentials.js';
import { Membership } from '../../src/agent/membership.js';
import { Coordinator } from '../../src/coordinator/coordinator.js';
import { LevelStore } from '../../src/coordinator/level-store.js';
import type { Settings } from '../../src/coordinator/settings.js';
import { SoleLeadership } from '../../src/coordinator/sole-leadership.js';
import type { Container, Snapshot } from '../../src/model/entities.js';
import { NbdClient } from '../../src/nbd-client/nbd-client.js';
import type { TlsWish } from '../../src/nbd-client/tls.js';
import { Operations } from '../../src/operations/operations.js';
import { loadPlane } from '../../src/plane/addon.js';
import type { Call } from '../../src/protocol/exchange.js';
import { byCertificate, byToken, makeListener } from '../../src/protocol/listener.js';
import { CoordinatorServer } from '../../src/protocol/server.js';
import { systemClock } from '../../src/protocol/timing.js';
import { Tokens } from '../../src/protocol/token-file.js';
import { Certificates } from './certificates.js';
import { KeptLog } from './coordinator-scene.js';
import { until } from './waiting.js';

const READ_BYTES = 16n << 20n;
const CALL_MS = 60_000;

/** Where things are done at once that take their time in production. */
const HURRIED: Partial<Settings> = {
  copyPollMs: 20,
  backoffMs: { first: 10, last: 200 },
  close: { bytes: 1 << 20, milliseconds: 200, rounds: 4 },
};

const tokenOf = (host: string) => `token-of-${host}-0123456789`;

export interface SiteOptions {
  /** Certificates of hosts, for the coordinator and for copies; else tokens, and everything goes in clear. */
  tls?: boolean;
  settings?: Partial<Settings>;
}

export class Site {
  readonly directory = mkdtempSync(join(tmpdir(), 'cellblock-site-'));
  readonly log = new KeptLog();
  readonly agents = new Map<string, SiteAgent>();
  readonly certificates: Certificates | null;
  readonly #coordinator: Coordinator;
  readonly #server: CoordinatorServer;
  readonly #listener: Server;
  readonly #store: LevelStore;

  private constructor(
    places: Readonly<Record<string, string>>,
    { store, certificates }: { store: LevelStore; certificates: Certificates | null },
    options: SiteOptions,
  ) {
    this.#store = store;
    this.certificates = certificates;
    const tokens = join(this.directory, 'tokens');
    const lines = Object.entries(places).map(([host, cell]) => `${host} ${cell} ${tokenOf(host)}\n`);
    writeFileSync(tokens, lines.join(''), { mode: 0o600 });
    const known = Tokens.read(tokens);
    this.#coordinator = new Coordinator({
      store,
      leadership: new SoleLeadership({ coordinator: 'c1', address: 'wss://127.0.0.1:1' }),
      clock: systemClock,
      log: this.log,
      freshId: () => randomBytes(16).toString('hex'),
      random: Math.random,
      settings: { ...HURRIED, ...options.settings },
    });
    this.#listener = makeListener(
      certificates && {
        certificate: certificates.read('server-cert.pem'),
        key: certificates.read('server-key.pem'),
        clientCa: certificates.read('ca-cert.pem'),
      },
    );
    this.#server = new CoordinatorServer({
      coordinator: 'c1',
      identify: certificates ? byCertificate : byToken(() => known),
      log: this.log,
      clock: systemClock,
      application: this.#coordinator,
    });
    this.#server.attach(this.#listener);
  }

  /** `places`: the cell of each host. */
  static async begin(
    t: Test,
    places: Readonly<Record<string, string>>,
    options: SiteOptions = {},
  ): Promise<Site> {
    const state = mkdtempSync(join(tmpdir(), 'cellblock-state-'));
    const certificates = options.tls ? await Certificates.make(join(state, 'certificates')) : null;
    const store = await LevelStore.open(join(state, 'state'));
    const site = new Site(places, { store, certificates }, options);
    t.teardown(async () => {
      await site.#end();
      rmSync(state, { recursive: true, force: true });
    });
    await new Promise<void>((resolve) => site.#listener.listen(0, '127.0.0.1', resolve));
    site.#coordinator.start(site.#server);
    await until('a coordinator that leads', () => site.#coordinator.isReady);
    for (const [host, cell] of Object.entries(places)) {
      await certificates?.issueHost(host, cell);
      site.agents.set(host, await SiteAgent.start(site, { host, cell }));
    }
    return site;
  }

  get address(): string {
    const { port } = this.#listener.address() as AddressInfo;
    return this.certificates ? `wss://localhost:${port}` : `ws://127.0.0.1:${port}`;
  }

  agent(host: string): SiteAgent {
    return this.agents.get(host)!;
  }

  tokenFile(host: string): string {
    const path = join(this.directory, `${host}.token`);
    writeFileSync(path, `${tokenOf(host)}\n`, { mode: 0o600 });
    return path;
  }

  async #end(): Promise<void> {
    for (const agent of this.agents.values()) await agent.stop();
    await this.#coordinator.stop();
    this.#server.stop();
    this.#listener.close();
    this.#listener.closeAllConnections();
    await this.#store.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** What a verb gives that somebody types at this host; throws what it is refused with. */
  async call<Result>(host: string, call: Call): Promise<Result> {
    const client = this.agent(host).operations.parts.cells.link.client!;
    const outcome = await client.call(call, { timeoutMs: CALL_MS });
    if (outcome.kind === 'done') return outcome.value as Result;
    throw new Error(outcome.kind === 'failed' ? `${outcome.code}: ${outcome.message}` : 'no answer');
  }

  claim(volume: string, host: string): Promise<{ volume: string; snapshots: number }> {
    return this.call(host, { verb: 'route-claim', arguments: { volume, host } });
  }

  snapshot(volume: string, name: string): Promise<{ seq: number; host: string; id: string }> {
    const [host] = this.agents.keys();
    return this.call(host!, { verb: 'snapshot-create', arguments: { snapshots: [{ volume, name }] } });
  }

  /** Until it is over. */
  async move(volume: string, cell: string, { withBases = false } = {}): Promise<string | null> {
    const [host] = this.agents.keys();
    await this.call(host!, {
      verb: 'move-start',
      arguments: { volume, cell, withBases, dryRun: false },
    });
    const status: Call = { verb: 'move-status', arguments: { volume } };
    const ended = await until(`the move of ${volume} to ${cell}`, async () => {
      const now = await this.call<{ result: string | null }>(host!, status);
      return now.result === null ? null : now;
    });
    return ended.result;
  }
}

export class SiteAgent {
  readonly host: string;
  readonly operations: Operations;
  readonly address: string;
  readonly #membership: Membership;
  readonly #tls: TlsWish | null;

  private constructor(
    host: string,
    parts: { operations: Operations; address: string; membership: Membership; tls: TlsWish | null },
  ) {
    this.host = host;
    this.operations = parts.operations;
    this.address = parts.address;
    this.#membership = parts.membership;
    this.#tls = parts.tls;
  }

  static async start(site: Site, { host, cell }: { host: string; cell: string }): Promise<SiteAgent> {
    const directory = join(site.directory, host);
    mkdirSync(directory);
    const { certificates } = site;
    const settings: CoordinatorSettings = {
      addresses: [site.address],
      host,
      cell,
      tls: certificates
        ? {
            ca: certificates.file('ca-cert.pem'),
            certificate: certificates.file(`${host}-cert.pem`),
            key: certificates.file(`${host}-key.pem`),
          }
        : {},
      tokenFile: certificates ? null : site.tokenFile(host),
      serveAloneAfterMs: null,
      announce: null,
      copyBytesPerSecond: null,
    };
    const operations = await Operations.open({
      directory: join(directory, 'store'),
      plane: loadPlane(),
      log: site.log,
      reserveBytes: 0n,
      ballastBytes: 0,
      cells: { ...settings, copyCredentials: () => copyCredentialsOf(settings) },
    });
    if (certificates)
      operations.plane.setTls({
        mode: 'forced',
        certificate: certificates.read('server-cert.pem'),
        key: certificates.read('server-key.pem'),
        clientCa: certificates.read('ca-cert.pem'),
        hostCa: certificates.read('ca-cert.pem'),
        clients: 'required',
        psk: null,
      });
    const address = operations.listen('tcp:127.0.0.1:0');
    const membership = new Membership({
      settings,
      operations,
      listeners: [address],
      version: '0.0.0',
      log: site.log,
    });
    membership.start();
    await until(`${host} is welcomed`, () => operations.parts.cells.isServing);
    const tls = certificates && {
      ca: certificates.read('ca-cert.pem'),
      certificate: certificates.read('client-cert.pem'),
      key: certificates.read('client-key.pem'),
      serverName: 'localhost',
    };
    return new SiteAgent(host, { operations, address, membership, tls });
  }

  async stop(): Promise<void> {
    this.#membership.stop();
    await this.operations.close();
  }

  /** As a client of people, who is no host. */
  connect(exportName: string): Promise<NbdClient> {
    return NbdClient.connect({ address: this.address, exportName, tls: this.#tls });
  }

  container(name: string): Container {
    return this.operations.parts.catalog.containerNamed(name)!;
  }

  /** Hidden ones included; oldest first. */
  snapshotsOf(name: string): Snapshot[] {
    return this.operations.parts.catalog.snapshotsOf(this.container(name));
  }

  /** What clients read of a snapshot. */
  async bytesOf(name: string, snapshot: string): Promise<Buffer> {
    const client = await this.connect(`${name}@${snapshot}`);
    try {
      const parts: Buffer[] = [];
      for (let at = 0n; at < client.sizeBytes; at += READ_BYTES) {
        const left = client.sizeBytes - at;
        parts.push(await client.read(at, Number(left < READ_BYTES ? left : READ_BYTES)));
      }
      return Buffer.concat(parts);
    } finally {
      client.destroy();
    }
  }

  get counts() {
    return { ...this.operations.parts.copies.counts };
  }
}
