// The variables of a UEFI firmware as the raw image that virtual machines keep them in (EDK II: OVMF, AAVMF). Boot entries in them name
// the partition they boot from by its GUID.
// Source: UEFI Platform Initialization Specification, volume 3, "Firmware Volume Header"; EDK II's EFI_SYSTEM_NV_DATA_FV_GUID.

import { type Reading, readAt } from './steps.js';

const HEADER_BYTES = 44;
/** fff12b8d-7696-4c8b-a985-2747075b4f50 as it lies on the disk. */
const NV_DATA = Buffer.from('8d2bf1ff96768b4ca9852747075b4f50', 'hex');
const SIGNATURE = Buffer.from('_FVH');

/** Whether it begins with a volume of variables. One inside qcow2 is not seen. */
export function* holdsFirmwareVariables(): Reading<boolean> {
  const header = yield* readAt(0n, HEADER_BYTES);
  return header.subarray(16, 32).equals(NV_DATA) && header.subarray(40, 44).equals(SIGNATURE);
}
