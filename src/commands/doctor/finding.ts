// What a check says, and how it is put together.

import { type AgentFacts, type Facts, isUnknown, type Maybe } from './facts.js';

export type Verdict = 'ok' | 'warning' | 'problem' | 'not-checked';

export const AREAS = [
  'agent',
  'versions',
  'configuration',
  'kernel',
  'permissions',
  'store',
  'devices',
  'load',
  'clock',
  'coordinator',
  'tls',
  'systemd',
] as const;
export type Area = (typeof AREAS)[number];

/** `message`: one sentence; `remedy`: one on what to do, of a warning or a problem. */
export interface Finding {
  verdict: Verdict;
  message: string;
  remedy?: string;
}

export interface Check {
  /** Stable: `store-space`. Names its lines in docs/troubleshooting.md too. */
  id: string;
  area: Area;
  look(facts: Facts): Finding;
}

export function ok(message: string): Finding {
  return { verdict: 'ok', message };
}

export function warning(message: string, remedy: string): Finding {
  return { verdict: 'warning', message, remedy };
}

export function problem(message: string, remedy: string): Finding {
  return { verdict: 'problem', message, remedy };
}

/** `why`: the end of a sentence that begins with "because". */
export function notChecked(why: string): Finding {
  return { verdict: 'not-checked', message: `Not checked because ${why}.` };
}

/** Looks at a fact if it is known. */
export function given<Fact>(fact: Maybe<Fact>, look: (fact: Fact) => Finding): Finding {
  return isUnknown(fact) ? notChecked(fact.unknown) : look(fact as Fact);
}

export function ofAgent({ agent }: Facts, look: (agent: AgentFacts) => Finding): Finding {
  return given(agent, look);
}

export function ofDiagnosis(
  facts: Facts,
  look: (diagnosis: Exclude<AgentFacts['diagnosis'], { unknown: string }>) => Finding,
): Finding {
  return ofAgent(facts, ({ diagnosis }) => given(diagnosis, look));
}

/** `1 volume`, `3 volumes` */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** At most five, then how many more. */
export function listed(names: readonly string[]): string {
  const more = names.length - 5;
  return names.slice(0, 5).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
