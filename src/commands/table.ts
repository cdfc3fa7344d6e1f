// Tables for people: columns as wide as their longest cell, numbers to the right, no lines.

export interface Column<Row> {
  title: string;
  cell: (row: Row) => string;
  align?: 'left' | 'right';
}

export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.cell(row))));
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...cells.map((line) => width(line[index] ?? ''))),
  );
  const lines = [columns.map((column) => column.title), ...cells].map((line) =>
    line
      .map((text, index) => {
        const padding = ' '.repeat((widths[index] ?? 0) - width(text));
        return columns[index]?.align === 'right' ? padding + text : text + padding;
      })
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** Characters that would move the cursor or turn the text around. */
export const disturbing = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Names may hold any character but control ones, and what was typed wrongly may hold any: what disturbs is shown escaped. */
export function printable(text: string): string {
  return text.replace(disturbing, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

/** Columns on a terminal, near enough: wide characters of East Asian scripts and emoji take two, combining ones none. */
function width(text: string): number {
  let columns = 0;
  for (const character of text) {
    if (/\p{M}/u.test(character)) continue;
    columns +=
      /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\uff01-\uff60]/u.test(
        character,
      )
        ? 2
        : 1;
  }
  return columns;
}
