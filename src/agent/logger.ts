// The log: pino, one JSON line an event on stderr. Under journald each line starts with the priority journald understands.

import { type Logger, pino } from 'pino';

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** syslog priorities. */
const PRIORITY: Readonly<Record<number, number>> = { 10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 };

export function makeLogger(options: {
  level: LogLevel;
  journald: boolean;
  write?: (line: string) => void;
}): Logger {
  // Synchronous: what is logged before a crash is there after it.
  const destination = pino.destination({ dest: 2, sync: true });
  const write = options.write ?? ((line: string) => void destination.write(line));
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write(line: string) {
        write(options.journald ? `<${priorityOf(line)}>${line}` : line);
      },
    },
  );
}

/** pino writes the level first; formatters.level made it a word. */
function priorityOf(line: string): number {
  const label = /^\{"level":"([a-z]+)"/.exec(line)?.[1] ?? 'info';
  return PRIORITY[pino.levels.values[label] ?? 30] ?? 6;
}
