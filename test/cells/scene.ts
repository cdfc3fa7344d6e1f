// One volume on its own small installation, brought by real crashes, cuts and restored disks to where a rule decides; and what `route show --explain`
// says of it then.

import { randomBytes } from 'node:crypto';
import type { Explained, RouteDetails } from '../../src/coordinator/results.js';
import { runCli } from '../cli/run-cli.js';
import type { Teardown } from '../support/daemon.js';
import { MIB } from '../support/nbd-wire.js';
import { until } from '../support/waiting.js';
import { Installation, type InstallationOptions, SELDOM } from './installation.js';
import type { CoordinatorParty, HostParty } from './parties.js';

export const VOLUME = 'disk';

export interface Shown {
  details: RouteDetails;
  explained: Explained;
  text: string;
}

export class Scene {
  readonly site: Installation;

  private constructor(site: Installation) {
    this.site = site;
  }

  /** h1 is the host of cell east, h3 that of west. */
  static async begin(t: Teardown, options: InstallationOptions = {}): Promise<Scene> {
    return new Scene(await Installation.begin(t, { state: 'directory', hosts: ['h1', 'h3'], ...options }));
  }

  /** The volume, at h1, with something in it and one snapshot. */
  async make(): Promise<void> {
    await this.h1.daemon.api.createVolume(VOLUME, 8 * MIB);
    await this.site.said('route', 'claim', VOLUME, '--host', 'h1');
    await this.write(this.h1);
    await this.snapshot('first');
  }

  get h1(): HostParty {
    return this.site.host('h1');
  }

  get h3(): HostParty {
    return this.site.host('h3');
  }

  get coordinator(): CoordinatorParty {
    return this.site.coordinators.get('c1')!;
  }

  /** Whichever coordinator it is that comes to this of what it stores; it goes no further until it is let go. */
  async held(
    label: string,
    begin: () => Promise<void>,
  ): Promise<{ party: CoordinatorParty; letGo: () => void }> {
    const all = [...this.site.coordinators.values()];
    const holds = all.map(({ gate }) => gate!.hold(label));
    await begin();
    const party = await Promise.race(holds.map(({ reached }, at) => reached.then(() => all[at]!)));
    const letGo = () => {
      for (const hold of holds) hold.release();
    };
    return { party, letGo };
  }

  /** It is in that state, and serves nobody. */
  async refused(host: HostParty, state: string): Promise<void> {
    await until(
      `${host.name} to be ${state}`,
      async () => (await host.isConnected()) && (await host.stateOf(VOLUME)).state === state,
      SELDOM,
    );
    const client = await host.connect(VOLUME).catch(() => null);
    client?.destroy();
    if (client) throw new Error(`${host.name} is ${state}, and serves the volume`);
  }

  async write(host: HostParty): Promise<void> {
    const client = await host.connect(VOLUME);
    await client.write(0n, randomBytes(MIB));
    await client.disconnect();
  }

  async snapshot(name: string): Promise<void> {
    await this.site.said('snapshot', 'create', `${VOLUME}@${name}`, '--via', 'coordinator');
  }

  /** Whatever comes of it. */
  snapshotTried(name: string) {
    return this.snapshotAt(this.h3, name);
  }

  /** Typed at this host. */
  snapshotAt(host: HostParty, name: string) {
    const words = ['--json', 'snapshot', 'create', `${VOLUME}@${name}`, '--via', 'coordinator'];
    return runCli(words, { api: host.daemon.apiPath });
  }

  /** The route and the host have this as the last snapshot, and nothing is under way. */
  headAt(seq: number): Promise<Shown> {
    return this.until(
      `snapshot ${seq} to be the last`,
      ({ route, unfinished }, { x }) =>
        unfinished.length === 0 && route.lineageHead?.seq === seq && x.lineageHead?.seq === seq,
    );
  }

  async move(cell: string): Promise<void> {
    await this.site.said('move', VOLUME, '--to', cell);
  }

  async moved(cell: string): Promise<void> {
    await this.move(cell);
    await this.until(
      'the move to be over',
      ({ route }) => route.journal === null && route.active.cell === cell,
    );
  }

  /** Neither reaches the other; both reach the coordinator. */
  cutHosts(): void {
    this.h1.spot.cutFrom(this.h3.spot);
  }

  mendHosts(): void {
    this.h1.spot.mendTo(this.h3.spot);
  }

  /** A move of which nothing is copied: the one is OUTGOING, the other RECEIVING. */
  async stuckMove(cell: string): Promise<void> {
    this.cutHosts();
    await this.move(cell);
    await this.until(
      'the copy to be begun',
      ({ route: { journal } }, { y }) => journal?.phase === 'COPYING' && y.state === 'RECEIVING',
    );
  }

  /** Until the coordinator knows and says so. */
  async until(what: string, holds: (details: RouteDetails, explained: Explained) => boolean): Promise<Shown> {
    let last = '';
    const details = await until(
      what,
      async () => {
        const { code, stdout, stderr } = await this.site.typed(
          '--json',
          'route',
          'show',
          VOLUME,
          '--explain',
        );
        last = stdout + stderr;
        if (code !== 0) return null;
        const now = JSON.parse(stdout) as RouteDetails;
        return holds(now, now.explained!) ? now : null;
      },
      SELDOM,
    ).catch((error) => {
      throw new Error(`${(error as Error).message}; last: ${last}`);
    });
    const text = await this.site.said('route', 'show', VOLUME, '--explain');
    return { details, explained: details.explained!, text };
  }

  /** It decides so now. */
  now(rule: string): Promise<Shown> {
    return this.until(`it to be ${rule}`, (_details, explained) => explained.rule === rule);
  }

  /** It has decided so. */
  decided(rule: string): Promise<Shown> {
    return this.until(`a decision by ${rule}`, (_details, { decisions }) =>
      decisions.some((decision) => decision.rule === rule),
    );
  }

  /** kill -9, and the disk of a backup when it is started again. */
  async restore(party: HostParty | CoordinatorParty, copy: string): Promise<void> {
    await party.harm('kill');
    await party.putBack(copy);
  }
}
