// Addresses as they may be shown.

/** `wss://user:secret@host?key=secret` as `wss://[redacted]@host?key=[redacted]`, wherever in a text. */
export function withoutCredentials(text: string): string {
  return text.replace(
    /\b([a-z][a-z0-9+.-]*:\/\/)([^\s"'<>]*)/gi,
    (_all, scheme: string, rest: string) => `${scheme}${withoutValues(withoutUser(rest))}`,
  );
}

/** A password may hold any character where somebody forgot to encode it: the last `@` ends it. Without a host there is no user. */
function withoutUser(rest: string): string {
  const at = rest.startsWith('/') ? -1 : rest.lastIndexOf('@');
  return at < 0 ? rest : `[redacted]@${rest.slice(at + 1)}`;
}

/** Of a query: names tell what an address is for; `socket` is a path. */
function withoutValues(rest: string): string {
  const at = rest.indexOf('?');
  if (at < 0) return rest;
  const query = rest.slice(at).replace(/([?&])(?!socket=)([^=&]*)=[^&]*/g, '$1$2=[redacted]');
  return rest.slice(0, at) + query;
}
