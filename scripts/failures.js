// What failed of a run of tap, said again at its end: what went wrong is found there, however long the output is.
const mostLines = 400;
const mostLinesOfOne = 60;

/** Reads TAP as it comes, in pieces of any size, and keeps every point that failed, with where it stands and why. */
export class Failures {
  #rest = '';
  #stack = []; // names of the subtests around the line being read, by depth
  #current = null; // the failed point whose diagnosis may follow
  #found = [];

  read(bytes) {
    const lines = (this.#rest + bytes).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    const depth = Math.floor(line.search(/\S|$/) / 4);
    const text = line.trim();
    if (this.#current && this.#diagnosis(line, text)) return;
    const subtest = text.match(/^# Subtest: (.*)$/);
    if (subtest) {
      this.#stack.length = Math.min(this.#stack.length, depth);
      this.#stack[depth] = subtest[1];
      return;
    }
    const failed = text.match(/^not ok \d+(?: - (.*?))?(?: # time=\S+)?$/);
    if (!failed || /# (todo|skip)\b/i.test(text)) return;
    const parents = this.#stack.slice(0, depth).filter((name) => name !== undefined);
    this.#current = { title: [...parents, failed[1] ?? 'a point without a name'].join(' > '), lines: [] };
    this.#found.push(this.#current);
  }

  /** Takes a line of the block between `---` and `...`; false when the line is none of it. */
  #diagnosis(line, text) {
    const { lines } = this.#current;
    if (lines.length === 0 && text !== '---') {
      this.#current = null;
      return false;
    }
    if (text === '...') this.#current = null;
    else if (lines.length < mostLinesOfOne) lines.push(line);
    return true;
  }

  /** The report, '' when nothing failed. A subtest that failed only through its points is not listed beside them. */
  toString() {
    const isParent = ({ title }) => this.#found.some((other) => other.title.startsWith(`${title} > `));
    const said = this.#found
      .filter((failure) => !isParent(failure))
      .flatMap(({ title, lines }) => [`failed: ${title}`, ...lines.slice(1)]);
    if (said.length > mostLines) said.splice(mostLines, said.length, '(more failed: see above)');
    return said.length === 0 ? '' : `${said.join('\n')}\n`;
  }
}
