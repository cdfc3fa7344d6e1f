// What goes into a support bundle, part by part: each has a content that may leave the machine, or says why it is not there.

import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Status } from '../../agent/api-schema.js';
import type { CheckReport } from '../../agent/inspection.js';
import { apiPath } from '../api-client.js';
import { asCommandError } from '../command-error.js';
import { configurationPath } from '../doctor/configuration-facts.js';
import { type Facts, isUnknown } from '../doctor/facts.js';
import { examine, reportText } from '../doctor/report.js';
import { type Sources, textOf } from '../doctor/sources.js';
import { toJson } from '../terminal.js';
import { kernelText } from './kernel-text.js';
import type { Pseudonyms } from './pseudonyms.js';
import { redactedConfiguration } from './redacted-configuration.js';
import { redactedVariables, redactedWords } from './redacted-words.js';
import { scrubLine, scrubText, scrubValue } from './scrub.js';

export interface Part {
  /** Of the file. */
  name: string;
  content: Content | Missing;
}

/** `names`: how they are taken out; `none`: there are none in it. */
export type Content =
  | { names: 'value' | 'facts'; value: unknown }
  | { names: 'lines' | 'metrics' | 'text' | 'none'; text: string };

export interface Missing {
  /** The end of a sentence that begins with "because". */
  missing: string;
}

export type CheckStore = () => Promise<CheckReport>;

/** `check`: not given: the store is not checked. */
export async function gatherParts(
  sources: Sources,
  facts: Facts,
  check: CheckStore | undefined,
): Promise<Part[]> {
  const report = examine(facts);
  return [
    { name: 'doctor.txt', content: { names: 'text', text: scrubText(reportText(report, { all: true })) } },
    { name: 'doctor.json', content: { names: 'value', value: scrubValue(report) } },
    { name: 'facts.json', content: { names: 'facts', value: scrubValue(facts) } },
    ...(await agentParts(sources, facts)),
    { name: 'configuration.yaml', content: await configurationPart(sources, facts) },
    { name: 'coordinator.env', content: await coordinatorPart(sources) },
    { name: 'command-line.txt', content: await commandLinePart(sources, facts) },
    { name: 'kernel.txt', content: { names: 'none', text: scrubText(await kernelText(sources.roots)) } },
    { name: 'agent.log', content: await journalPart(sources, ['--unit=cellblockd.service']) },
    {
      name: 'coordinator.log',
      content: await journalPart(sources, ['--unit=cellblock-coordinator.service']),
    },
    { name: 'kernel.log', content: await journalPart(sources, ['--dmesg'], OF_DISKS) },
    ...(check ? [{ name: 'check.json', content: await checkPart(check) }] : []),
  ];
}

/** What the agent answers, by the file it goes into. */
const ANSWERS: readonly [name: string, segments: readonly string[]][] = [
  ['status.json', ['status']],
  ['store-status.json', ['store', 'status']],
  ['volumes.json', ['volumes']],
  ['files.json', ['files']],
  ['snapshots.json', ['snapshots']],
  ['attachments.json', ['attachments']],
  ['tasks.json', ['tasks']],
];

async function agentParts({ api, signal }: Sources, { agent }: Facts): Promise<Part[]> {
  const ask = async (name: string, work: () => Promise<Content>): Promise<Part> => ({
    name,
    content: isUnknown(agent) ? { missing: agent.unknown } : await orMissing(signal, work),
  });
  const answers = ANSWERS.map(([name, segments]) =>
    ask(name, async () => ({
      names: 'value',
      value: scrubValue(await api.call({ method: 'GET', path: apiPath(segments), signal })),
    })),
  );
  const metrics = ask('metrics.txt', async () => ({
    names: 'metrics',
    text: scrubText(await api.text({ method: 'GET', path: '/metrics', signal })),
  }));
  const coordinator = coordinatorOf(agent)
    ? ask('coordinator.json', async () => ({
        names: 'value',
        value: scrubValue(await api.call({ method: 'GET', path: apiPath(['coordinator']), signal })),
      }))
    : { name: 'coordinator.json', content: { missing: 'no agent says that this host is in a cell' } };
  return Promise.all([...answers, metrics, coordinator]);
}

function coordinatorOf(agent: Facts['agent']): Status['coordinator'] {
  return isUnknown(agent) ? null : agent.status.coordinator;
}

async function orMissing(signal: AbortSignal, work: () => Promise<Content>): Promise<Content | Missing> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    const { code, message } = asCommandError(error);
    return { missing: `it failed (${code}: ${scrubText(message).replace(/\.$/, '')})` };
  }
}

async function configurationPart(sources: Sources, facts: Facts): Promise<Content | Missing> {
  const { agent, systemd } = facts;
  const diagnosis = isUnknown(agent) ? agent : agent.diagnosis;
  const found = configurationPath(sources, { diagnosis, systemd });
  if (found === null) return { missing: 'the agent was started without one' };
  const text = await textOf(found.path);
  if (text === null) return { missing: `${found.path} is not there, or may not be read` };
  const redacted = redactedConfiguration(text, dirname(found.path));
  return redacted === null
    ? { missing: `${found.path} is not valid YAML, so secrets in it cannot be told apart` }
    : { names: 'text', text: redacted };
}

const COORDINATOR_VARIABLES: ReadonlySet<string> = new Set(['LISTEN', 'STATE', 'MORE']);

async function coordinatorPart({ roots }: Sources): Promise<Content | Missing> {
  const path = join(roots.etc, 'cellblock/coordinator.env');
  const text = await textOf(path);
  return text === null
    ? { missing: `${path} is not there, or may not be read` }
    : { names: 'text', text: redactedVariables(text, COORDINATOR_VARIABLES) };
}

async function commandLinePart({ roots }: Sources, { agent }: Facts): Promise<Content | Missing> {
  if (isUnknown(agent)) return { missing: agent.unknown };
  const path = join(roots.proc, String(agent.status.pid), 'cmdline');
  const text = await readFile(path, 'latin1').catch(() => null);
  if (text === null) return { missing: 'the process of the agent is not to be seen here' };
  return { names: 'text', text: `${redactedWords(text.split('\0').slice(0, -1)).join(' ')}\n` };
}

/** Of the kernel's messages: those of disks, file systems and memory. */
const OF_DISKS = /nbd|I\/O error|blk_update|\b(ext4|xfs|btrfs|nvme|sd[a-z]|ata\d)\b|out of memory|oom-kill/i;
const LINES = 200_000;

async function journalPart(
  { run }: Sources,
  which: readonly string[],
  only: RegExp = /^/,
): Promise<Content | Missing> {
  const how = [
    '--since=-24h',
    '--output=short-iso',
    '--no-hostname',
    '--no-pager',
    '--quiet',
    `--lines=${LINES}`,
  ];
  const ran = await run('journalctl', [...which, ...how]);
  if (ran === null) return { missing: 'there is no journalctl, or it does not come to an end' };
  if (ran.code !== 0) return { missing: `journalctl ended with ${ran.code}` };
  const lines = ran.stdout.split('\n').filter((line) => line !== '' && only.test(line));
  if (lines.length === 0) return { missing: 'the journal of the last day has nothing of it' };
  // First as a whole: a key goes over several lines.
  const scrubbed = scrubText(lines.join('\n')).split('\n').map(scrubLine);
  return { names: 'lines', text: `${scrubbed.join('\n')}\n` };
}

async function checkPart(check: CheckStore): Promise<Content | Missing> {
  try {
    return { names: 'value', value: scrubValue(await check()) };
  } catch (error) {
    const { code, message } = asCommandError(error);
    if (code === 'interrupted') throw error;
    return { missing: `it failed (${code}: ${scrubText(message).replace(/\.$/, '')})` };
  }
}

/** What is written. `names`: null: they are kept. */
export function contentText(content: Content, names: Pseudonyms | null): string {
  if ('value' in content) {
    if (!names) return `${toJson(content.value)}\n`;
    return `${toJson(content.names === 'facts' ? ofFacts(content.value as object, names) : names.value(content.value))}\n`;
  }
  if (!names) return content.text;
  switch (content.names) {
    case 'none':
      return content.text;
    case 'metrics':
      return names.metrics(content.text);
    case 'text':
      return names.text(content.text);
    case 'lines':
      return content.text
        .split('\n')
        .map((line) => names.line(line))
        .join('\n');
  }
}

/** Names of units and groups are no names of volumes; who calls is nobody's business. */
function ofFacts(facts: object, names: Pseudonyms): object {
  const { agent, command } = facts as Pick<Facts, 'agent' | 'command'>;
  return { ...facts, agent: names.value(agent), command: { ...command, user: 'user' } };
}
