#!/usr/bin/env node
// The command `cellblock`. What a shell asks for at each press of a key does not wait until the rest is loaded.

export {};

if (process.argv[2] === 'complete-names') await import('./complete-names.js');
else await import('./command-line.js');
