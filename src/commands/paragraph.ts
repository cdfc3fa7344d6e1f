// Sentences in lines that fit a terminal.

export const PAGE_COLUMNS = 100;

/** `first`: before the first line; those below are set in as far, or by `columns`. */
export function paragraph(text: string, first = '', columns = first.length): string {
  const indent = ' '.repeat(columns);
  const lines: string[] = [];
  let line = first;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && line.length + 1 + word.length > PAGE_COLUMNS) {
      lines.push(line);
      line = indent;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return `${[...lines, line].map((each) => each.trimEnd()).join('\n')}\n`;
}
