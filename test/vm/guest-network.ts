// A network of its own for one guest, with a place of the machine in it: what runs there is as fast as the machine, and the guest reaches it by TCP.
//
// Invariant: nothing of it is seen by the machine's network, and it goes with `end()`.
import { mustNow } from '../support/programs.js';

const TAP = 'guest';

export class GuestNetwork {
  readonly #name = `cellblock-vm-${process.pid}`;
  /** Of the machine in it, and of the guest. */
  readonly address = '10.77.0.1';
  readonly guestAddress = '10.77.0.2';

  constructor() {
    mustNow('ip', ['netns', 'add', this.#name]);
    mustNow('ip', ['-n', this.#name, 'link', 'set', 'lo', 'up']);
    mustNow('ip', ['-n', this.#name, 'tuntap', 'add', TAP, 'mode', 'tap']);
    mustNow('ip', ['-n', this.#name, 'address', 'add', `${this.address}/24`, 'dev', TAP]);
    mustNow('ip', ['-n', this.#name, 'link', 'set', TAP, 'up']);
  }

  /** What has to stand before the words of a program, for it to run there. */
  get entrance(): string[] {
    return ['nsenter', `--net=/run/netns/${this.#name}`];
  }

  /** For the kernel of the guest. */
  get kernelWords(): string[] {
    return [`vec0:transport=tap,ifname=${TAP},depth=128,gro=1`, `cellblock.address=${this.guestAddress}/24`];
  }

  end(): void {
    mustNow('ip', ['netns', 'delete', this.#name]);
  }
}
