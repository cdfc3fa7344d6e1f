// Programs run to their end: what they print is an answer, and a failure is an error with their words in it.
import { spawn } from 'node:child_process';

/** What it printed; an error when it fails or takes longer than `seconds`. */
export async function run(command, args, { seconds = 120, input, env } = {}) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: env ?? process.env });
  const printed = { out: '', err: '' };
  child.stdout.on('data', (bytes) => (printed.out += bytes));
  child.stderr.on('data', (bytes) => (printed.err += bytes));
  child.stdin.on('error', () => {}); // it ended before it read all: its exit code says why
  child.stdin.end(input);
  const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve(code ?? signal));
  });
  clearTimeout(timer);
  if (code === 0) return printed.out;
  const words = (printed.err || printed.out).trim().split('\n').slice(-5).join('\n');
  throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${words}`);
}

/** Asks `question` every fifth of a second until it answers something; null after `seconds`. */
export async function until(question, seconds) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await question();
    if (answer) return answer;
    if (Date.now() > end) return null;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
