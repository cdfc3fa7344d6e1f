// A rate is kept in every stretch of time, not only on the whole.

import t from 'tap';
import { RateLimit } from '../../../src/operations/copy/rate-limit.js';
import { HandClock } from '../../support/hand-clock.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

t.test('bytes come evenly: no second has more than its own and the burst', async (t) => {
  const clock = new HandClock();
  const rate = new RateLimit(1_000_000, { clock, largestPiece: 1 << 20 });
  const { signal } = new AbortController();
  const passed: { atMs: number; bytes: number }[] = [];
  const began = clock.now().uptimeMs;
  let done = false;
  const lane = async () => {
    while (!done) {
      const bytes = rate.pieceBytes;
      await rate.pass(bytes, signal);
      passed.push({ atMs: clock.now().uptimeMs - began, bytes });
    }
  };
  for (let lanes = 0; lanes < 4; lanes++) void lane();
  for (let ms = 0; ms < 5000; ms += 5) {
    await turn();
    clock.pass(5);
  }
  done = true;
  const between = (from: number, to: number) =>
    passed.filter(({ atMs }) => atMs >= from && atMs < to).reduce((sum, { bytes }) => sum + bytes, 0);
  for (let from = 0; from < 4900; from += 100) {
    const bytes = between(from, from + 100);
    t.ok(bytes <= 100_000 + 50_000 + rate.pieceBytes, `${bytes} bytes in 100 ms`);
  }
  const whole = between(0, 5000);
  t.ok(whole > 4_800_000 && whole <= 5_000_000 + 50_000 + 4 * rate.pieceBytes, `${whole} bytes in 5 s`);
});

t.test('time in which nothing was sent is not saved up', async (t) => {
  const clock = new HandClock();
  const rate = new RateLimit(100_000, { clock, largestPiece: 1 << 20 });
  const { signal } = new AbortController();
  clock.pass(60_000);
  await rate.pass(100_000, signal);
  let second = false;
  void rate.pass(1, signal).then(() => {
    second = true;
  });
  clock.pass(900);
  await turn();
  t.notOk(second);
  clock.pass(100);
  await turn();
  t.ok(second);
});

t.test('whoever waits can be stopped, and no limit is none', async (t) => {
  const clock = new HandClock();
  const rate = new RateLimit(1000, { clock, largestPiece: 1 << 20 });
  const abort = new AbortController();
  await rate.pass(50_000, abort.signal);
  const waiting = rate.pass(1, abort.signal);
  abort.abort();
  await t.rejects(waiting, { code: 'task-cancelled' });
  rate.set(null);
  await rate.pass(1_000_000, new AbortController().signal);
  t.equal(rate.pieceBytes, 1 << 20);
});
