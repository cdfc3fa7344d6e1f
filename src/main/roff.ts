// Text as roff, in the macros of man(7), so that groff and mandoc show it the same.

/** Prose. What stands between backquotes is typed as it is, and bold. */
export function prose(text: string): string {
  const parts = text
    .split('`')
    .map((part, index) => (index % 2 === 1 ? `\\fB${literal(part)}\\fR` : plain(part)));
  return guarded(parts.join(''));
}

/** What is typed as it stands: every hyphen is a minus, which can be searched for and copied. */
export function literal(text: string): string {
  return symbols(text).replaceAll('-', '\\-');
}

/** Flags and usage: what is between brackets is to be put in place of it, and in italics. */
export function typed(text: string): string {
  const parts = text.split(/(<[^>]*>)/).map((part) => {
    if (!part.startsWith('<')) return part === '' ? '' : `\\fB${literal(part)}\\fR`;
    return `\\fI${literal(part.slice(1, -1))}\\fR`;
  });
  return parts.join('');
}

export function section(title: string, ...content: string[]): string {
  // A paragraph begins there in any case.
  return `.SH ${title}\n${content.join('').replace(/^\.PP\n/, '')}`;
}

export function paragraph(text: string): string {
  return `.PP\n${text}\n`;
}

/** A term, already roff, and what it means. */
export function definition(term: string, ...meaning: string[]): string {
  return `.TP\n${term}\n${meaning.join('\n.br\n')}\n`;
}

/** Lines shown as they are. */
export function lines(text: string): string {
  const shown = text.split('\n').map((line) => guarded(literal(line)));
  return `.PP\n.RS 4\n.nf\n${shown.join('\n')}\n.fi\n.RE\n`;
}

/** Options in prose get their minus, too. */
function plain(text: string): string {
  return symbols(text).replaceAll(
    /(^|[\s(])(--?)(?=\w)/g,
    (_all, before: string, dashes: string) => `${before}${dashes.replaceAll('-', '\\-')}`,
  );
}

function symbols(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll(
      /[^\0-\x7f]/gu,
      (symbol) => `\\[u${symbol.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}]`,
    );
}

/** A line that begins with a dot or quote would be a request. */
function guarded(line: string): string {
  return /^[.']/.test(line) ? `\\&${line}` : line;
}
