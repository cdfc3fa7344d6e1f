// Which format an image has that is not raw, by what it begins with: taken as it is it would make a disk that nothing starts from.

/** Bytes from the begin of an image that are enough to tell. */
export const HEAD_BYTES = 512;

const SIGNATURES: readonly { format: string; qemu: string; at: number; bytes: Buffer }[] = [
  { format: 'qcow2', qemu: 'qcow2', at: 0, bytes: Buffer.from('QFI\xfb', 'latin1') },
  { format: 'VMDK', qemu: 'vmdk', at: 0, bytes: Buffer.from('KDMV') },
  { format: 'VMDK', qemu: 'vmdk', at: 0, bytes: Buffer.from('# Disk DescriptorFile') },
  { format: 'VHDX', qemu: 'vhdx', at: 0, bytes: Buffer.from('vhdxfile') },
  { format: 'VHD', qemu: 'vpc', at: 0, bytes: Buffer.from('conectix') },
  { format: 'VDI', qemu: 'vdi', at: 0x40, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
];

/** Its name, and what qemu-img calls it; null: raw, as far as can be seen. */
export function formatOf(head: Buffer): { format: string; qemu: string } | null {
  const found = SIGNATURES.find(({ at, bytes }) => head.subarray(at, at + bytes.length).equals(bytes));
  return found ? { format: found.format, qemu: found.qemu } : null;
}
