// Hooks of Node's module loader: one module is loaded with a piece of its text changed.

import type { Mutation } from './mutations.js';

let mutation: Mutation;

export function initialize(data: Mutation): void {
  mutation = data;
}

type Loaded = { format: string; source: string | ArrayBuffer | Uint8Array; shortCircuit?: boolean };

export async function load(
  url: string,
  context: object,
  next: (url: string, context: object) => Promise<Loaded>,
): Promise<Loaded> {
  const loaded = await next(url, context);
  if (!url.endsWith(`/${mutation.module}`)) return loaded;
  const text = Buffer.from(loaded.source as Uint8Array).toString();
  if (text.split(mutation.find).length !== 2)
    throw new Error(`${mutation.module} has not once what is to be changed in it: ${mutation.find}`);
  return { ...loaded, source: text.replace(mutation.find, () => mutation.put) };
}
