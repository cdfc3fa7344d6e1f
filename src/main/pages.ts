// The pages of docs/ that are made from the program itself, so that they cannot disagree with it: `npm run docs` writes them, a test
// compares them.

import type { Command } from 'commander';
import { pino } from 'pino';
import type { AgentParts } from '../agent/agent-parts.js';
import { makeApiServer } from '../agent/api-server.js';
import { exampleConfiguration } from '../agent/configuration-example.js';
import { configurationPage } from '../agent/configuration-page.js';
import { EXIT_CODE_MEANINGS } from '../agent/exit-codes.js';
import { HTTP_STATUS } from '../agent/http-status.js';
import { openApiDocument } from '../agent/openapi.js';
import { DESCRIBED, leaves, wordsTo } from '../commands/command-tree.js';
import { makeProgram } from '../commands/program.js';
import { asyncApiDocument } from '../protocol/asyncapi.js';
import { currentEntry } from '../protocol/history.js';
import { manPages } from './man-pages.js';

/** Content by path, relative to the root of the project. */
export async function pages(): Promise<Map<string, string>> {
  const document = openApiDocument(await documentedApi());
  return new Map([
    ['docs/openapi.json', `${JSON.stringify(document, null, 2)}\n`],
    ['docs/api.md', apiPage(document)],
    ['docs/cli.md', cliPage()],
    ['docs/configuration.md', configurationPage()],
    ['packaging/cellblock.yaml', exampleConfiguration()],
    ...manPages(),
    ['docs/coordinator-protocol.json', `${JSON.stringify(asyncApiDocument(), null, 2)}\n`],
  ]);
}

/**
 * What the protocol of today is, by the path where it is kept. Not among the pages: it is written once for each version and never again.
 */
export function protocolEntry(): [path: string, content: string] {
  const entry = currentEntry();
  return [`src/protocol/history/${entry.version}.json`, `${JSON.stringify(entry, null, 2)}\n`];
}

/** The routes with nothing behind them: only their schemas are looked at. */
async function documentedApi() {
  const parts = { version: '1', log: pino({ level: 'silent' }), debug: false } as unknown as AgentParts;
  return makeApiServer(parts, { maxBodyBytes: 1 });
}

interface Operation {
  summary?: string;
  description?: string;
  parameters?: { name: string; in: string; description?: string }[];
  requestBody?: { content: Record<string, { schema: unknown }> };
}

const API_HEAD = `# Control API

<!-- Made from the routes in src/agent by \`npm run docs\`; a test holds it current. -->

HTTP and JSON over the unix socket of the agent (\`/run/cellblock/api.sock\` by default). Whoever may open the socket may do
everything. The schemas of all requests and answers are in [openapi.json](openapi.json).

\`\`\`
curl --unix-socket data/api.sock http://localhost/v1/volumes
curl --unix-socket data/api.sock http://localhost/v1/volumes -H 'content-type: application/json' -d '{"name": "a", "size": "10G"}'
curl --unix-socket data/api.sock -X DELETE 'http://localhost/v1/snapshots/a%40before'
\`\`\`

* Names in a path are percent-encoded: a name may hold any UTF-8 but slashes, \`@\` and control characters.
* Byte quantities are integers and may exceed 2^53. Sizes in requests are integers or text such as \`"10G"\` (binary).
* What takes long answers with a task; \`GET /v1/tasks/ID?stream=true\` follows it as JSON lines until its end.
* An answer outside of 2xx is \`{"error": {"kind", "code", "message", "hint"}}\`: \`message\` is one sentence on what is wrong,
  \`hint\` one on what to do; \`kind\` and \`code\` are stable.
`;

function apiPage(document: { paths: Record<string, Record<string, Operation>> }): string {
  const kinds = Object.entries(HTTP_STATUS).map(([kind, status]) => `| \`${kind}\` | ${status} |\n`);
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => routeText(method, path, operation)),
  );
  return `${API_HEAD}\n| kind of error | HTTP status |\n|---|---|\n${kinds.join('')}\n## Routes\n\n${routes.join('\n')}`;
}

function routeText(method: string, path: string, operation: Operation): string {
  const inputs = (operation.parameters ?? []).map(
    ({ name, in: place, description }) => `* \`${name}\` (${place}): ${description ?? ''}\n`,
  );
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema as {
    properties?: Record<string, { description?: string }>;
  };
  const keys = Object.entries(body?.properties ?? {}).map(
    ([key, { description }]) => `* \`${key}\` (body)${description === undefined ? '' : `: ${description}`}\n`,
  );
  const description = operation.description === undefined ? '' : ` ${operation.description}`;
  const list = [...inputs, ...keys].join('');
  return `### ${method.toUpperCase()} ${path}\n\n${operation.summary ?? ''}.${description}\n${list === '' ? '' : `\n${list}`}`;
}

const CLI_HEAD = `# The command line

<!-- Made from src/commands by \`npm run docs\`; a test holds it current. -->

\`cellblock\` talks to the agent over the socket of its control API. The socket is, in this order: \`--api PATH\`,
\`$CELLBLOCK_API\`, \`./data/api.sock\` if it exists, \`/run/cellblock/api.sock\`. In a checkout: \`npx cellblock\`.

* Results go to stdout, everything else to stderr. With \`--json\` the result is one JSON value, and so is an error.
* Progress bars appear on a terminal only.
* An error is one sentence on what is wrong and one on what to do.
* Import and export read and write files as whoever runs the command; the bytes travel over NBD.
* Ctrl-C (SIGINT, SIGTERM and SIGHUP alike) ends an import or export cleanly: a volume made by the import is deleted again, the file of
  the export removed. What cannot be taken back is said: an existing volume, a device or a pipe holds part of the image then. A change
  that was sent to the agent is not taken back: its answer is waited for (15 seconds at most) and told; without one, the message says
  how to see whether it was done. A second signal ends the command at once, whatever it waits for.
* \`kill -9\` cleans nothing up: an export leaves \`FILE.partial-PID\` beside its file, which the next export to the same name removes
  when that process is gone; an import leaves the volume it made, with a part of the image: delete it.
* An agent that says nothing for 15 seconds is asked whether it is there; one at work is waited for, however long, and one that does not
  answer that for 15 seconds either counts as not there (exit code 12).
* An import overwrites an existing volume only when that is empty (no data, no snapshots, no clients), or with \`--force\`.
`;

function cliPage(): string {
  const program = makeProgram(DESCRIBED);
  const codes = EXIT_CODE_MEANINGS.map(([code, meaning]) => `| ${code} | ${meaning} |\n`).join('');
  return `${CLI_HEAD}\n## Exit codes\n\n\`cellblockd\` uses the same.\n\n| code | meaning |\n|---|---|\n${codes}\n## Commands\n\n${leaves(program).map(commandText).join('\n')}`;
}

function commandText(command: Command): string {
  const usage = command.usage().replace('[options] ', '').replace('[options]', '');
  const rows = [
    ...command.registeredArguments
      .filter(({ description }) => description !== '')
      .map((argument) => `* \`${argument.name()}\`: ${argument.description}\n`),
    ...command.options.map((option) => `* \`${option.flags}\`: ${option.description}\n`),
  ];
  return (
    `### cellblock ${wordsTo(command).join(' ')} ${usage}`.trimEnd() +
    `\n\n${command.description()}\n${rows.length === 0 ? '' : `\n${rows.join('')}`}`
  );
}
