// The records of a transaction log as nbd-server writes it (native/nbd/log_record.h writes them here): how far a file of them is
// whole. A process or a machine that died leaves the last one cut off, and what is appended behind it nobody could read.

const REQUEST_MAGIC = 0x25609513;
const REPLY_MAGIC = 0x67446698;
const MARK_MAGIC = 0x25609514;
const REQUEST_BYTES = 28;
const REPLY_BYTES = 16;
const WRITE = 1;

/**
 * Bytes of the whole records at the front of a file of `size` bytes. `read` answers a part of the file from an offset on, as many bytes
 * as it likes, at least 28 where there are so many.
 */
export async function wholeRecordsIn(
  size: number,
  read: (offset: number) => Promise<Buffer>,
): Promise<number> {
  let at = 0;
  let withData = false;
  let part: Buffer = Buffer.alloc(0);
  let partAt = 0;
  while (at < size) {
    if (at + REQUEST_BYTES > partAt + part.length || at < partAt) {
      part = await read(at);
      partAt = at;
    }
    const record = part.subarray(at - partAt);
    const bytes = record.length < REPLY_BYTES ? null : bytesOf(record, withData);
    if (bytes === null || at + bytes > size) break;
    if (record.readUInt32BE(0) === MARK_MAGIC) withData = record.readUInt32BE(24) !== 0;
    at += bytes;
  }
  return at;
}

/** Of the record that begins here; null: none does. */
function bytesOf(record: Buffer, withData: boolean): number | null {
  const magic = record.readUInt32BE(0);
  if (magic === REPLY_MAGIC) return REPLY_BYTES;
  if ((magic !== REQUEST_MAGIC && magic !== MARK_MAGIC) || record.length < REQUEST_BYTES) return null;
  const hasData = withData && magic === REQUEST_MAGIC && record.readUInt16BE(6) === WRITE;
  return REQUEST_BYTES + (hasData ? record.readUInt32BE(24) : 0);
}
