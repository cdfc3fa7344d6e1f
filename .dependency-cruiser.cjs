// Which folder of src may import which (docs/architecture.md). Run by scripts/lint.js.
//
//   base <- model <- { identity, catalog, plane, nbd-client, protocol } <- operations <- { agent, coordinator } <- commands <- main

const order = [
  ['base'],
  ['model'],
  ['identity', 'catalog', 'plane', 'nbd-client', 'protocol'],
  ['operations'],
  ['agent', 'coordinator'],
  ['commands'],
  ['main'],
];

/** One rule a folder: it may import itself and what stands before its group, nothing else of src. */
const directions = order.flatMap((group, level) =>
  group.map((folder) => ({
    name: `${folder}-imports-downwards`,
    comment: `src/${folder} may import only: ${[folder, ...order.slice(0, level).flat()].join(', ')}`,
    severity: 'error',
    from: { path: `^src/${folder}/` },
    to: { path: '^src/', pathNot: `^src/(${[folder, ...order.slice(0, level).flat()].join('|')})/` },
  })),
);

module.exports = {
  forbidden: [
    ...directions,
    {
      name: 'known-folders',
      comment: 'A new folder of src needs its place in the order of .dependency-cruiser.cjs.',
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/(${order.flat().join('|')})/` },
      to: {},
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-barrels', severity: 'error', from: {}, to: { path: '/index\\.ts$' } },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'product-stands-alone',
      comment: 'src knows neither tests nor benchmarks.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench|scripts)/' },
    },
    {
      name: 'model-is-pure',
      comment: 'src/model and src/identity are functions over values: no files, sockets or processes.',
      severity: 'error',
      from: { path: '^src/(model|identity)/' },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?(crypto|buffer|util)$' },
    },
    {
      name: 'declared-packages',
      comment: 'Everything imported from npm stands in package.json; src needs it as a real dependency.',
      severity: 'error',
      from: { path: '^src/' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'], pathNot: '/@types/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
