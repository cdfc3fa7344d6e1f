// Gathers the facts that the checks judge. Reads only, and never throws but for an interrupt: what cannot be found out says why.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Status } from '../../agent/api-schema.js';
import type { Diagnosis } from '../../agent/diagnosis-schema.js';
import type { Attachment } from '../../agent/routes/attachments.js';
import { storePlace } from '../../agent/store-place.js';
import { apiPath } from '../api-client.js';
import { asCommandError } from '../command-error.js';
import { configurationFacts } from './configuration-facts.js';
import { type AgentFacts, type Facts, isUnknown, type Maybe, type SocketFacts } from './facts.js';
import { groupFacts } from './group-facts.js';
import { kernelFacts } from './kernel-facts.js';
import { type Sources, textOf } from './sources.js';
import { systemdFacts } from './systemd-facts.js';

export async function gatherFacts(sources: Sources): Promise<Facts> {
  const { roots, user, version } = sources;
  const [{ agent, socket }, kernel, systemd, clock, memory] = await Promise.all([
    agentFacts(sources),
    kernelFacts(roots),
    systemdFacts(sources),
    clockFacts(sources),
    memoryFacts(sources),
  ]);
  const diagnosis = isUnknown(agent) ? agent : agent.diagnosis;
  const configuration = await configurationFacts(sources, { diagnosis, systemd });
  return {
    nowMs: sources.nowMs(),
    command: {
      version,
      node: process.versions.node,
      addonProblem: sources.addonProblem(),
      uid: user.uid,
      user: user.name,
    },
    kernel,
    socket,
    group: await groupFacts(sources, configuration.group),
    agent,
    store: await storeFacts(sources, { agent, systemd }),
    configuration: configuration.facts,
    clock,
    systemd,
    memory,
  };
}

async function agentFacts({
  api,
  signal,
}: Sources): Promise<{ agent: Maybe<AgentFacts>; socket: SocketFacts }> {
  const path = api.socketPath;
  const ask = <Answer>(...segments: string[]) =>
    api.call<Answer>({ method: 'GET', path: apiPath(segments), signal });
  try {
    const status = await ask<Status>('status');
    return {
      socket: { path, failure: null },
      agent: {
        status,
        diagnosis: await answerOf(ask<Diagnosis>('diagnosis'), signal),
        attachments: await answerOf(ask<Attachment[]>('attachments'), signal),
      },
    };
  } catch (error) {
    signal.throwIfAborted();
    const { message, hint } = asCommandError(error);
    return { socket: { path, failure: { message, hint } }, agent: { unknown: 'the agent is not reached' } };
  }
}

/** Of a question that an older agent may not know. */
async function answerOf<Answer>(asked: Promise<Answer>, signal: AbortSignal): Promise<Maybe<Answer>> {
  try {
    return await asked;
  } catch (error) {
    signal.throwIfAborted();
    const { code } = asCommandError(error);
    return {
      unknown:
        code === 'route-not-found'
          ? 'the agent is older than this command'
          : `the agent does not tell (${code})`,
    };
  }
}

async function storeFacts(
  { store, roots }: Sources,
  { agent, systemd }: Pick<Facts, 'agent' | 'systemd'>,
): Promise<Facts['store']> {
  if (!isUnknown(agent) && !isUnknown(agent.diagnosis)) return agent.diagnosis.store;
  const directory =
    store ??
    (isUnknown(agent) ? null : agent.status.store.directory) ??
    (isUnknown(systemd) ? null : systemd.service.store) ??
    (existsSync(roots.store) ? roots.store : null);
  if (directory === null) return { unknown: 'it is not known where the store is (say it with --store)' };
  return storePlace(directory, join(roots.proc, 'self/mountinfo'));
}

async function clockFacts({ run }: Sources): Promise<Facts['clock']> {
  const ran = await run('timedatectl', ['show', '--property=NTPSynchronized', '--value']);
  if (ran === null) return { unknown: 'there is no timedatectl' };
  const said = ran.stdout.trim();
  if (said === 'yes' || said === 'no') return { synchronised: said === 'yes' };
  return { unknown: 'timedatectl does not tell' };
}

async function memoryFacts({ roots }: Sources): Promise<Facts['memory']> {
  const text = (await textOf(join(roots.proc, 'meminfo'))) ?? '';
  const bytes = (name: string) => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
    return found === undefined ? null : BigInt(found) * 1024n;
  };
  const totalBytes = bytes('MemTotal');
  const availableBytes = bytes('MemAvailable');
  if (totalBytes === null || availableBytes === null)
    return { unknown: 'the kernel does not tell of memory' };
  return { totalBytes, availableBytes };
}
