// The checksum of LVM2: the reflected CRC-32 of IEEE 802.3 with a start of its own and no inversion.

const START = 0xf597a6cf;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function lvmCrc(bytes: Uint8Array): number {
  let crc = START;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return crc >>> 0;
}
