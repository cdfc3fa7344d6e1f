// How much was written to each volume of a cell that is open here, for whoever spreads load. A volume that was closed meanwhile counts from
// nothing again.

import type { Operations } from '../operations/operations.js';
import type { VolumeLoad } from '../protocol/exchange.js';
import { LIMITS } from '../protocol/limits.js';

export function volumeLoads({ parts, plane }: Operations): VolumeLoad[] {
  const { devices, cells } = parts;
  const counters = new Map(plane.counters().devices.map((device) => [device.handle, device]));
  const loads: VolumeLoad[] = [];
  for (const { handle, container, view } of devices.all()) {
    const counted = counters.get(handle);
    const volume = view ? null : cells.stateOf({ id: container });
    if (!counted || !volume) continue;
    const { write, write_zeroes: zeroes } = counted.kinds;
    loads.push({ id: volume.id, writtenBytes: String(write.bytes + zeroes.bytes) });
  }
  return loads.slice(0, LIMITS.volumes);
}
