// Which coordinator is dialled next, and when.

import t from 'tap';
import { DIALING, Dialer } from '../../../src/protocol/dialer.js';
import type { Refused } from '../../../src/protocol/messages.js';
import { SAMPLES } from '../../support/protocol-samples.js';

const [A, B, C] = ['wss://a:1', 'wss://b:1', 'wss://c:1'] as const;

function refused(more: Partial<Refused>): Refused {
  return { ...SAMPLES.refused, retryAfterMs: null, ...more };
}

const leaderAt = (address: string) => refused({ code: 'not-leader', leader: { coordinator: 'c', address } });

t.test('it goes round the list, and waits longer after every round', async (t) => {
  const dialer = new Dialer([A, B, C], () => 1 - Number.EPSILON);
  const dials = Array.from({ length: 30 }, () => dialer.next());
  t.same(
    dials.slice(0, 4).map(({ address }) => address),
    [A, B, C, A],
  );
  const waits = dials.filter((_, index) => index % 3 === 0).map(({ delayMs }) => delayMs);
  t.same(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000]);
  t.ok(
    dials.every(({ delayMs }, index) => index % 3 === 0 || delayMs === 0),
    'within a round it does not wait',
  );
});

t.test('waits are spread between half and all of what they may be', async (t) => {
  const dialer = new Dialer([A], () => 0);
  t.same(
    Array.from({ length: 4 }, () => dialer.next().delayMs),
    [0, 500, 1_000, 2_000],
  );
});

t.test('the leader that is named is dialled at once, but not for ever', async (t) => {
  const dialer = new Dialer([A, B], () => 0);
  dialer.next();
  for (let redirect = 0; redirect < DIALING.redirects; redirect++) {
    dialer.refused(leaderAt(C));
    t.same(dialer.next(), { address: C, delayMs: 0 });
  }
  dialer.refused(leaderAt(C));
  t.equal(dialer.next().address, B, 'two that name one another are left');
  dialer.welcomed();
  dialer.refused(leaderAt(C));
  t.equal(dialer.next().address, C, 'a welcome makes the count begin anew');
});

t.test('who took it last is asked first', async (t) => {
  const dialer = new Dialer([A, B], () => 0.5);
  dialer.next();
  dialer.refused(leaderAt(C));
  dialer.next();
  dialer.welcomed();
  t.same(
    [dialer.next(), dialer.next(), dialer.next(), dialer.next()].map(({ address }) => address),
    [C, A, B, C],
  );
});

t.test('who said nothing is asked last, until it takes the host again', async (t) => {
  const dialer = new Dialer([A, B, C], () => 0);
  const some = (count: number) => Array.from({ length: count }, () => dialer.next().address);
  dialer.next();
  dialer.welcomed();
  dialer.silent();
  t.same(some(4), [B, C, A, B], 'also the one that was preferred');
  dialer.welcomed();
  t.same(some(3), [B, C, A], 'still last');
  dialer.welcomed();
  t.same(some(3), [A, B, C], 'it has answered');
  const alone = new Dialer([A], () => 0);
  alone.next();
  alone.silent();
  t.same([alone.next().address, alone.next().address], [A, A], 'there is no other');
});

t.test('a coordinator that asks for time gets it, within bounds', async (t) => {
  const dialer = new Dialer([A, B], () => 0.5);
  dialer.next();
  dialer.refused(refused({ retryAfterMs: 1_000 }));
  t.same(dialer.next(), { address: B, delayMs: 1_500 });
  dialer.refused(refused({ retryAfterMs: Number.MAX_SAFE_INTEGER }));
  t.ok(dialer.next().delayMs <= DIALING.longestMs * 2);
});

t.test('nobody is led from TLS into the clear, or to what is no address', async (t) => {
  for (const address of ['ws://c:1', 'http://c:1', 'nonsense', '']) {
    const dialer = new Dialer([A, B], () => 0);
    dialer.next();
    dialer.refused(leaderAt(address));
    t.equal(dialer.next().address, B, address);
  }
  const dialer = new Dialer(['ws://127.0.0.1:1'], () => 0);
  dialer.next();
  dialer.refused(leaderAt('ws://127.0.0.1:2'));
  t.equal(dialer.next().address, 'ws://127.0.0.1:2');
});

t.test('a list that cannot be dialled is refused', async (t) => {
  for (const list of [[], ['localhost:1'], [A, 'http://b'], ['']])
    t.throws(() => new Dialer(list, () => 0), { code: 'coordinator-address-invalid' });
});
