// One attack again and again, in a process of its own, until standard input ends. Prints a line for each time it was carried out.
//
//   node dist/test/hostile/attacker.js ADDRESS EXPORT ROUNDS NAME
import { attacks, comparison } from './attacks.js';

const [address = '', name = '', rounds = '1', attackName = ''] = process.argv.slice(2);
const attack = [comparison, ...attacks].find((one) => one.name === attackName);
if (!attack) throw new Error(`no attack is called ${attackName}`);
let wanted = true;
process.stdin.on('end', () => {
  wanted = false;
});
process.stdin.resume();
while (wanted) {
  await attack.run({ address, name }, Number(rounds));
  console.log('once more');
}
