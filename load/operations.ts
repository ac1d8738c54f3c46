/** Every list and detail query of the API, as tools send them, with new random arguments for each request. */
import { Client } from 'pg';

export interface Operation {
  readonly name: string;
  readonly query: string;
  /** Of all requests, relative to the others. */
  readonly weight: number;
  /** True if the request asks for an exact total count, the only answer whose cost grows with the number of rows. */
  readonly isCount?: boolean;
  variables(): Readonly<Record<string, unknown>>;
}

interface Samples {
  readonly datasets: readonly { readonly id: string; readonly slug: string }[];
  readonly versions: readonly string[];
  readonly busyVersions: readonly string[];
  readonly models: readonly { readonly id: string; readonly slug: string }[];
  readonly checkpoints: readonly string[];
  readonly runs: readonly string[];
  readonly queuedRuns: readonly string[];
  readonly trainings: readonly string[];
  readonly longTraining: string;
  readonly evaluations: readonly string[];
}

const DATASET_FIELDS =
  'id slug name imageKind imageCount licence publishedYear organs { code name } stains { code name } resolutions { magnification micronsPerPixel } latestVersion { id version imageCount }';
const RUN_FIELDS =
  'id kind status attempt progress queuePosition failure { class code message hint } queuedAt startedAt finishedAt';
const CHECKPOINT_FIELDS =
  'id version encoder embeddingDim step epoch sha256 byteSize createdAt model { slug } inputContract { imageSizePx channelMean channelStd }';
const EVALUATION_FIELDS =
  'id protocol createdAt metrics { name value ci95Low ci95High } checkpoint { id version model { slug } } datasetVersion { id version dataset { slug } }';
const PAGE = 'pageInfo { hasNextPage endCursor }';

/** Draws arguments from the contents of the seeded database. */
export async function operationsFor(databaseUrl: string): Promise<readonly Operation[]> {
  const samples = await readSamples(databaseUrl);
  const byId = (ids: readonly string[]) => () => ({ id: oneOf(ids) });
  /** A cursor of a list by id, somewhere in the middle: the depth of a page must not matter. */
  const after = (ids: readonly string[]) => () => ({
    after: Buffer.from(JSON.stringify([oneOf(ids)])).toString('base64url'),
  });
  const none = () => ({});
  return [
    {
      name: 'datasets',
      weight: 4,
      variables: none,
      query: `{ datasets(first: 50) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets filtered',
      weight: 3,
      variables: () => ({ organ: oneOf(['BREAST', 'COLON', 'LUNG', 'KIDNEY']) }),
      query: `query ($organ: String!) { datasets(first: 50, filter: { organs: [$organ], micronsPerPixel: { max: 0.5 } }) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets searched',
      weight: 3,
      variables: () => ({ search: `case ${Math.ceil(Math.random() * 5000)}` }),
      query: `query ($search: String!) { datasets(first: 50, filter: { search: $search }) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets by year',
      weight: 1,
      variables: none,
      query: `{ datasets(first: 50, orderBy: { field: PUBLISHED_YEAR, direction: DESC }) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets by images',
      weight: 1,
      variables: none,
      query: `{ datasets(first: 50, orderBy: { field: IMAGE_COUNT }) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets by creation',
      weight: 1,
      variables: none,
      query: `{ datasets(first: 50, orderBy: { field: CREATED_AT, direction: DESC }) { nodes { ${DATASET_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'datasets counted',
      weight: 1,
      isCount: true,
      variables: none,
      query: `{ datasets(first: 50) { totalCount nodes { id } } }`,
    },
    {
      name: 'datasetFacets',
      weight: 1,
      isCount: true,
      variables: none,
      query: `{ datasetFacets { datasetCount ${['organs', 'stains', 'imageKinds', 'tasks', 'licences', 'provenances', 'magnifications'].map((facet) => `${facet} { value name count }`).join(' ')} } }`,
    },
    {
      name: 'organs and stains',
      weight: 1,
      isCount: true,
      variables: none,
      query: `{ organs { code name datasetCount } stains { code name datasetCount } }`,
    },
    {
      name: 'dataset by slug',
      weight: 4,
      variables: () => ({ slug: oneOf(samples.datasets).slug }),
      query: `query ($slug: String!) { dataset(slug: $slug) { ${DATASET_FIELDS} factSources { field evidence sourceUrls } versions(first: 10) { nodes { id version status imageCount labelCounts { label count } issues { kind count } } } } }`,
    },
    {
      name: 'dataset by id',
      weight: 2,
      variables: () => ({ id: oneOf(samples.datasets).id }),
      query: `query ($id: ID!) { dataset(id: $id) { ${DATASET_FIELDS} } }`,
    },
    {
      name: 'models',
      weight: 2,
      variables: none,
      query: `{ models(first: 50) { nodes { id slug name aliases { name checkpoint { id version } } } ${PAGE} } }`,
    },
    {
      name: 'models searched',
      weight: 1,
      variables: () => ({ search: `model ${Math.floor(Math.random() * 500)}` }),
      query: `query ($search: String!) { models(first: 50, filter: { search: $search }) { nodes { id slug name } } }`,
    },
    {
      name: 'model with checkpoints',
      weight: 3,
      variables: () => ({ slug: oneOf(samples.models).slug }),
      query: `query ($slug: String!) { model(slug: $slug) { id name aliases { name checkpoint { id } } checkpoints(first: 20) { nodes { ${CHECKPOINT_FIELDS} } ${PAGE} } } }`,
    },
    {
      name: 'checkpoints',
      weight: 2,
      variables: none,
      query: `{ checkpoints(first: 50) { nodes { ${CHECKPOINT_FIELDS} trainedOn { id dataset { slug } } sourceRun { id status } } ${PAGE} } }`,
    },
    {
      name: 'checkpoints deep',
      weight: 1,
      variables: after(samples.checkpoints),
      query: `query ($after: String) { checkpoints(first: 50, after: $after) { nodes { ${CHECKPOINT_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'checkpoints by encoder',
      weight: 1,
      variables: none,
      query: `{ checkpoints(first: 50, filter: { encoder: RESNET50 }) { nodes { id } } }`,
    },
    {
      name: 'checkpoints published',
      weight: 1,
      variables: none,
      query: `{ checkpoints(first: 50, filter: { published: true }) { nodes { id publishedSlug } } }`,
    },
    {
      name: 'checkpoints trained on',
      weight: 1,
      variables: () => ({ id: oneOf(samples.versions) }),
      query: `query ($id: ID!) { checkpoints(first: 50, filter: { trainedOnDatasetVersionId: $id }) { nodes { ${CHECKPOINT_FIELDS} } } }`,
    },
    {
      name: 'checkpoint',
      weight: 4,
      variables: byId(samples.checkpoints),
      query: `query ($id: ID!) { checkpoint(id: $id) { ${CHECKPOINT_FIELDS} formats downloadUrl trainedOn { id version dataset { slug } } sourceRun { ${RUN_FIELDS} } evaluations(first: 20) { nodes { ${EVALUATION_FIELDS} } } } }`,
    },
    { name: 'runs', weight: 4, variables: none, query: `{ runs(first: 50) { nodes { ${RUN_FIELDS} } ${PAGE} } }` },
    {
      name: 'runs deep',
      weight: 2,
      variables: after(samples.runs),
      query: `query ($after: String) { runs(first: 50, after: $after) { nodes { ${RUN_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'runs of a kind',
      weight: 2,
      variables: () => ({ kinds: [oneOf(['IMPORT', 'PRETRAINING', 'EVALUATION'])] }),
      query: `query ($kinds: [RunKind!]) { runs(first: 50, filter: { kinds: $kinds }) { nodes { ${RUN_FIELDS} } } }`,
    },
    {
      name: 'runs in a status',
      weight: 2,
      variables: () => ({ statuses: [oneOf(['QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELED'])] }),
      query: `query ($statuses: [RunStatus!]) { runs(first: 50, filter: { statuses: $statuses }) { nodes { ${RUN_FIELDS} } } }`,
    },
    {
      name: 'runs by kind and status',
      weight: 1,
      variables: none,
      query: `{ runs(first: 50, filter: { kinds: [IMPORT, PRETRAINING], statuses: [FAILED, CANCELED] }) { nodes { ${RUN_FIELDS} } } }`,
    },
    {
      name: 'runs counted',
      weight: 1,
      isCount: true,
      variables: none,
      query: `{ runs(first: 50) { totalCount nodes { id } } }`,
    },
    {
      name: 'run',
      weight: 4,
      variables: byId(samples.runs),
      query: `query ($id: ID!) { run(id: $id) { ${RUN_FIELDS} config environment checkpoints { id version } evaluation { id } datasetVersion { id version } } }`,
    },
    {
      name: 'run waiting',
      weight: 1,
      variables: byId(samples.queuedRuns),
      query: `query ($id: ID!) { run(id: $id) { ${RUN_FIELDS} } }`,
    },
    {
      name: 'run with metrics',
      weight: 3,
      variables: byId(samples.trainings),
      query: `query ($id: ID!) { run(id: $id) { id metrics { name unit points { step value recordedAt } } } }`,
    },
    {
      name: 'run with a long series',
      weight: 1,
      variables: () => ({ id: samples.longTraining }),
      query: `query ($id: ID!) { run(id: $id) { id metrics(names: ["loss"]) { name points { step value } } } }`,
    },
    {
      name: 'evaluations',
      weight: 2,
      variables: none,
      query: `{ evaluations(first: 50) { nodes { ${EVALUATION_FIELDS} } ${PAGE} } }`,
    },
    {
      name: 'evaluations of a version',
      weight: 1,
      variables: () => ({ id: oneOf(samples.busyVersions) }),
      query: `query ($id: ID!) { evaluations(first: 50, filter: { datasetVersionId: $id, protocol: LINEAR_PROBE }) { nodes { ${EVALUATION_FIELDS} } } }`,
    },
    {
      name: 'evaluations of a protocol',
      weight: 1,
      variables: none,
      query: `{ evaluations(first: 50, filter: { protocol: KNN }) { nodes { id } } }`,
    },
    {
      name: 'evaluation',
      weight: 3,
      variables: byId(samples.evaluations),
      query: `query ($id: ID!) { evaluation(id: $id) { ${EVALUATION_FIELDS} confusionMatrix { labelNames counts } baselines { kind metrics { name value } } split run { id } } }`,
    },
    {
      name: 'leaderboard',
      weight: 2,
      variables: () => ({ id: oneOf(samples.versions) }),
      query: `query ($id: ID!) { leaderboard(datasetVersionId: $id, protocol: LINEAR_PROBE) { rank overlapsPretraining metric { name value } checkpoint { id version model { slug } } evaluation { id } } }`,
    },
    {
      name: 'leaderboard of a benchmark',
      weight: 1,
      variables: () => ({ id: oneOf(samples.busyVersions) }),
      query: `query ($id: ID!) { leaderboard(datasetVersionId: $id, protocol: LINEAR_PROBE) { rank overlapsPretraining metric { name value } checkpoint { id version model { slug } } evaluation { id } } }`,
    },
    {
      name: 'node',
      weight: 2,
      variables: byId([
        ...samples.runs.slice(0, 50),
        ...samples.evaluations.slice(0, 50),
        ...samples.checkpoints.slice(0, 50),
      ]),
      query: `query ($id: ID!) { node(id: $id) { id __typename } }`,
    },
    { name: 'viewer', weight: 1, variables: none, query: `{ viewer { name role } }` },
    { name: 'server', weight: 1, variables: none, query: `{ server { version database startedAt } }` },
    {
      name: 'server counted',
      weight: 1,
      isCount: true,
      variables: none,
      query: `{ server { counts { datasets models checkpoints runs evaluations } } }`,
    },
  ];
}

function oneOf<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error('Nothing to choose from: the database is not seeded.');
  return item;
}

async function readSamples(databaseUrl: string): Promise<Samples> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const named = async (table: string): Promise<{ id: string; slug: string }[]> =>
      (
        await client.query<{ id: string; slug: string }>(
          `SELECT id, slug FROM "${table}" WHERE slug LIKE 'load-%' ORDER BY random() LIMIT 1000`,
        )
      ).rows;
    const ids = async (from: string): Promise<string[]> =>
      (await client.query<{ id: string }>(`SELECT id FROM ${from} ORDER BY random() LIMIT 2000`)).rows.map(
        (row) => row.id,
      );
    const ranked = async (sql: string): Promise<string[]> =>
      (await client.query<{ id: string }>(sql)).rows.map((row) => row.id);
    const [longTraining = ''] = await ranked(
      `SELECT "runId" AS id FROM "RunMetricChunk" GROUP BY 1 ORDER BY count(*) DESC LIMIT 1`,
    );
    return {
      datasets: await named('Dataset'),
      versions: await ids('"DatasetVersion"'),
      busyVersions: await ranked(
        `SELECT "datasetVersionId" AS id FROM "Evaluation" GROUP BY 1 ORDER BY count(*) DESC LIMIT 20`,
      ),
      models: await named('Model'),
      checkpoints: await ids(`"Checkpoint" WHERE "sourceRunId" IS NOT NULL`),
      runs: await ids('"Run"'),
      queuedRuns: await ids(`"Run" WHERE status = 'QUEUED'`),
      trainings: await ids(
        `(SELECT DISTINCT "runId" AS id FROM "RunMetricChunk" WHERE "runId" <> '${longTraining}') training`,
      ),
      longTraining,
      evaluations: await ids('"Evaluation"'),
    };
  } finally {
    await client.end();
  }
}
