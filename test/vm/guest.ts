// Runs one case where the driver is: in the guest, or on a machine that has it. The exit code is the answer.
import { cases } from './cases.js';
import { Machine } from './machine.js';

const name = process.env.CELLBLOCK_VM_CASE?.trim();
const found = cases.find((one) => one.name === name);
if (!found) {
  console.log(`there is no case ${name}`);
  process.exit(2);
}
const machine = new Machine();
try {
  await found.run(machine, Number(process.env.CELLBLOCK_VM_BOOT ?? 1));
  await machine.end();
  process.exit(0);
} catch (error) {
  console.log(error instanceof Error ? (error.stack ?? error.message) : String(error));
  console.log(machine.troubles());
  // What hangs would hang the clean-up too.
  process.exit(1);
}
