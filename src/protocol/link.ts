// The order of numbered messages of a session, over as many connections as it takes.
//
// Invariants: a message is delivered once, in the order it was sent; what the peer has not acknowledged is kept, to be sent again when the
// session is taken up, and no more of it than the limits say.

import { placed } from './codec.js';
import { type Fault, fault } from './faults.js';
import { LIMITS } from './limits.js';

export type Received = 'deliver' | 'duplicate' | Fault;

/** As text, but for its place: `ack` is said when it is sent. */
interface Kept {
  body: string;
  seq: number;
}

export class Link {
  #sent = 0;
  #received = 0;
  #told = 0;
  #untoldBytes = 0;
  #kept: Kept[] = [];
  #keptBytes = 0;

  /** The last one that was received. */
  get received(): number {
    return this.#received;
  }

  /** How many were received that the peer does not know of. */
  get untold(): number {
    return this.#received - this.#told;
  }

  get untoldBytes(): number {
    return this.#untoldBytes;
  }

  /** The peer acknowledges nothing: it does not read, and no more is kept for it. */
  get isOverrun(): boolean {
    return this.#kept.length > LIMITS.unacknowledged || this.#keptBytes > LIMITS.unacknowledgedBytes;
  }

  /** Gives a message its place; returns it as it is sent. */
  number(body: string): string {
    const kept = { body, seq: ++this.#sent };
    this.#kept.push(kept);
    this.#keptBytes += body.length;
    return this.#stamp(kept);
  }

  /** What the peer is told has been received, for messages that are not numbered. */
  tell(): number {
    this.#told = this.#received;
    this.#untoldBytes = 0;
    return this.#received;
  }

  /** `bytes`: of its text. */
  receive(seq: number, bytes: number): Received {
    if (seq <= this.#received) return 'duplicate';
    if (seq !== this.#received + 1)
      return fault('out-of-order', `Message ${seq} came where ${this.#received + 1} was expected.`);
    this.#received = seq;
    this.#untoldBytes += bytes;
    return 'deliver';
  }

  /** Undefined: taken. */
  acknowledge(ack: number): Fault | undefined {
    if (ack > this.#sent)
      return fault('out-of-order', `Message ${ack} is acknowledged; the last one sent was ${this.#sent}.`);
    let known = 0;
    while (known < this.#kept.length && this.#kept[known]!.seq <= ack)
      this.#keptBytes -= this.#kept[known++]!.body.length;
    if (known > 0) this.#kept.splice(0, known);
    return undefined;
  }

  /** Whether the peer can go on where it says it is: nothing it lacks was let go. */
  canResumeFrom(received: number): boolean {
    return received <= this.#sent && received >= this.#sent - this.#kept.length;
  }

  /** What the peer has not received. */
  lacking(received: number): string[] {
    this.acknowledge(received);
    return this.#kept.map((kept) => this.#stamp(kept));
  }

  #stamp({ body, seq }: Kept): string {
    return placed(body, { seq, ack: this.tell() });
  }
}
