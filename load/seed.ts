/**
 * A registry as a large lab would have it after years: consistent rows, drawn by formula, made by PostgreSQL itself.
 */
import { Client } from 'pg';

export interface SeedSize {
  readonly runCount: number;
  readonly metricPointCount: number;
  readonly datasetCount: number;
}

/** Of every hundred runs: 60 evaluations, 28 pretrainings, 12 imports. */
const STATEMENTS = (size: SeedSize): readonly string[] => [
  // Ids in the order of time, as the program makes them, over the last three years.
  `CREATE FUNCTION load_id(place bigint, total bigint) RETURNS uuid LANGUAGE sql AS $$ SELECT uuidv7(make_interval(secs => -94608000.0 * (1 - place::float8 / total))) $$`,
  `CREATE FUNCTION load_sha(what text, n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode(sha256((what || n)::bytea), 'hex') $$`,

  `INSERT INTO "Dataset" (id, slug, name, provenance, synthetic, "imageKind", "imageCount", "slideCount", "classNames", tasks, licence, "publishedYear", "searchText", "updatedAt")
   SELECT load_id(n, ${size.datasetCount}), 'load-' || n, (ARRAY['Breast','Colon','Lung','Kidney','Liver','Skin','Brain','Prostate'])[1 + n % 8] || ' slides ' || n, 'LOCAL', true,
     (ARRAY['PATCH','ROI','TMA','WSI'])[1 + n % 4]::"ImageKind", n * 37 % 100000, n % 500, ARRAY['benign','malignant'], ARRAY['CLASSIFICATION']::"TaskKind"[],
     (ARRAY['CC-BY-4.0','CC0-1.0','CC-BY-NC-4.0', NULL, 'MIT'])[1 + n % 5], 2005 + n % 20, 'tissue of case ' || n || ' benign malignant', now()
   FROM generate_series(1, ${size.datasetCount}) n`,
  `CREATE TEMP TABLE load_dataset AS SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM "Dataset" WHERE slug LIKE 'load-%'`,
  `CREATE TEMP TABLE load_organ AS SELECT code, row_number() OVER (ORDER BY code) - 1 AS n, count(*) OVER () AS total FROM "Organ"`,
  `CREATE TEMP TABLE load_stain AS SELECT code, row_number() OVER (ORDER BY code) - 1 AS n, count(*) OVER () AS total FROM "Stain"`,
  `INSERT INTO "DatasetOrgan" SELECT d.id, o.code FROM load_dataset d JOIN load_organ o ON o.n IN (d.n % o.total, d.n * 7 % o.total)`,
  `INSERT INTO "DatasetStain" SELECT d.id, s.code FROM load_dataset d JOIN load_stain s ON s.n = d.n % s.total`,
  `INSERT INTO "DatasetResolution" (id, "datasetId", position, magnification, "micronsPerPixel")
   SELECT gen_random_uuid(), d.id, p, (ARRAY[40, 20, 10])[1 + (d.n + p) % 3], (ARRAY[0.25, 0.5, 1])[1 + (d.n + p) % 3] FROM load_dataset d, generate_series(0, 1) p`,
  `INSERT INTO "DatasetFactSource" SELECT id, field, 'READ', ARRAY['https://example.org/paper'] FROM load_dataset, unnest(ARRAY['imageCount', 'licence', 'organs']) field`,

  `CREATE TEMP TABLE load_run AS
   SELECT load_id(n, ${size.runCount}) AS id, n, (CASE WHEN n % 100 < 12 THEN 'IMPORT' WHEN n % 100 < 40 THEN 'PRETRAINING' ELSE 'EVALUATION' END)::"RunKind" AS kind,
     (CASE WHEN n > ${size.runCount} - 200 THEN 'QUEUED' WHEN n % 50 = 7 THEN 'FAILED' WHEN n % 50 = 8 THEN 'CANCELED' ELSE 'SUCCEEDED' END)::"RunStatus" AS status
   FROM generate_series(1, ${size.runCount}) n`,
  `CREATE INDEX ON load_run (kind, n)`,
  `INSERT INTO "Run" (id, kind, status, title, config, attempt, progress, "failureClass", "failureCode", "failureMessage", environment, "inputDigest", "queuedAt", "startedAt", "finishedAt")
   SELECT id, kind, status, 'load-model-' || n % 500 || ': resnet18 on load-dataset@1, 400 steps', jsonb_build_object('modelSlug', 'load-model-' || n % 500, 'encoder', 'RESNET18', 'imageSizePx', 224, 'batchSize', 256, 'steps', 400, 'seed', n, 'temperature', 0.5, 'learningRate', 0.3,
       'augmentation', jsonb_build_object('cropScaleMin', 0.08, 'cropScaleMax', 1, 'flip', true, 'quarterTurns', true, 'colourJitterStrength', 1, 'greyProbability', 0.2, 'blurProbability', 0.5)),
     CASE status WHEN 'QUEUED' THEN 0 ELSE 1 END, CASE status WHEN 'SUCCEEDED' THEN 1 ELSE 0 END,
     CASE status WHEN 'FAILED' THEN 'DATA'::"FailureClass" END, CASE status WHEN 'FAILED' THEN 'IMPORT_NOTHING_READABLE' END, CASE status WHEN 'FAILED' THEN 'No image could be read.' END,
     '{"engine": {"library": "TensorFlow", "version": "2.21.0", "device": "CPU"}, "node": "v24.21.0"}', load_sha('input', n), at,
     CASE status WHEN 'QUEUED' THEN NULL ELSE at + interval '1 minute' END, CASE status WHEN 'QUEUED' THEN NULL ELSE at + interval '2 hours' END
   FROM load_run, LATERAL (SELECT uuid_extract_timestamp(id) AS at) born`,
  `INSERT INTO "RunEvent" ("runId", sequence, at, kind, status, message)
   SELECT r.id, s, uuid_extract_timestamp(r.id) + make_interval(mins => s), (ARRAY['QUEUED', 'STARTED', r.status::text])[s], (ARRAY['QUEUED', 'RUNNING', r.status::text])[s]::"RunStatus", 'seeded'
   FROM load_run r, generate_series(1, 3) s WHERE s = 1 OR r.status <> 'QUEUED'`,
  // A tenth of the points in one long training, the others in trainings of 100 steps; four series each.
  `CREATE TEMP TABLE load_series AS
   SELECT id, CASE row_number() OVER (ORDER BY n) WHEN 1 THEN ${Math.floor(size.metricPointCount / 40)} ELSE 100 END AS steps
   FROM load_run WHERE kind = 'PRETRAINING' AND status = 'SUCCEEDED' ORDER BY n LIMIT ${1 + Math.floor((size.metricPointCount * 0.9) / 400)}`,
  `SELECT append_run_metrics(s.id, name, part.steps, part.vals)
   FROM load_series s, unnest(ARRAY['loss', 'learningRate', 'imagesPerSecond', 'peakMemoryBytes']) name,
     LATERAL (SELECT array_agg(step ORDER BY step)::int[] AS steps, array_agg(10.0 / (1 + step) ORDER BY step)::float8[] AS vals FROM generate_series(1, s.steps) step GROUP BY (step - 1) / 100 ORDER BY 1) part`,

  `CREATE TEMP TABLE load_version AS
   SELECT id, n, row_number() OVER (ORDER BY n) - 1 AS place FROM load_run WHERE kind = 'IMPORT' AND status = 'SUCCEEDED'`,
  `INSERT INTO "Artifact" (sha256, "byteSize", "mediaType") SELECT load_sha(what, n), 1000000, 'application/x-tar' FROM load_version, unnest(ARRAY['manifest', 'shard']) what`,
  `INSERT INTO "DatasetVersion" (id, "datasetId", version, status, digest, "manifestSha256", "imageCount", "byteSize", "labelNames", "labelCounts", "groupCount", "ungroupedImageCount", "importRunId", "createdAt", "sealedAt")
   SELECT v.id, d.id, 1 + v.place / ${size.datasetCount}, 'SEALED', load_sha('digest', v.n), load_sha('manifest', v.n), 1000, 1000000, ARRAY['benign', 'malignant'],
     '[{"label": "benign", "count": 500}, {"label": "malignant", "count": 500}]', 50, 0, v.id, uuid_extract_timestamp(v.id), uuid_extract_timestamp(v.id)
   FROM load_version v JOIN load_dataset d ON d.n = v.place % ${size.datasetCount}`,
  `INSERT INTO "DatasetShard" SELECT id, 0, load_sha('shard', n), 1000000, 1000 FROM load_version`,

  `INSERT INTO "Model" (id, slug, name) SELECT load_id(n, 500), 'load-model-' || n, 'Load model ' || n FROM generate_series(0, 499) n`,
  `CREATE TEMP TABLE load_checkpoint AS SELECT id, n, row_number() OVER (ORDER BY n) - 1 AS place, count(*) OVER () AS total FROM load_run WHERE kind = 'PRETRAINING' AND status = 'SUCCEEDED'`,
  `INSERT INTO "Artifact" (sha256, "byteSize", "mediaType") SELECT load_sha('weights', n), 45000000, 'application/vnd.safetensors' FROM load_checkpoint`,
  `INSERT INTO "Checkpoint" (id, "modelId", version, encoder, "embeddingDim", "inputContract", "sourceRunId", step, epoch, sha256, "tensorDigest", "byteSize", "createdAt")
   SELECT c.id, m.id, 1 + c.place / 500, 'RESNET18', 512,
     '{"imageSizePx": 224, "resizeRule": "SHORT_SIDE_THEN_CENTRE_CROP", "channelOrder": "RGB", "valueRange": [0, 1], "channelMean": [0.5, 0.5, 0.5], "channelStd": [0.5, 0.5, 0.5], "embeddingLayer": "avgpool", "micronsPerPixelMin": null, "micronsPerPixelMax": null}',
     c.id, 400, 10, load_sha('weights', c.n), load_sha('tensors', c.n), 45000000, uuid_extract_timestamp(c.id)
   FROM load_checkpoint c JOIN "Model" m ON m.slug = 'load-model-' || c.place % 500`,
  `INSERT INTO "ModelAlias" SELECT "modelId", 'champion', id, now() FROM "Checkpoint" WHERE version = 1 AND "sourceRunId" IS NOT NULL`,
  `INSERT INTO "CheckpointTrainedOn" SELECT c.id, v.id FROM load_checkpoint c JOIN load_version v ON v.place IN (c.place * 13 % (SELECT count(*) FROM load_version), c.place * 29 % (SELECT count(*) FROM load_version))`,
  // The first twenty versions are popular benchmarks; the others have a few evaluations each.
  `CREATE TEMP TABLE load_evaluation AS
   SELECT r.id, r.n, c.id AS "checkpointId", CASE WHEN r.place % 4 = 0 THEN r.place / 4 % 20 ELSE r.place * 31 % (SELECT count(*) FROM load_version) END AS "versionPlace"
   FROM (SELECT id, n, row_number() OVER (ORDER BY n) - 1 AS place FROM load_run WHERE kind = 'EVALUATION' AND status = 'SUCCEEDED') r
   JOIN load_checkpoint c ON c.place = r.place * 17 % c.total`,
  `INSERT INTO "Evaluation" (id, "checkpointId", "datasetVersionId", protocol, "runId", seed, options, split, "confusionMatrix", "perClass", baselines, "createdAt")
   SELECT e.id, e."checkpointId", v.id, 'LINEAR_PROBE', e.id, 1, '{"bootstrapResamples": 1000}', '{"kind": "FOLDS", "folds": 5, "digest": "00"}',
     '{"labelNames": ["benign", "malignant"], "counts": [[450, 50], [40, 460]]}',
     '[{"label": "benign", "precision": 0.9, "recall": 0.9, "f1Score": 0.9, "support": 500}, {"label": "malignant", "precision": 0.9, "recall": 0.9, "f1Score": 0.9, "support": 500}]',
     '[{"kind": "RANDOM_ENCODER", "metrics": [{"name": "macroF1", "value": 0.6, "ci95Low": 0.5, "ci95High": 0.7}]}, {"kind": "COLOUR_STATISTICS", "metrics": [{"name": "macroF1", "value": 0.55, "ci95Low": 0.5, "ci95High": 0.6}]}]',
     uuid_extract_timestamp(e.id)
   FROM load_evaluation e JOIN load_version v ON v.place = e."versionPlace"`,
  `INSERT INTO "EvaluationMetric" ("evaluationId", position, name, value, "ci95Low", "ci95High")
   SELECT id, p, (ARRAY['macroF1', 'balancedAccuracy', 'accuracy', 'macroAuroc'])[p + 1], 0.5 + (n * 7919 % 5000) / 10000.0, 0.5, 1 FROM load_evaluation, generate_series(0, 3) p`,
];

/** Fills a migrated database that no one else is connected to, with rows as the program itself would write them. */
export async function seed(
  databaseUrl: string,
  size: SeedSize,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('BEGIN');
    const { rows } = await client.query<{ table: string }>(
      `SELECT DISTINCT tgrelid::regclass::text AS "table" FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT tgisinternal AND c.relnamespace = 'public'::regnamespace`,
    );
    // Years of history are inserted at once, which triggers on the order of events would refuse. Foreign keys stay
    // enforced.
    for (const { table } of rows) await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
    const statements = STATEMENTS(size);
    for (const [index, statement] of statements.entries()) {
      await client.query(statement);
      onProgress(index + 1, statements.length);
    }
    await client.query('SET CONSTRAINTS ALL IMMEDIATE');
    for (const { table } of rows) await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
    await client.query('DROP FUNCTION load_id, load_sha');
    await client.query('COMMIT');
    await client.query('VACUUM ANALYZE');
  } finally {
    await client.end();
  }
}
