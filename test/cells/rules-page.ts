// docs/route-explained.md.

export interface Told {
  rule: string;
  title?: string;
  story: string;
  states: readonly [x: string, y: string];
  text: string;
}

export function rulesPage(told: readonly Told[]): string {
  const parts = told.map(
    ({ rule, title, story, states: [x, y], text }) =>
      `## ${title ?? rule}\n\n${story}\n\nx was ${x}, y ${y}.\n\n\`\`\`\n$ cellblock route show disk --explain\n${text.trimEnd()}\n\`\`\`\n`,
  );
  return `# Each rule, explained by the command line

Made by \`npm run show:rules\`: agents and a coordinator are real processes in network namespaces, and each rule is reached by what really happens to
them. They are killed (kill -9) when a certain message, or a certain write to etcd, is on its way, the network between them is cut, or they come back with a disk of before. The command is typed when the
rule decides, or right after it has; then the decision stands in the list at the end. What the words mean is in [cells.md](cells.md#why-it-decides-so), the rules
themselves are in [decision 25](decisions/0025-the-coordinator-does-what-the-model-says.md) and \`src/model/cell/\`.

${parts.join('\n')}`;
}
