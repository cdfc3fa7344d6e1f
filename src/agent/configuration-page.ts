// docs/configuration.md, made from the schema of the configuration file, so that page and program cannot disagree.

import { type ConfigurationKey, configurationSections } from './configuration-keys.js';

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
  const sections = configurationSections().map(({ name, keys }) => {
    const rows = keys.map((key) =>
      [`\`${key.path.join('.')}\``, key.allowed, shownDefault(key), key.description].join(' | '),
    );
    return `## ${name}\n\n| key | allowed | default | meaning |\n|---|---|---|---|\n${rows.map((row) => `| ${row} |\n`).join('')}`;
  });
  return [HEAD, ...sections].join('\n');
}

function shownDefault({ fallback }: ConfigurationKey): string {
  if (fallback === undefined) return '-';
  return `\`${typeof fallback === 'string' ? fallback : JSON.stringify(fallback)}\``;
}
