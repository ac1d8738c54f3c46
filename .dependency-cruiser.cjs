/** The walls between folders (docs/architecture.md): which folder may import which. */
const path = (pattern) => ({ path: pattern });

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { pathNot: '^src/generated' } } },
    { name: 'src-never-reaches-workers', severity: 'error', from: path('^src/'), to: path('^workers/') },
    {
      name: 'workers-reach-the-registry-by-its-protocol-alone',
      severity: 'error',
      from: path('^workers/'),
      to: path(
        '^src/(api|modules|jobs|cli|generated)/|^src/(app|main|services|worker-process)\\.ts$|^src/platform/(db|queue|postgres|migrate|announcements|registry-database)\\.ts$|^node_modules/(@prisma|pg|pg-boss)/',
      ),
    },
    {
      name: 'a-module-is-entered-by-its-index',
      severity: 'error',
      from: { path: '^(src|workers)/(?!modules/)' },
      to: { path: '^src/modules/[^/]+/(?!index\\.ts$|graphql\\.ts$)' },
    },
    {
      name: 'modules-meet-at-their-index',
      severity: 'error',
      from: { path: '^src/modules/([^/]+)/' },
      to: { path: '^src/modules/[^/]+/(?!index\\.ts$)', pathNot: '^src/modules/$1/' },
    },
    {
      name: 'graphql-only-from-api',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/api/' },
      to: path('^src/modules/[^/]+/graphql\\.ts$'),
    },
    {
      name: 'resolvers-never-reach-stores-database-queue',
      severity: 'error',
      from: path('graphql\\.ts$|^src/api/'),
      to: path('\\.store\\.ts$|^src/platform/(db|queue|postgres|migrate)\\.ts$'),
    },
    {
      name: 'prisma-only-in-stores-and-platform',
      severity: 'error',
      from: { path: '^(src|workers)/', pathNot: '\\.store\\.ts$|^src/platform/|^src/generated/' },
      to: { path: '^src/generated/prisma|^node_modules/@prisma', pathNot: 'generated/prisma/enums\\.ts$' },
    },
    {
      name: 'platform-knows-no-feature',
      severity: 'error',
      from: path('^src/platform/'),
      to: path('^src/(modules|api|jobs|cli)/'),
    },
    {
      name: 'rules-are-pure',
      severity: 'error',
      from: path('\\.rules\\.ts$'),
      to: {
        path: '^src/|^node_modules/|^[a-z:]+$',
        pathNot:
          '\\.(rules|records)\\.ts$|^src/(errors|input)\\.ts$|^src/formats/(csv\\.ts$|encoders/)|^src/protocol/|^src/jobs/|enums\\.ts$|^node_modules/zod|^src/modules/[^/]+/index\\.ts$|^node:path$|^path$|^node:crypto$|^crypto$',
      },
    },
    {
      name: 'engine-only-engine-and-tfjs',
      severity: 'error',
      from: path('^workers/engine/'),
      to: { path: '^src/(?!statistics/|formats/((tensor-check|tar-header)\\.ts$|encoders/))|^workers/(?!engine/)' },
    },
    {
      name: 'statistics-import-nothing-of-ours',
      severity: 'error',
      from: path('^src/statistics/'),
      to: { path: '^(src|workers)/', pathNot: '^src/statistics/' },
    },
    {
      name: 'tfjs-has-one-import',
      severity: 'error',
      from: { path: '^(src|workers)/', pathNot: '^workers/engine/tensorflow\\.ts$' },
      to: { path: '^node_modules/@tensorflow/.*\\.js$' },
    },
    {
      name: 'nexus-has-one-import',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/api/nexus\\.ts$|^src/generated' },
      to: { path: '^node_modules/nexus' },
    },
    {
      name: 'protocol-imports-only-errors-formats-and-statistics',
      severity: 'error',
      from: path('^src/protocol/'),
      to: { path: '^(src|workers)/', pathNot: '^src/(formats|protocol|statistics)/|^src/errors\\.ts$' },
    },
    {
      name: 'formats-import-nothing-of-ours',
      severity: 'error',
      from: path('^src/formats/'),
      to: { path: '^(src|workers)/', pathNot: '^src/formats/' },
    },
    {
      name: 'artifacts-before-datasets',
      severity: 'error',
      from: path('^src/modules/artifacts/'),
      to: path('^src/modules/(datasets|models|runs|evaluations|exports)/'),
    },
    {
      name: 'datasets-and-models-before-runs',
      severity: 'error',
      from: path('^src/modules/(datasets|models)/'),
      to: { path: '^src/modules/(runs|evaluations|exports)/' },
    },
    {
      name: 'runs-before-embeddings-evaluations-and-exports',
      severity: 'error',
      from: path('^src/modules/runs/'),
      to: path('^src/modules/(embeddings|evaluations|exports)/'),
    },
    {
      name: 'exports-and-evaluations-apart',
      severity: 'error',
      from: path('^src/modules/(exports|evaluations)/'),
      to: { path: '^src/modules/(exports|evaluations)/', pathNot: '^src/modules/$1/' },
    },
    {
      name: 'datasets-and-models-before-embeddings',
      severity: 'error',
      from: path('^src/modules/(datasets|models)/'),
      to: path('^src/modules/embeddings/'),
    },
    {
      name: 'embeddings-before-evaluations-and-exports',
      severity: 'error',
      from: path('^src/modules/embeddings/'),
      to: path('^src/modules/(evaluations|exports)/'),
    },
    // Decoders and TensorFlow process untrusted bytes: they may crash the child process of a run, never the server.
    {
      name: 'no-decoder-in-the-server',
      severity: 'error',
      from: path('^src/(main|app)\\.ts$'),
      to: { path: '^node_modules/(sharp|@img)/|^node_modules/@tensorflow/.*\\.js$', reachable: true },
    },
    {
      name: 'pages-talk-to-the-server-by-its-api-alone',
      severity: 'error',
      from: path('^web/'),
      to: path('^(src|workers)/'),
    },
    {
      name: 'client-verbs-talk-to-the-server-by-its-api-alone',
      severity: 'error',
      from: path('^src/cli/client/'),
      // socket-owner asks the kernel to whom a port belongs: before the server is asked anything. The digest of a
      // version is computed, features are written, and shards of weights are merged by the formats, which are pure.
      // Generated code is what the API's schema says.
      to: {
        path: '^(src|workers)/',
        pathNot:
          '^src/cli/|^src/env\\.ts$|^src/generated/(schema\\.d|pretraining-methods)\\.ts$|^src/formats/(manifest/|(hdf5|npy|random-access|sharded-safetensors)\\.ts$)|^src/platform/socket-owner\\.ts$',
      },
    },
    { name: 'programs-know-nothing-of-the-pages', severity: 'error', from: path('^(src|workers)/'), to: path('^web/') },
    {
      name: 'runtime-needs-no-dev-dependency',
      severity: 'error',
      from: path('^(src|workers)/'),
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm', 'type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules|src/generated|web/src/generated' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { conditionNames: ['import', 'node', 'default'], extensions: ['.ts', '.tsx', '.js'] },
  },
};
