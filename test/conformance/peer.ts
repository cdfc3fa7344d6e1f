// The conformance cases against any server, to judge the cases themselves by what others do:
//
//   CELLBLOCK_PEER=unix:/tmp/s CELLBLOCK_PEER_EXPORT=name CELLBLOCK_PEER_SIZE=268435456 node dist/test/conformance/peer.js
//
// CELLBLOCK_PEER_READ_ONLY, CELLBLOCK_PEER_BITMAP and CELLBLOCK_PEER_PROMISES=1 switch on what the server has.
import t from 'tap';
import { runAllCases } from './all-cases.js';
import { offersOf } from './offers.js';
import type { Offer } from './target.js';

const {
  CELLBLOCK_PEER: address,
  CELLBLOCK_PEER_EXPORT: writable = '',
  CELLBLOCK_PEER_SIZE: size = '0',
} = process.env;
const {
  CELLBLOCK_PEER_READ_ONLY: readOnly,
  CELLBLOCK_PEER_BITMAP: bitmap,
  CELLBLOCK_PEER_PROMISES: promises,
} = process.env;

if (address === undefined) {
  t.pass('no server was named in CELLBLOCK_PEER');
} else {
  const offers: Set<Offer> = await offersOf(address, writable);
  if (readOnly !== undefined) offers.add('secondExport');
  await runAllCases(t, {
    address,
    writable,
    size: BigInt(size),
    readOnly: readOnly ?? null,
    bitmap: bitmap ?? null,
    forbidden: null,
    defaultExport: null,
    description: null,
    promises: promises === '1',
    processId: null,
    // Whoever promises all has to offer all: then its absence fails the cases.
    ...(promises !== '1' && { offers }),
  });
}
