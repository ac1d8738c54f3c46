/** The slides of an import as its version keeps them, from the plan to the end of the import. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ArtifactStore } from '../../../src/platform/artifact-store/index.ts';
import type { OpenFolder } from '../../../src/platform/open-folder.ts';
import type { ImportedSlide } from '../../../src/protocol/imported-slide.ts';
import type { SlideFacts } from '../../../src/protocol/slide-facts.ts';
import type { SlidePictures } from './pictures.ts';

/** A slide before its patches are read. */
export interface PlannedSlide extends Pick<ImportedSlide, 'path' | 'label' | 'group' | 'split' | 'file' | 'facts'> {
  /** Why no patch of it is read; null if some are. */
  readonly leftOut: { readonly issueKind: string | null; readonly reason: string | null } | null;
  readonly plannedPatchCount: number;
  readonly tissue: {
    readonly tissueFraction: number;
    readonly penFraction: number;
    readonly pictures: KeptPictures;
  } | null;
}

/** Where the pictures of a slide are. */
export interface KeptPictures {
  readonly thumbnailFile: string;
  readonly maskFile: string;
}

/**
 * Keeps pictures until the end of an import. They are on the disk, because those of all slides may not fit in memory,
 * and not yet in the artifact store, where garbage collection would find bytes that nothing refers to for days.
 */
export interface PictureFolder {
  keep(pictures: SlidePictures): Promise<KeptPictures>;
}

/** @param folder a private one, which the caller removes. */
export function createPictureFolder(folder: string): PictureFolder {
  let keptCount = 0;
  return {
    keep: async ({ thumbnail, mask }) => {
      keptCount += 1;
      const name = path.join(folder, String(keptCount));
      const kept = { thumbnailFile: `${name}.webp`, maskFile: `${name}.png` };
      await mkdir(folder, { recursive: true });
      await writeFile(kept.thumbnailFile, thumbnail);
      await writeFile(kept.maskFile, mask);
      return kept;
    },
  };
}

/** What is kept of what the reader says about a slide. */
export function keptFactsOf({ vendor, levels, objective, micronsPerPixel }: SlideFacts): ImportedSlide['facts'] {
  if (micronsPerPixel.outcome === 'REFUSED') return { vendor, levels, objective, micronsPerPixel: null };
  const { x, y, source, property } = micronsPerPixel;
  return { vendor, levels, objective, micronsPerPixel: { x, y, source, property } };
}

/** Bytes that are read at once: a slide has gigabytes. */
const CHUNK_BYTES = 1024 * 1024;

/** Reads the whole file. @returns null for a file that cannot be opened, or not be read to its end. */
export async function fileDigestOf(folder: OpenFolder, relativePath: string): Promise<ImportedSlide['file']> {
  try {
    await using file = await folder.openFile(relativePath);
    const hash = createHash('sha256');
    const bytes = file.createReadStream({ autoClose: false, highWaterMark: CHUNK_BYTES });
    await pipeline(bytes, hash);
    return { sha256: hash.digest('hex'), byteSize: bytes.bytesRead };
  } catch {
    return null;
  }
}

/**
 * Stores the pictures, and says of each slide what became of it.
 * @param patchCounts images of the version by the path of their slide.
 */
export async function storeSlides(
  artifacts: Pick<ArtifactStore, 'put'>,
  planned: readonly PlannedSlide[],
  patchCounts: ReadonlyMap<string, number>,
): Promise<ImportedSlide[]> {
  const slides: ImportedSlide[] = [];
  for (const { leftOut, plannedPatchCount, tissue, ...slide } of planned) {
    const patchCount = patchCounts.get(slide.path) ?? 0;
    const reason = leftOut ?? {
      issueKind: null,
      reason: `None of its ${plannedPatchCount} patches is in the version; the issues of the import say why.`,
    };
    slides.push({
      ...slide,
      ...(patchCount > 0 ? { status: 'IMPORTED', issueKind: null, reason: null } : { status: 'LEFT_OUT', ...reason }),
      patchCount,
      tissue:
        tissue === null
          ? null
          : {
              ...{ tissueFraction: tissue.tissueFraction, penFraction: tissue.penFraction },
              thumbnail: await storeFile(artifacts, tissue.pictures.thumbnailFile),
              mask: await storeFile(artifacts, tissue.pictures.maskFile),
            },
    });
  }
  return slides;
}

async function storeFile(artifacts: Pick<ArtifactStore, 'put'>, file: string) {
  const { sha256, byteSize } = await artifacts.put(await readFile(file));
  return { sha256, byteSize };
}
