/** `paraffin embed`: the embeddings of a version of slides, as one file for each slide. */
import { mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { openManifest, ManifestError } from '../../formats/manifest/index.ts';
import { accessFile } from '../../formats/random-access.ts';
import { namesOf, numberFrom, oneOf, texts } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { createStatusLine, printable, progressBar } from '../terminal.ts';
import { damageOf, fetchFile, remoteFileAt } from './bytes.ts';
import { clientCommand, connect, granted, type ClientOptions, type Registry } from './connection.ts';
import { awaitRun, waitingNote } from './follow.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type ResultOf, type VariablesOf } from './graphql.ts';
import { exitOnInterrupt } from './interruption.ts';
import { paint, printNote, show } from './output.ts';
import { findCheckpoint, findVersion } from './references.ts';
import { NEEDS_HELP, needsFrom } from './requirements.ts';
import {
  FEATURE_COLUMNS,
  FEATURE_FORMATS,
  featureFilesOf,
  slidesIn,
  writeFeatures,
  type FeatureColumns,
  type FeatureSource,
  type SlideOfFeatures,
} from './slide-features.ts';

const FIND = graphql(`
  query FindEmbeddings($checkpointId: ID!, $datasetVersionId: ID!) {
    checkpoint(id: $checkpointId) {
      embeddingsOf(datasetVersionId: $datasetVersionId) {
        sha256
        imageCount
        embeddingDim
        encoderDigest
        npyUrl
        idsUrl
      }
    }
    node(id: $datasetVersionId) {
      ... on DatasetVersion {
        digest
        digestRule
        imageCount
        manifestSha256
        shards {
          byteSize
        }
      }
    }
  }
`);
type EmbeddingSet = NonNullable<NonNullable<ResultOf<typeof FIND>['checkpoint']>['embeddingsOf']>;

const LAUNCH = graphql(
  `
    mutation Embed($input: LaunchEmbeddingInput!) {
      launchEmbedding(input: $input) {
        run {
          id
          obstacle
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

export const embedCommand = clientCommand('embed', {
  summary: 'embed the patches of whole slides, as files for multiple-instance learning',
  details:
    'Embeds every patch of a version of slides with a checkpoint, and writes one file for each slide: features [N, D] float32 and coords [N, 2] in pixels of level 0, as CLAM and TRIDENT write them. The registry computes and keeps the embeddings; the run continues after Ctrl-C. A repeated command goes on at the first slide that is missing in --out.',
  examples: [
    'embed colon --data prostate --out features/',
    'embed colon@champion --data prostate@2 --slides S1.svs,S2 --out features/',
    'embed colon --data prostate --format parquet --out features/',
    'embed colon --data prostate --needs gpu-memory=24G --out features/',
  ],
})
  .argument('<checkpoint>', 'id, model@alias, model@version, or model for its latest version')
  .requiredOption('-d, --data <dataset>', 'dataset or dataset@version, imported with --layout slides')
  .requiredOption('-o, --out <folder>', 'created if it does not exist')
  .option('--slides <names>', 'only these: path, file name, or file name without its ending', texts)
  .option('--format <name>', namesOf(FEATURE_FORMATS).join(', '), oneOf(FEATURE_FORMATS), 'H5' as const)
  .option('--max-minutes <count>', 'longest running time, after which the run fails', numberFrom(0))
  .option('--needs <requirements>', NEEDS_HELP, needsFrom)
  .action(async (reference, { data, out, slides: wanted, format, maxMinutes, needs, ...options }) => {
    const registry = await connect(options);
    const checkpoint = await findCheckpoint(registry, reference);
    const version = await findVersion(registry, data);
    const dataset = `${version.datasetSlug}@${version.version}`;
    const columns = await patchesOf(registry, { checkpointId: checkpoint.id, datasetVersionId: version.id }, dataset);
    const all = slidesIn(columns);
    if (all.length === 0)
      throw new CommandFailure({
        message: `${dataset} was not cut from slides.`,
        hint: 'Import slides (--layout slides). The embeddings of other images are at Checkpoint.embeddingsOf { npyUrl idsUrl }.',
      });
    const slides = wanted === undefined ? all : wanted.map((name) => slideNamed(all, name, dataset));
    const set = await embeddingsOf(registry, options, {
      ...{ checkpointId: checkpoint.id, datasetVersionId: version.id },
      ...(maxMinutes === undefined ? {} : { maxDurationSeconds: Math.round(maxMinutes * 60) }),
      ...(needs === undefined ? {} : { requirements: needs }),
    });
    const source: FeatureSource = {
      ...{ encoder: `${checkpoint.model.slug}@${checkpoint.version}`, encoderSha256: set.encoderDigest },
      ...{ dataset, datasetDigest: version.digest ?? '', embeddingDim: set.embeddingDim },
    };
    await claimFolder(out, { ...source, embeddingsSha256: set.sha256 });
    const work = slides.map((slide) => ({
      slide,
      paths: featureFilesOf(format, slide.name).map((file) => pathBelow(out, file)),
    }));
    const missing: typeof work = [];
    for (const each of work) if (!(await areThere(each.paths))) missing.push(each);
    if (missing.length < work.length)
      printNote(options, `${work.length - missing.length} of ${work.length} slides are in ${out} already.`);
    if (missing.length > 0) {
      const npy = path.join(out, `.embeddings-${set.sha256.slice(0, 16)}.npy`);
      if (!(await areThere([npy])))
        await fetchFile(registry, options, set.npyUrl, await remoteFileAt(registry, options, set.npyUrl), npy);
      await writeAll(missing, npy, options, async ({ slide, paths }, file) => {
        for (const each of paths) await mkdir(path.dirname(each), { recursive: true });
        await writeFeatures(format, paths, { slide, columns, source, embeddings: { ...set, file } });
      });
      await rm(npy, { force: true });
    }
    const files = work.map(({ slide, paths }) => ({
      ...{ slide: slide.slide, patchCount: slide.rows.length, files: paths },
    }));
    const patchCount = files.reduce((sum, each) => sum + each.patchCount, 0);
    show(options, {
      data: { ...source, format, slides: files },
      names: files.flatMap((each) => each.files),
      text: `${paint('bold', String(files.length))} slides, ${patchCount} patches of ${set.embeddingDim} numbers, in ${out}`,
    });
  });

interface Ids {
  readonly checkpointId: string;
  readonly datasetVersionId: string;
}

/** The columns of the manifest that say which patch of which slide each row is. */
async function patchesOf(registry: Registry, ids: Ids, dataset: string): Promise<FeatureColumns> {
  const { node } = await registry.ask(FIND, ids);
  if (node === null || !('shards' in node) || node.manifestSha256 === null || node.digestRule !== 'PIXELS')
    throw new CommandFailure({
      message: `${dataset} has no manifest with slides.`,
      hint: 'Import the slides again: versions of an older registry do not have them.',
    });
  const folder = await mkdtemp(path.join(tmpdir(), 'paraffin-manifest-'));
  const file = await open(path.join(folder, 'manifest'), 'w+');
  try {
    const damage = await damageOf(registry, node.manifestSha256, (bytes) => file.appendFile(bytes));
    if (damage !== undefined) throw new CommandFailure({ exitCode: EXIT.DAMAGE_FOUND, message: damage });
    const manifest = await openManifest(accessFile(file, (await file.stat()).size), {
      imageCount: node.imageCount,
      shardByteSizes: node.shards.map(({ byteSize }) => byteSize),
    });
    return await manifest.read(FEATURE_COLUMNS);
  } catch (error) {
    if (!(error instanceof ManifestError)) throw error;
    throw new CommandFailure({ exitCode: EXIT.DAMAGE_FOUND, message: error.message });
  } finally {
    await file.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function slideNamed(slides: readonly SlideOfFeatures[], name: string, dataset: string): SlideOfFeatures {
  const found = slides.filter(({ slide, name: short }) => [slide, slide.split('/').at(-1), short].includes(name));
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  throw new CommandFailure({
    message:
      first === undefined
        ? `${dataset} has no patches of a slide ${printable(name)}.`
        : `${printable(name)} names ${found.length} slides of ${dataset}.`,
    hint: `Its slides are, among others: ${slides
      .slice(0, 5)
      .map(({ slide }) => printable(slide))
      .join(', ')}`,
  });
}

/** Waits for the run that makes the set, if it is not stored. */
async function embeddingsOf(
  registry: Registry,
  options: ClientOptions,
  input: VariablesOf<typeof LAUNCH>['input'],
): Promise<EmbeddingSet> {
  const { checkpointId, datasetVersionId } = input;
  const ids = { checkpointId, datasetVersionId };
  const stored = (await registry.ask(FIND, ids)).checkpoint?.embeddingsOf;
  if (stored != null) return stored;
  const { launchEmbedding } = await registry.ask(LAUNCH, { input });
  const run = granted(launchEmbedding.run, launchEmbedding);
  printNote(options, [`run ${run.id} computes the embeddings`, ...waitingNote(run)].join('\n'));
  await awaitRun(registry, options, run.id);
  const made = (await registry.ask(FIND, ids)).checkpoint?.embeddingsOf;
  if (made == null) throw new CommandFailure({ message: `Run ${run.id} succeeded without embeddings.` });
  return made;
}

const SOURCE_FILE = 'features.json';
const sourceSchema = z.object({ embeddingsSha256: z.string(), encoder: z.string(), dataset: z.string() });

/** Files of two encoders or versions in one folder would be mixed up by whoever reads it. */
async function claimFolder(out: string, source: FeatureSource & { readonly embeddingsSha256: string }): Promise<void> {
  await mkdir(out, { recursive: true });
  const file = path.join(out, SOURCE_FILE);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) {
    await writeFile(file, `${JSON.stringify(source, null, 2)}\n`);
    return;
  }
  const before = sourceIn(text);
  if (before?.embeddingsSha256 === source.embeddingsSha256) return;
  throw new CommandFailure({
    message:
      before === undefined
        ? `${file} is not a description of features.`
        : `${out} holds features of ${printable(before.dataset)} by ${printable(before.encoder)}.`,
    hint: 'Give another folder as --out.',
  });
}

function sourceIn(text: string) {
  try {
    return sourceSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** The names of slides come from the server, and must not lead out of the folder. */
function pathBelow(folder: string, file: string): string {
  const found = path.resolve(folder, file);
  if (found.startsWith(path.resolve(folder) + path.sep)) return found;
  throw new CommandFailure({ message: `The slide ${printable(file)} has a name that leads out of ${folder}.` });
}

async function areThere(files: readonly string[]): Promise<boolean> {
  const found = await Promise.all(files.map((file) => stat(file).catch(() => undefined)));
  return found.every((each) => each?.isFile() === true);
}

async function writeAll<Each extends { readonly slide: SlideOfFeatures }>(
  work: readonly Each[],
  npy: string,
  options: ClientOptions,
  write: (each: Each, file: Awaited<ReturnType<typeof open>>) => Promise<void>,
): Promise<void> {
  const line = createStatusLine(process.stderr);
  using _left = exitOnInterrupt(() => 'Interrupted. Run the same command again to continue.', line);
  const file = await open(npy);
  try {
    for (const [done, each] of work.entries()) {
      if (options.quiet !== true)
        line.show(
          `${progressBar(done / work.length)} ${done} of ${work.length} slides: ${printable(each.slide.slide)}`,
        );
      await write(each, file);
    }
  } finally {
    await file.close();
    line.end();
  }
}
