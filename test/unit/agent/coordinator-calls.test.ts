// Verbs that an agent forwards to its coordinator: what is not sent, what is told of an answer, of a refusal and of silence.

import t from 'tap';
import {
  type CallLine,
  type CoordinatorCalls,
  callCoordinator,
  callLines,
  type GivenCall,
} from '../../../src/agent/coordinator-calls.js';
import type { CallOptions, CallOutcome } from '../../../src/protocol/client.js';
import type { Call } from '../../../src/protocol/exchange.js';

const ID = 'c0ffee'.padEnd(32, '0');
const ASKED: GivenCall = { verb: 'route-show', arguments: { volume: 'v', explain: false } };

class GivenCoordinator implements CoordinatorCalls {
  readonly asked: (Pick<CallOptions, 'id' | 'timeoutMs'> & { call: Call })[] = [];
  status = { host: 'h1', cell: 'east', connected: true, coordinator: 'c1', leader: 'c1', serving: true };
  outcome: CallOutcome = { kind: 'done', value: { it: 'is' } };

  async call(call: Call, { id, timeoutMs, progress }: CallOptions): Promise<CallOutcome> {
    this.asked.push({ call, timeoutMs, ...(id === undefined ? {} : { id }) });
    const report = { volume: null, move: null, stage: 'copy', total: 10 };
    progress?.({ type: 'progress', of: id ?? null, seq: 1, ack: 0, done: 3, ...report });
    return this.outcome;
  }
}

t.test('an answer, with the id of the call', async (t) => {
  const coordinator = new GivenCoordinator();
  t.same(await callCoordinator(coordinator, { ...ASKED, id: ID, timeout_seconds: 7 }), {
    id: ID,
    value: { it: 'is' },
  });
  t.same(coordinator.asked, [{ call: ASKED, id: ID, timeoutMs: 7_000 }]);
  const { id } = await callCoordinator(coordinator, ASKED);
  t.match(id, /^[0-9a-f]{32}$/, 'one is made up');
  t.equal(coordinator.asked[1]!.id, id);
  t.equal(coordinator.asked[1]!.timeoutMs, 120_000);
});

t.test('what is not sent', async (t) => {
  const coordinator = new GivenCoordinator();
  const wrong: [given: GivenCall, says: RegExp][] = [
    [{ verb: 'dance', arguments: {} }, /There is no verb "dance"/],
    [{ verb: 'toString', arguments: {} }, /There is no verb/],
    [{ verb: 'route-show', arguments: { volume: 'v' } }, /"explain" of route-show does not fit: /],
    [{ verb: 'route-show', arguments: { ...ASKED.arguments, more: 1 } }, /"more" of route-show does not fit/],
    [{ verb: 'cell-show', arguments: { cell: 'not a name' } }, /"cell" of cell-show does not fit/],
  ];
  for (const [given, message] of wrong)
    await t.rejects(callCoordinator(coordinator, given), { code: 'request-invalid', message });
  await t.rejects(callCoordinator(null, ASKED), { code: 'coordinator-not-configured', kind: 'refused' });
  coordinator.status = { ...coordinator.status, connected: false };
  await t.rejects(callCoordinator(coordinator, ASKED), {
    code: 'coordinator-unreachable',
    kind: 'busy',
    message: /Host h1 is connected to no coordinator; the last one was c1\./,
    hint: /^Nothing was done\./,
  });
  t.same(coordinator.asked, []);
});

t.test('a refusal is told under its own code, with its hint', async (t) => {
  const coordinator = new GivenCoordinator();
  const told = { message: 'Volume v is in quarantine.', hint: 'Decide.' };
  coordinator.outcome = { kind: 'failed', code: 'volume-quarantined', ...told };
  await t.rejects(callCoordinator(coordinator, ASKED), {
    code: 'volume-quarantined',
    kind: 'refused',
    ...told,
  });
  coordinator.outcome = { kind: 'failed', code: 'from-the-future', ...told };
  await t.rejects(callCoordinator(coordinator, ASKED), {
    code: 'coordinator-failed',
    facts: { coordinatorCode: 'from-the-future' },
    ...told,
  });
});

t.test('silence: it may have been done, and can be asked again with its id', async (t) => {
  const coordinator = new GivenCoordinator();
  coordinator.outcome = { kind: 'silent' };
  await t.rejects(callCoordinator(coordinator, { ...ASKED, id: ID }), {
    code: 'coordinator-silent',
    kind: 'busy',
    message: /may have been done/,
    hint: new RegExp(`again here with --again ${ID} .* does it once`),
    facts: { id: ID, verb: 'route-show' },
  });
});

t.test('as lines: progress, then one that ends it', async (t) => {
  const coordinator = new GivenCoordinator();
  const linesOf = async (given: GivenCall): Promise<CallLine[]> => {
    const lines: CallLine[] = [];
    for await (const line of callLines(coordinator, given)) lines.push(line);
    return lines;
  };
  const lines = await linesOf({ ...ASKED, id: ID });
  t.same(lines.at(-1), { type: 'result', id: ID, value: { it: 'is' } });
  coordinator.outcome = { kind: 'silent' };
  t.match((await linesOf(ASKED)).at(-1), { type: 'error', kind: 'busy', code: 'coordinator-silent' });
  t.match(await linesOf({ verb: 'dance', arguments: {} }), [{ type: 'error', code: 'request-invalid' }]);
});

t.test('progress is told before the end, however slow the reader is', async (t) => {
  const coordinator = new GivenCoordinator();
  let end: (outcome: CallOutcome) => void = () => undefined;
  const outcome = new Promise<CallOutcome>((resolve) => {
    end = resolve;
  });
  const { call } = coordinator;
  coordinator.call = async (asked, options) => {
    await call.call(coordinator, asked, options);
    return outcome;
  };
  const lines = callLines(coordinator, ASKED);
  t.same((await lines.next()).value, { type: 'progress', stage: 'copy', done: 3, total: 10 });
  end({ kind: 'done', value: 1 });
  t.match((await lines.next()).value, { type: 'result', value: 1 });
  t.equal((await lines.next()).done, true);
});
