// One JSON line an event; under journald the priority stands in front.

import t from 'tap';
import { makeLogger } from '../../../src/agent/logger.js';

function linesOf(options: { level: 'info' | 'warn'; journald: boolean }): string[] {
  const lines: string[] = [];
  const log = makeLogger({ ...options, write: (line) => lines.push(line) });
  log.debug('never');
  log.info({ volume: 'a' }, 'hello');
  log.warn('careful');
  log.error({ err: new Error('broken\nin two lines') }, 'failed');
  return lines;
}

t.test('lines are JSON with level, time and message', async (t) => {
  const lines = linesOf({ level: 'info', journald: false });
  t.equal(lines.length, 3);
  t.match(JSON.parse(lines[0] ?? ''), { level: 'info', time: /^\d{4}-.*Z$/, volume: 'a', msg: 'hello' });
  t.ok(
    lines.every((line) => line.indexOf('\n') === line.length - 1),
    'one line each, whatever the error says',
  );
});

t.test('the level decides what is said', async (t) => {
  t.equal(linesOf({ level: 'warn', journald: false }).length, 2);
});

t.test('journald reads the priority', async (t) => {
  t.same(
    linesOf({ level: 'info', journald: true }).map((line) => line.slice(0, 4)),
    ['<6>{', '<4>{', '<3>{'],
  );
});
