// docs/configuration.md, made from the schema of the configuration file, so that page and program cannot disagree.

import type { TSchema } from '@sinclair/typebox';
import { ConfigurationSchema } from './configuration-schema.js';

const HEAD = `# Configuration

<!-- Made from src/agent/configuration-schema.ts by \`npm run docs\`; a test holds it current. -->

\`cellblockd --config FILE\` reads one YAML file. Every key is optional; what is not said has its default. The file is checked
whole before anything is opened: an unknown key or a wrong value is refused with file, line and what is allowed there.
\`--nbd\` and \`--api\` on the command line take the place of \`nbd.listen\` and \`api.path\`.

\`\`\`yaml
nbd:
  listen:
    - address: unix:/run/cellblock/nbd.sock
      mode: "0660"
    - tcp:127.0.0.1:10809
store:
  cache: 256M
log:
  level: info
\`\`\`
`;

export function configurationPage(): string {
  const sections = Object.entries(ConfigurationSchema.properties).map(([name, section]) => {
    const rows = keysOf(name, section).map(([key, schema]) =>
      [`\`${key}\``, allowed(schema), shownDefault(schema), schema.description ?? ''].join(' | '),
    );
    return `## ${name}\n\n| key | allowed | default | meaning |\n|---|---|---|---|\n${rows.map((row) => `| ${row} |\n`).join('')}`;
  });
  return [HEAD, ...sections].join('\n');
}

/** The keys below a mapping with their whole names, those of mappings in it included. */
function keysOf(name: string, section: TSchema): [string, TSchema][] {
  return Object.entries(section.properties as Record<string, TSchema>).flatMap(([key, schema]) =>
    schema.properties === undefined
      ? [[`${name}.${key}`, schema] as [string, TSchema]]
      : keysOf(`${name}.${key}`, schema),
  );
}

function allowed(schema: TSchema): string {
  return String(schema.allowed);
}

function shownDefault(schema: TSchema): string {
  if (schema.default === undefined) return '-';
  return `\`${typeof schema.default === 'string' ? schema.default : JSON.stringify(schema.default)}\``;
}
