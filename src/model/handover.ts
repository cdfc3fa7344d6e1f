// How a program hands a client over to the agent, so that it is served one export: see native/plane/handover.h.

const MAGIC = 'CBSTDIO1';

/** The socket for it lies beside that of the control API. */
export function handoverPath(apiPath: string): string {
  return `${apiPath}.stdio`;
}

/** What stands before the client's own bytes when the connection itself is the client's. */
export function handoverMessage(exportName: string): Buffer {
  const name = Buffer.from(exportName);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(name.length);
  return Buffer.concat([Buffer.from(MAGIC), length, name]);
}
