// `cellblock complete-names KIND [--api PATH]`: what completion of shells asks for. One name a line (none has a control character); no
// error is ever told, as the line is still being typed.

import { parseArgs } from 'node:util';
import { defaultApiSocket } from '../commands/api-socket.js';
import { completedNames } from '../commands/completed-names.js';

process.stdout.on('error', () => undefined);
const { values, positionals } = parseArgs({
  args: process.argv.slice(3),
  options: { api: { type: 'string' } },
  allowPositionals: true,
  strict: false,
});
const socketPath = typeof values.api === 'string' ? values.api : defaultApiSocket();
for (const name of await completedNames(positionals[0] ?? '', { socketPath })) {
  process.stdout.write(`${name}\n`);
}
