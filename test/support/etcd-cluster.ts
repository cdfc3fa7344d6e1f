// A real etcd of three members on loopback, each with a directory of its own, that can be killed, stopped, and cut off from one another and from
// clients. Everything between two of them goes through relays of ours: the one that a member dials learns who dials from the kernel's table of
// sockets.

import { randomInt } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { EtcdClient, type EtcdOptions } from '../../src/coordinator/etcd-client.js';
import type { Certificates } from './certificates.js';
import { missing, Running } from './programs.js';
import { until } from './waiting.js';

const LOWEST_PORT = 20_000;

/** Why tests with etcd are left out, or false. */
export function noEtcd(): string | false {
  const lacking = missing('etcd');
  return lacking && `${lacking} (Debian: apt-get install etcd-server)`;
}

/** A port of loopback that leads to another one, as long as nobody holds it up. What was held up comes late, not never. */
export class Passage {
  readonly #server: net.Server;
  readonly #target: number;
  /** Whose packets are held up; asked for each connection. */
  readonly #isHeld: (dialledFrom: number) => boolean;
  readonly #links = new Set<{ near: net.Socket; far: net.Socket; from: number; held: boolean }>();

  private constructor(target: number, isHeld: (dialledFrom: number) => boolean) {
    this.#target = target;
    this.#isHeld = isHeld;
    // Both directions are joined by hand, so that either can be held up.
    this.#server = net.createServer({ pauseOnConnect: true, noDelay: true }, (near) => this.#join(near));
  }

  static async to(target: number, isHeld: (dialledFrom: number) => boolean): Promise<Passage> {
    const passage = new Passage(target, isHeld);
    await new Promise<void>((resolve) => passage.#server.listen(0, '127.0.0.1', resolve));
    return passage;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** What is held up, and what is not, is to be asked again. */
  look(): void {
    for (const link of this.#links) {
      const held = this.#isHeld(link.from);
      if (held === link.held) continue;
      link.held = held;
      for (const socket of [link.near, link.far]) held ? socket.pause() : socket.resume();
    }
  }

  close(): void {
    this.#server.close();
    for (const { near, far } of this.#links) for (const socket of [near, far]) socket.destroy();
  }

  #join(near: net.Socket): void {
    const from = near.remotePort ?? 0;
    const far = net.connect({ port: this.#target, host: '127.0.0.1', noDelay: true });
    const link = { near, far, from, held: this.#isHeld(from) };
    this.#links.add(link);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('data', (bytes: Buffer) => {
        if (!other.destroyed) other.write(bytes);
      });
      one.on('end', () => other.end());
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#links.delete(link);
        other.destroy();
      });
      if (link.held) one.pause();
      else one.resume();
    }
  }
}

interface Member {
  name: string;
  clientPort: number;
  arguments: string[];
  process: Running | null;
  isStopped: boolean;
  passage: Passage;
}

/** The ways of one coordinator to the members, which can be cut. */
export class Ways {
  readonly #passages: Passage[];
  readonly #held: Set<number>;

  constructor(passages: Passage[], held: Set<number>) {
    this.#passages = passages;
    this.#held = held;
  }

  get endpoints(): string[] {
    return this.#passages.map(({ port }) => `http://127.0.0.1:${port}`);
  }

  /** Nothing gets through, to these members or all; or everything again. */
  cut(members: number[] = this.#passages.map((_, index) => index)): void {
    for (const member of members) this.#held.add(member);
    for (const passage of this.#passages) passage.look();
  }

  mend(): void {
    this.#held.clear();
    for (const passage of this.#passages) passage.look();
  }
}

export class EtcdCluster {
  readonly #members: Member[] = [];
  readonly #closers: (() => void)[] = [];
  /** Members whose packets to and from the others are held up. */
  readonly #isolated = new Set<number>();
  #prefixes = 0;
  readonly #certificates: Certificates | null;
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'cellblock-etcd-'));

  private constructor(certificates: Certificates | null) {
    this.#certificates = certificates;
  }

  /** Ready to serve; ended with the test. */
  static async begin(t: Test, members = 3, more: { certificates?: Certificates } = {}): Promise<EtcdCluster> {
    const cluster = new EtcdCluster(more.certificates ?? null);
    t.teardown(() => cluster.end());
    await cluster.#make(members);
    for (let index = 0; index < members; index++) cluster.start(index);
    await until('etcd to serve', () =>
      cluster.#look(() => cluster.leader().then((leader) => leader !== null)),
    );
    return cluster;
  }

  get size(): number {
    return this.#members.length;
  }

  get endpoints(): string[] {
    return this.#members.map(({ clientPort }) => `${this.#scheme}://127.0.0.1:${clientPort}`);
  }

  get #scheme(): string {
    return this.#certificates ? 'https' : 'http';
  }

  /** Another part of the keys for everybody who asks. */
  prefix(): string {
    return `/test-${++this.#prefixes}/`;
  }

  client(t: Test, more: Partial<EtcdOptions> = {}): EtcdClient {
    const client = new EtcdClient({ endpoints: this.endpoints, ...more });
    t.teardown(() => client.close());
    return client;
  }

  /** Ways of their own for one client. */
  async ways(): Promise<Ways> {
    const held = new Set<number>();
    const passages = await Promise.all(
      this.#members.map(({ clientPort }, index) => Passage.to(clientPort, () => held.has(index))),
    );
    this.#closers.push(() => {
      for (const passage of passages) passage.close();
    });
    return new Ways(passages, held);
  }

  start(index: number): void {
    const member = this.#members[index]!;
    member.process = new Running('etcd', member.arguments, { env: { ETCD_UNSUPPORTED_ARCH: process.arch } });
    member.isStopped = false;
  }

  /** As by kill -9. */
  async kill(index: number): Promise<void> {
    await this.#members[index]!.process?.stop('SIGKILL');
  }

  /** It does nothing, and its connections stay. */
  pause(index: number): void {
    this.#members[index]!.process?.child.kill('SIGSTOP');
    this.#members[index]!.isStopped = true;
  }

  goOn(index: number): void {
    this.#members[index]!.process?.child.kill('SIGCONT');
    this.#members[index]!.isStopped = false;
  }

  /** Nothing gets through between this member and the others; clients reach it. */
  isolate(index: number): void {
    this.#isolated.add(index);
    for (const { passage } of this.#members) passage.look();
  }

  rejoin(): void {
    this.#isolated.clear();
    for (const { passage } of this.#members) passage.look();
  }

  /** Everybody runs and reaches everybody. */
  async heal(): Promise<void> {
    this.rejoin();
    for (const [index, { process, isStopped }] of this.#members.entries()) {
      if (isStopped) this.goOn(index);
      if (process?.isOver) this.start(index);
    }
    await until('all members to follow one leader', async () => {
      const said = await Promise.all(this.#members.map((_, index) => this.#status(index)));
      return said.every((status) => status?.leader && status.leader === said[0]?.leader);
    });
  }

  /** The member that the others follow; null: none that a majority knows. */
  async leader(): Promise<number | null> {
    const said = await Promise.all(this.#members.map((_, index) => this.#status(index)));
    for (const [index, status] of said.entries()) {
      const followers = said.filter((other) => other?.leader && other.leader === status?.id);
      if (followers.length > this.size / 2) return index;
    }
    return null;
  }

  async end(): Promise<void> {
    await Promise.all(this.#members.map(async ({ process }) => process?.stop('SIGKILL')));
    for (const { passage } of this.#members) passage.close();
    for (const close of this.#closers) close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** What the members said, for messages. */
  get story(): string {
    return this.#members.map(({ name, process }) => `${name}:\n${process?.output.slice(-2000)}`).join('\n');
  }

  async #make(count: number): Promise<void> {
    const directory = this.#directory;
    const ports = await freePorts(count * 2);
    for (let index = 0; index < count; index++) {
      const passage = await Passage.to(ports[index]!, (from) => this.#isHeld(index, from));
      const [name, clientPort] = [`m${index + 1}`, ports[count + index]!];
      this.#members.push({ name, clientPort, arguments: [], process: null, isStopped: false, passage });
    }
    const urls = this.#members.map(({ name, passage }) => `${name}=http://127.0.0.1:${passage.port}`);
    for (const [index, member] of this.#members.entries()) {
      const { name, clientPort, passage } = member;
      const client = `${this.#scheme}://127.0.0.1:${clientPort}`;
      member.arguments = [
        ['--name', name],
        ['--data-dir', path.join(directory, name)],
        ['--listen-peer-urls', `http://127.0.0.1:${ports[index]}`],
        ['--initial-advertise-peer-urls', `http://127.0.0.1:${passage.port}`],
        ['--listen-client-urls', client],
        ['--advertise-client-urls', client],
        ['--initial-cluster', urls.join(',')],
        ['--initial-cluster-token', path.basename(directory)],
        ['--logger', 'zap'],
        ['--log-outputs', 'stderr'],
        ...this.#tlsArguments(),
      ].flat();
    }
  }

  #tlsArguments(): string[][] {
    const certificates = this.#certificates;
    if (!certificates) return [];
    return [
      ['--cert-file', certificates.file('server-cert.pem')],
      ['--key-file', certificates.file('server-key.pem')],
      ['--trusted-ca-file', certificates.file('ca-cert.pem')],
      ['--client-cert-auth'],
    ];
  }

  /** Packets between a member and the one that has dialled it from this port. */
  #isHeld(dialled: number, port: number): boolean {
    if (this.#isolated.size === 0) return false;
    if (this.#isolated.has(dialled)) return true;
    return this.#isolated.has(this.#memberAt(port));
  }

  #memberAt(port: number): number {
    const inode = inodeOf(port);
    return this.#members.findIndex(
      ({ process }) => process && !process.isOver && hasSocket(process.pid, inode),
    );
  }

  async #status(index: number): Promise<{ leader: string; id: string } | null> {
    const certificates = this.#certificates;
    const tls = certificates && {
      ca: certificates.read('ca-cert.pem'),
      certificate: certificates.read('client-cert.pem'),
      key: certificates.read('client-key.pem'),
    };
    const client = new EtcdClient({ endpoints: [this.endpoints[index]!], tls, deadlineMs: 500 });
    try {
      const { answer } = await client.ask<{ leader?: string; header: { member_id: string } }>(
        '/v3/maintenance/status',
        {},
      );
      return answer.leader ? { leader: answer.leader, id: answer.header.member_id } : null;
    } catch {
      return null;
    } finally {
      client.close();
    }
  }

  async #look<T>(look: () => Promise<T>): Promise<T> {
    const ended = this.#members.find(({ process }) => process?.isOver);
    if (ended) throw new Error(`etcd has ended: ${ended.process!.output.slice(-3000)}`);
    return look();
  }
}

/**
 * Ports of loopback that nobody has. Below those the kernel gives to whoever dials or asks for any, so that nobody is given one of them
 * before its member listens, nor while a killed member is down; who else chooses from these looks whether they are free, as this does.
 */
async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  for (let attempt = 0; found.length < count; attempt++) {
    if (attempt === 1000) throw new Error('no ports of loopback are free');
    const port = LOWEST_PORT + randomInt(lowestEphemeral() - LOWEST_PORT);
    if (!found.includes(port) && (await isFree(port))) found.push(port);
  }
  return found;
}

function lowestEphemeral(): number {
  const [lowest] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').split('\t');
  return Math.max(Number(lowest), LOWEST_PORT + 1000);
}

function isFree(port: number): Promise<boolean> {
  const server = net.createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

/** Of the socket that is bound to this port of loopback and connected; an empty text: there is none. */
function inodeOf(port: number): string {
  const wanted = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n')) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    if (local === wanted && state !== '0A' && inode !== '0') return inode ?? '';
  }
  return '';
}

function hasSocket(pid: number, inode: string): boolean {
  if (inode === '') return false;
  try {
    return readdirSync(`/proc/${pid}/fd`).some(
      (fd) => linkOf(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`,
    );
  } catch {
    return false; // it ended just now
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
