// A guest under emulation: QEMU with UEFI firmware, its disks over NBD, and its serial console as what it says.
import { spawn } from 'node:child_process';
import { copyFileSync, existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { until } from './command.js';

const FIRMWARE = '/usr/share/OVMF';
const MEBIBYTES = 384;

/** Of those that boot; so that none is left when this program ends. */
const running = new Set();

export class Guest {
  /** `serial`: the machine's serial number, by which the guest knows what to do. */
  constructor(name, { disks, socket, folder, serial }) {
    this.console = '';
    this.ended = false;
    const variables = path.join(folder, `${name}-variables.fd`);
    if (!existsSync(variables)) copyFileSync(path.join(FIRMWARE, 'OVMF_VARS_4M.fd'), variables);
    this.log = path.join(folder, `${name}-${Date.now()}.console`);
    const args = qemuArguments(disks, { socket, variables, serial });
    this.child = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this);
    for (const stream of [this.child.stdout, this.child.stderr])
      stream.on('data', (bytes) => (this.console += bytes.toString('latin1')));
    this.closed = new Promise((resolve) => this.child.on('close', resolve));
    this.child.on('error', (error) => (this.console += error.message));
    this.closed.then(() => this.#end());
  }

  #end() {
    this.ended = true;
    running.delete(this);
    writeFileSync(this.log, this.console);
  }

  /** The last thing it said about that, or null. */
  told(what) {
    const found = [...this.console.matchAll(new RegExp(`^tell ${what} ?(.*)$`, 'gm'))].at(-1);
    return found ? found[1].trim() : null;
  }

  /** Waits until it has said so, or has ended, for so many seconds at most. */
  async waitFor(what, seconds) {
    await until(() => this.told(what) !== null || this.ended, seconds);
    return this.told(what);
  }

  /** Waits until it has written so many times. Answers whether it has. */
  async waitForWrites(number, seconds) {
    const hasWritten = () => Number(this.told('wrote')) >= number;
    await until(() => hasWritten() || this.ended, seconds);
    return hasWritten();
  }

  /** Until it has switched itself off. Answers whether it did in time; it is ended else. */
  async waitForEnd(seconds) {
    const isOff = (await until(() => this.ended, seconds)) === true;
    await this.stop();
    return isOff && this.told('end') !== null;
  }

  async stop() {
    if (!this.ended) this.child.kill('SIGKILL');
    await this.closed;
  }
}

export async function stopAll() {
  await Promise.all([...running].map((guest) => guest.stop()));
}

function qemuArguments(disks, { socket, variables, serial }) {
  const drives = disks.flatMap((disk) => [
    '-drive',
    `file=nbd+unix:///${disk}?socket=${socket},format=raw,if=virtio,cache=none,discard=unmap`,
  ]);
  const code = path.join(FIRMWARE, 'OVMF_CODE_4M.fd');
  return [
    ...['-machine', 'q35', '-accel', 'tcg', '-m', String(MEBIBYTES), '-nodefaults', '-no-reboot'],
    ...['-display', 'none', '-serial', 'stdio', '-smbios', `type=1,serial=${serial}`],
    ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${code}`],
    ...['-drive', `if=pflash,unit=1,format=raw,file=${variables}`],
    ...drives,
  ];
}
