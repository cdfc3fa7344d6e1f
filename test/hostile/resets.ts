// A session with a request of each kind, cut at every byte by a reset: whatever the server was doing for the client, it has to
// let go of it. Over TCP, since only there a client can send a reset.
import net from 'node:net';
import {
  CMD,
  infoRequest,
  metaRequest,
  OPT,
  optionMessage,
  requestMessage,
  u32,
} from '../support/nbd-wire.js';

const LENGTH = 512;

/** All that a client says, up to the polite end. */
export function session(name: string): Buffer {
  const request = (type: number, length: number): Buffer => requestMessage({ type, offset: 4096, length });
  return Buffer.concat([
    u32(3),
    optionMessage(OPT.list),
    optionMessage(OPT.structuredReply),
    optionMessage(OPT.info, infoRequest(name, [1, 3])),
    optionMessage(OPT.listMetaContext, metaRequest(name, [])),
    optionMessage(OPT.setMetaContext, metaRequest(name, ['base:allocation'])),
    optionMessage(OPT.go, infoRequest(name)),
    request(CMD.write, LENGTH),
    Buffer.alloc(LENGTH, 9),
    request(CMD.read, LENGTH),
    request(CMD.flush, 0).fill(0, 16, 24),
    request(CMD.trim, LENGTH),
    request(CMD.writeZeroes, LENGTH),
    request(CMD.cache, LENGTH),
    request(CMD.blockStatus, LENGTH),
    request(99, 0),
    request(CMD.disc, 0),
  ]);
}

/** Whether the server gets to answer what came before the reset. */
export type Moment = 'at once' | 'after an answer';

/** Sends the bytes and resets the connection; resolves when it is gone. */
export async function sendAndReset(port: number, bytes: Buffer, moment: Moment): Promise<void> {
  const socket = net.connect({ host: '127.0.0.1', port });
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  socket.on('error', () => {}); // the server may have closed
  const gone = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    if (moment === 'after an answer') socket.once('data', () => resolve());
    socket.write(bytes, () => moment === 'at once' && resolve());
  });
  socket.resetAndDestroy();
  await gone;
}
