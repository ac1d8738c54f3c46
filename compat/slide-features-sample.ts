/** Features of slides as `paraffin embed` writes them, for the script that docs/slides.md shows. */
import { mkdir, open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FEATURE_COLUMNS, featureFilesOf, slidesIn, writeFeatures } from '../src/cli/client/slide-features.ts';
import { createManifestWriter, openManifest } from '../src/formats/manifest/index.ts';
import { writeNpy } from '../src/formats/npy.ts';
import { accessBytes } from '../src/formats/random-access.ts';

const EMBEDDING_DIM = 24;
const PATCH_PX = 256;
/** Patches of each slide. */
const PATCH_COUNTS = { S1: 300, S2: 2, 'Schnitt ü': 70 } as const;

/**
 * Writes `features/NAME.h5` for three slides, and `slides.csv` with their labels. Number `column` of the embedding of
 * row `row` of the version is `row + column / 100`; patch `row` lies at `(row * 512, row * 1024)` in pixels of level 0.
 */
export async function writeSlideFeaturesSample(folder: string): Promise<void> {
  const slides = Object.entries(PATCH_COUNTS).flatMap(([name, count]) =>
    Array.from({ length: count }, () => `cohort/${name}.svs`),
  );
  const pieces: Uint8Array[] = [];
  const writer = createManifestWriter(async (bytes) => void pieces.push(new Uint8Array(bytes)));
  for (const [row, slide] of slides.entries())
    await writer.write({
      key: String(row).padStart(9, '0'),
      pixelDigest: new Uint8Array(32),
      perceptualHash: new Uint8Array(8),
      ...{ label: null, group: null, split: null, width: PATCH_PX, height: PATCH_PX, mediaType: 'image/png' },
      ...{ shard: 0, byteOffset: 512 + 1024 * row, byteLength: 500, sourcePath: slide },
      ...{ slide, x: row * 512, y: row * 1024, level0Width: 2 * PATCH_PX, level0Height: 2 * PATCH_PX },
      ...{ micronsPerPixel: 0.5, sourceWidth: 200_000, sourceHeight: 400_000 },
    });
  await writer.finish();
  const manifest = await openManifest(accessBytes(Buffer.concat(pieces)), {
    imageCount: slides.length,
    shardByteSizes: [2 ** 30],
  });
  const columns = await manifest.read(FEATURE_COLUMNS);
  const data = Float32Array.from(
    { length: slides.length * EMBEDDING_DIM },
    (_, index) => Math.floor(index / EMBEDDING_DIM) + (index % EMBEDDING_DIM) / 100,
  );
  const npy = path.join(folder, 'embeddings.npy');
  await mkdir(path.join(folder, 'features'), { recursive: true });
  await writeFile(npy, writeNpy({ shape: [slides.length, EMBEDDING_DIM], data }));
  await using file = await open(npy);
  const source = {
    ...{ encoder: 'colon@1', encoderSha256: 'ab'.repeat(32), dataset: 'prostate@1', datasetDigest: 'cd'.repeat(32) },
    embeddingDim: EMBEDDING_DIM,
  };
  for (const slide of slidesIn(columns)) {
    const paths = featureFilesOf('H5', slide.name).map((name) => path.join(folder, 'features', name));
    const embeddings = { file, imageCount: slides.length, embeddingDim: EMBEDDING_DIM };
    await writeFeatures('H5', paths, { slide, columns, source, embeddings });
  }
  await writeFile(path.join(folder, 'slides.csv'), 'slide,label\nS1,tumour\nS2,normal\nSchnitt ü,tumour\n');
}
