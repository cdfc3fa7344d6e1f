// What this host has to say to a coordinator of its own accord. There may be none, or none that answers: nothing waits for it but what needs
// an answer. What is told to nobody is in the next hello.

import { CellblockError } from '../../base/errors.js';
import type { HostRecord } from '../../model/cell/host-record.js';
import type { Head } from '../../model/cell/route.js';
import type { CallOutcome } from '../../protocol/client.js';
import type { Call, Digest, HostEvent, ProgressReport } from '../../protocol/exchange.js';

export type VolumeFacts = HostEvent['volume'];

export interface LocalEvent {
  name: HostEvent['name'];
  record: HostRecord;
  move: string | null;
  through: Head | null;
  message: string;
}

/** The end of a session, as `AgentClient` of src/protocol is one. */
export interface CoordinatorClient {
  readonly isConnected: boolean;
  event(event: Omit<HostEvent, 'type' | 'seq' | 'ack'>): void;
  progress(report: ProgressReport): void;
  call(call: Call, options: { timeoutMs: number }): Promise<CallOutcome>;
}

const DIGEST_MS = 600_000;
const MOST_TEXT = 1000;

export class CoordinatorLink {
  /** Null: no coordinator is configured. */
  client: CoordinatorClient | null = null;

  event({ record, message, ...event }: LocalEvent): void {
    this.client?.event({ ...event, volume: factsOf(record), message: message.slice(0, MOST_TEXT) });
  }

  progress(report: ProgressReport): void {
    this.client?.progress(report);
  }

  /** `coordinator-absent`, or why there is none. */
  async digestOf(
    volume: string,
    of: { host: string; snapshot: string; since: string | null },
  ): Promise<Digest> {
    const call: Call = { verb: 'copy-digest', arguments: { volume, ...of } };
    const outcome = (await this.client?.call(call, { timeoutMs: DIGEST_MS })) ?? { kind: 'silent' };
    if (outcome.kind === 'done') return outcome.value as Digest;
    const why = outcome.kind === 'failed' ? outcome.message : 'It does not answer.';
    throw new CellblockError('coordinator-absent', `The coordinator gives no digest: ${why}`, {
      hint: 'It is asked again when the copy goes on.',
    });
  }
}

export function factsOf({ volume, epoch, head, state }: HostRecord): VolumeFacts {
  return { id: volume, epoch, head, state };
}
