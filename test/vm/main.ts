// The tests with a real nbd client of the kernel: each case in a guest of its own, or on this machine's kernel where that has the driver.
//
//   node dist/test/vm/main.js [--kernel uml|host] [FILTER...]
//
// `host` attaches, mounts and formats /dev/nbd* of this machine: only where nothing else uses them. Prints TAP; the exit code says
// whether all is well.
import { spawn } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { repositoryRoot } from '../support/programs.js';
import { runWithBeside } from './beside.js';
import { cases } from './cases.js';
import type { VmCase } from './machine.js';
import { packages } from './packages.js';
import { type GuestRun, runInGuest, whyNot } from './uml.js';

/** Of one case: far above what any takes, on a slow machine too. */
const CASE_SECONDS = 600;
const KERNEL_LINES = 30;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { kernel: { type: 'string', default: 'uml' } },
});

const onHost = values.kernel === 'host';

async function runOnHost(name: string, show: (line: string) => void): Promise<GuestRun> {
  const env = { ...process.env, CELLBLOCK_VM_CASE: name, CELLBLOCK_VM_MOUNTS: os.tmpdir() };
  const child = spawn(process.execPath, [path.join(repositoryRoot, 'dist/test/vm/guest.js')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const whole = (rest + text).split('\n');
    rest = whole.pop() ?? '';
    for (const line of whole) {
      lines.push(line);
      show(line);
    }
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, lines, kernel: '' };
}

function whyNotOnHost(systemd: boolean, beside: VmCase['beside']): string | null {
  if (systemd) return 'it installs the package, which is for guests';
  return beside ? 'it is about an agent beside a guest' : null;
}

/** `because`: what else has failed; null: nothing has. */
async function runCase(
  { name, systemd, boots = 1, beside }: VmCase,
  show: (line: string) => void,
): Promise<GuestRun & { because: string | null }> {
  if (onHost) return { ...(await runOnHost(name, show)), because: null };
  const files = systemd ? await packages() : [];
  const options = { seconds: CASE_SECONDS, systemd: systemd ?? false, boots, files };
  if (!beside) return { ...(await runInGuest(name, { ...options, show })), because: null };
  // Before the guest waits for what is made of them.
  await packages();
  return runWithBeside(
    beside,
    (network, shown) => runInGuest(name, { ...options, network, show: shown }),
    show,
  );
}

const wanted = cases.filter(
  ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
);
const reason = onHost ? null : whyNot();
console.log('TAP version 14');
console.log(`1..${wanted.length}`);
let failed = 0;
for (const [index, one] of wanted.entries()) {
  const { name, summary, systemd = false, beside } = one;
  const title = `${index + 1} - ${name}: ${summary}`;
  const why = reason ?? (onHost ? whyNotOnHost(systemd, beside) : null);
  if (why !== null) {
    console.log(`ok ${title} # SKIP ${why}`);
    continue;
  }
  const begun = Date.now();
  const show = (line: string): void => console.log(`# ${line}`);
  const { code, kernel, because } = await runCase(one, show);
  const seconds = ((Date.now() - begun) / 1000).toFixed(1);
  const isOk = code === 0 && because === null;
  console.log(`${isOk ? 'ok' : 'not ok'} ${title} # time=${seconds}s`);
  if (isOk) continue;
  failed++;
  for (const line of because?.split('\n') ?? []) console.log(`# beside the guest: ${line}`);
  console.log(
    `# ${code === null ? 'the guest came to no end' : `exit code ${code}`}; what its kernel said last:`,
  );
  for (const line of kernel.trimEnd().split('\n').slice(-KERNEL_LINES)) console.log(`#   ${line}`);
  console.log(`# run it again: npm run test:vm -- ${name}`);
}
if (wanted.length === 0) console.log(`# no case has a name with: ${positionals.join(', ')}`);
process.exitCode = failed > 0 || wanted.length === 0 ? 1 : 0;
