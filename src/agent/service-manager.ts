// What a program tells the service manager that started it (the protocol of sd_notify: NOTIFY_SOCKET, WATCHDOG_USEC), and what it gives it
// to keep for the next process. Without one, as on a terminal, nothing is said. What cannot be said is logged and stops nobody.

import type { Logger } from 'pino';
import { systemCode } from '../base/errors.js';
import type { ServiceNotifications } from '../plane/addon.js';

/** Descriptors that can be sent in one message. */
const DESCRIPTORS_AT_ONCE = 253;
/** What it is doing is told again so often. */
const STATUS_MS = 10_000;

export interface ServiceManagerOptions {
  environment: NodeJS.ProcessEnv;
  pid: number;
  log: Logger;
  /** Loaded only when there is somebody to tell. */
  notifications: () => ServiceNotifications;
  monotonicUs?: () => bigint;
}

export class ServiceManager {
  readonly #log: Logger;
  readonly #address: string | null;
  readonly #watchdogMs: number | null;
  readonly #monotonicUs: () => bigint;
  #native: ServiceNotifications | null = null;
  #ready = false;
  #status = '';
  #timers: NodeJS.Timeout[] = [];

  /** Takes its variables out of the environment, so that no child speaks for this process. */
  constructor({ environment, pid, log, notifications, monotonicUs = monotonicNow }: ServiceManagerOptions) {
    const { NOTIFY_SOCKET: address, WATCHDOG_USEC: microseconds, WATCHDOG_PID: watched } = environment;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'FDSTORE'])
      delete environment[name];
    this.#log = log;
    this.#monotonicUs = monotonicUs;
    this.#address = address === undefined || address === '' ? null : address;
    const meant = watched === undefined || watched === String(pid);
    const ms = Number(microseconds) / 1000;
    this.#watchdogMs = this.#address !== null && meant && ms > 0 && Number.isFinite(ms) ? ms : null;
    if (this.#address === null) return;
    try {
      this.#native = notifications();
    } catch (error) {
      this.#log.warn({ err: error }, 'the service manager cannot be told anything');
      this.#address = null;
    }
  }

  /** There is somebody to keep descriptors. */
  get listens(): boolean {
    return this.#address !== null;
  }

  /** The start is over. `status`: what it does, in a few words, asked for again and again. */
  ready(status: () => string): void {
    if (!this.listens) return;
    this.#ready = true;
    this.#status = status();
    this.#send(`READY=1\nSTATUS=${line(this.#status)}`);
    this.#timers.push(setInterval(() => this.#tellStatus(status), STATUS_MS).unref());
  }

  #tellStatus(status: () => string): void {
    const now = status();
    if (now === this.#status) return;
    this.#status = now;
    this.#send(`STATUS=${line(now)}`);
  }

  /** While `alive` keeps resolving. What hangs, or fails, is restarted by the manager. */
  watch(alive: () => Promise<void>): void {
    if (this.#watchdogMs === null) return;
    let asking = false;
    const ask = async () => {
      if (asking) return;
      asking = true;
      try {
        await alive();
        this.#send('WATCHDOG=1');
      } catch (error) {
        this.#log.error({ err: error }, 'not alive: the service manager is not told otherwise');
      }
      asking = false;
    };
    void ask();
    // Three times: a message that comes late is not the end.
    this.#timers.push(setInterval(ask, this.#watchdogMs / 3).unref());
  }

  /** `work` reads settings again. */
  reload(work: () => void): void {
    if (this.#ready) this.#send(`RELOADING=1\nMONOTONIC_USEC=${this.#monotonicUs()}`);
    work();
    if (this.#ready) this.#send(`READY=1\nSTATUS=${line(this.#status)}`);
  }

  /** The watchdog is told that it is alive until the process ends: the stop has a time limit of its own. */
  stopping(): void {
    this.#ready = false;
    this.#send('STOPPING=1\nSTATUS=Stopping');
  }

  /** The start came to nothing. */
  failed(why: string): void {
    this.#send(`STATUS=${line(why)}`);
  }

  /** Gives it descriptors to keep, which the next process gets under that name. False: it could not be told. */
  keep(name: string, descriptors: readonly number[]): boolean {
    for (let at = 0; at < descriptors.length; at += DESCRIPTORS_AT_ONCE) {
      const some = descriptors.slice(at, at + DESCRIPTORS_AT_ONCE);
      if (!this.#send(`FDSTORE=1\nFDNAME=${name}`, some)) return false;
    }
    return this.listens;
  }

  /** It closes all that it keeps under that name. */
  forget(name: string): void {
    this.#send(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  }

  /** No more timers. */
  end(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
  }

  #send(message: string, descriptors: readonly number[] = []): boolean {
    if (this.#address === null || this.#native === null) return false;
    try {
      this.#native.notifyServiceManager(this.#address, message, [...descriptors]);
      return true;
    } catch (error) {
      const what = message.split('\n', 1)[0];
      this.#log.warn({ what, errno: systemCode(error) }, 'the service manager could not be told');
      return false;
    }
  }
}

/** A status is one line. */
function line(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

function monotonicNow(): bigint {
  return process.hrtime.bigint() / 1000n;
}
