/**
 * Our side of bench/slides.ts: imports a folder of slides to sealed shards as a run does, and prints the figures in
 * JSON. `node slides-ours.ts FOLDER UM_PER_PX PATCH_PX`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { readEnvironment } from '../src/env.ts';
import { openArtifactStore } from '../src/platform/artifact-store/index.ts';
import { openFolder } from '../src/platform/open-folder.ts';
import { ensureOpenSlide } from '../src/platform/openslide/library.ts';
import { SLIDE_OPTION_DEFAULTS } from '../src/protocol/slide-options.ts';
import { openImageDecoders } from '../workers/imaging/decoder/image-decoders.ts';
import { importImages } from '../workers/imaging/import-images.ts';
import { openSlideReaders } from '../workers/imaging/slides/slide-readers.ts';

const [slideFolder = '', micronsPerPixel = '', patchSize = ''] = process.argv.slice(2);
const patchSizePx = Number(patchSize);
const options = {
  ...SLIDE_OPTION_DEFAULTS,
  ...{ micronsPerPixel: Number(micronsPerPixel), patchesPerSlideMax: null },
};
const { file: libraryFile } = await ensureOpenSlide(readEnvironment().engineCacheDir, () => undefined);
const workDir = await mkdtemp(path.join(tmpdir(), 'paraffin-bench-slides-'));
try {
  const startedMs = performance.now();
  let surveyedMs = startedMs;
  await using folder = await openFolder(slideFolder);
  await using decoders = openImageDecoders({ hiddenFolder: workDir });
  await using readers = openSlideReaders({ libraryFile, hiddenFolder: workDir });
  const onSlide = (): Promise<void> => {
    surveyedMs = performance.now();
    return Promise.resolve();
  };
  const result = await importImages({
    ...{ folder, layout: 'SLIDES', labelsCsv: null, patchSizePx, decoders, workDir },
    slides: { options, patchSizePx, readers, annotationFolder: null, onSlide },
    artifacts: openArtifactStore(path.join(workDir, 'artifacts')),
  });
  const endedMs = performance.now();
  const leftOut = result.issues.filter(({ kept }) => !kept);
  const figures = {
    patchCount: result.imageCount,
    leftOutCount: leftOut.reduce((sum, { count }) => sum + count, 0),
    surveySeconds: (surveyedMs - startedMs) / 1000,
    seconds: (endedMs - startedMs) / 1000,
    storedMegabytes: result.byteSize / 1e6,
  };
  process.stdout.write(`${JSON.stringify(figures)}\n`);
} finally {
  await rm(workDir, { recursive: true, force: true });
}
