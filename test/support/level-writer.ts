// A process of its own that writes routes and records as fast as it can, and says which were answered. Its parent kills it.

import { LevelStore } from '../../src/coordinator/level-store.js';
import { operationOf, routeOf } from './store-contract.js';

const LANES = 8;
const store = await LevelStore.open(process.argv[2]!);
const first = Number(process.argv[3]);

async function lane(start: number): Promise<void> {
  for (let number = start; ; number += LANES) {
    await store.createRoute(routeOf(number));
    process.stdout.write(`created ${number}\n`);
    await store.put([
      { kind: 'operation', key: `a${number}`, value: operationOf(number) },
      { kind: 'operation', key: `b${number}`, value: operationOf(number) },
    ]);
    process.stdout.write(`put ${number}\n`);
    await store.replaceRoute(routeOf(number, { gen: 1, name: `renamed ${number}` }));
    process.stdout.write(`replaced ${number}\n`);
  }
}

await Promise.all(Array.from({ length: LANES }, (_, index) => lane(first + index)));
