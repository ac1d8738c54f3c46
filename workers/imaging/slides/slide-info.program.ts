/**
 * What a slide is: node slide-info.program.ts LIBRARY DATA_DIR FILE, for `paraffin slides info`. Without FILE: the
 * version of the library, for `paraffin doctor`. Prints one JSON document.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openFolder } from '../../../src/platform/open-folder.ts';
import type { SlideInfo } from '../../../src/protocol/slide-facts.ts';
import { loadOpenSlide } from './openslide.ts';
import { openSlideReader, SlideReaderError } from './slide-process.ts';

const [libraryFile = '', dataDir = '', file] = process.argv.slice(2);

/** On a machine without a registry there is no data directory to hide, and an empty folder stands for it. */
async function infoOf(slideFile: string): Promise<SlideInfo> {
  if (existsSync(dataDir)) return infoFrom(slideFile, dataDir);
  const empty = await mkdtemp(path.join(tmpdir(), 'paraffin-slide-'));
  try {
    return await infoFrom(slideFile, empty);
  } finally {
    await rm(empty, { recursive: true, force: true });
  }
}

async function infoFrom(slideFile: string, hiddenFolder: string): Promise<SlideInfo> {
  await using folder = await openFolder(path.dirname(slideFile));
  try {
    await using reader = await openSlideReader({
      ...{ folder, libraryFile, hiddenFolder },
      relativePath: path.basename(slideFile),
      micronsPerPixel: null,
    });
    return { slide: reader.facts };
  } catch (error) {
    if (error instanceof SlideReaderError) return { refusal: error.refusal };
    throw error;
  }
}

const answer = file === undefined ? { version: loadOpenSlide(libraryFile).version } : await infoOf(file);
process.stdout.write(`${JSON.stringify(answer)}\n`);
