// `npm start`: an agent on a store in ./data, with a volume to try, and how to use it. Stopped with Ctrl-C; what was written is
// there at the next start.

import { resolve } from 'node:path';
import { EXIT_CODES } from '../agent/exit-codes.js';
import { makeLogger } from '../agent/logger.js';
import { makeSettings } from '../agent/settings.js';
import { asCellblockError } from '../base/errors.js';
import { nbdUri } from '../nbd-client/address.js';
import { loadPlane } from '../plane/addon.js';
import { composeAgent, type RunningAgent } from './composition.js';
import { runUntilStopped } from './run-until-stopped.js';
import { managerOf } from './service-manager-of.js';
import { version } from './version.js';

const DIRECTORY = resolve('data');
const NBD_SOCKET = resolve(DIRECTORY, 'nbd.sock');
const TCP_ADDRESS = 'tcp:127.0.0.1:10809';
const VOLUME = 'demo';
const VOLUME_BYTES = 10n << 30n;

process.exit(await main());

async function main(): Promise<number> {
  const log = makeLogger({ level: 'warn', journald: false });
  try {
    const code = await runUntilStopped(
      { log, manager: managerOf(process, log) },
      () => startAgent(log),
      introduce,
    );
    if (code === 0) process.stdout.write('\nStopped. `npm start` goes on where this ended.\n');
    return code;
  } catch (error) {
    const { kind, message, hint } = asCellblockError(error);
    process.stderr.write(`npm start: ${message} ${hint}\n`);
    return EXIT_CODES[kind];
  }
}

async function startAgent(log: ReturnType<typeof makeLogger>): Promise<RunningAgent> {
  const line = { store: DIRECTORY, nbd: [`unix:${NBD_SOCKET}`], api: resolve(DIRECTORY, 'api.sock') };
  const agent = await composeAgent(makeSettings({}, line), { plane: loadPlane(), log, debug: false });
  listenOnTcp(agent);
  if (agent.operations.listVolumes().length === 0) {
    await agent.operations.createVolume(VOLUME, { sizeBytes: VOLUME_BYTES });
  }
  return agent;
}

/** Convenient, not needed: the port may be somebody else's. */
function listenOnTcp({ operations, listeners }: RunningAgent): void {
  try {
    listeners.push(operations.listen(TCP_ADDRESS));
  } catch (error) {
    process.stdout.write(`(${asCellblockError(error).message} Only the unix socket is served.)\n`);
  }
}

function introduce({ operations, listeners }: RunningAgent): void {
  const name =
    (operations.listVolumes().find((volume) => volume.name === VOLUME) ?? operations.listVolumes()[0])
      ?.name ?? VOLUME;
  const uri = nbdUri(`unix:${NBD_SOCKET}`, name);
  process.stdout.write(`
cellblock ${version} serves volume "${name}" on ${listeners.join(' and ')}.
Ctrl-C stops; what was written stays in ${DIRECTORY}.

  nbdinfo   nbdinfo '${uri}'
  qemu      qemu-system-x86_64 -drive 'file=${uri},format=raw,if=virtio'
  kernel    sudo nbd-client -unix ${NBD_SOCKET} -N ${name} /dev/nbd0
  manage    npx cellblock volume list      (snapshot, clone, import, export: npx cellblock --help)

`);
}
