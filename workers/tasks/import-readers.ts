/** The readers of slides of an import. */
import { readEnvironment } from '../../src/env.ts';
import { ensureOpenSlide } from '../../src/platform/openslide/library.ts';
import { openSlideReaders, type SlideReaders } from '../imaging/slides/slide-readers.ts';

/**
 * OpenSlide is fetched by the first import of slides.
 * @param hiddenFolder what the processes that parse slides must not see.
 * @param onMessage called while it is fetched.
 */
export async function openImportReaders(
  hiddenFolder: string,
  onMessage: (message: string) => void,
): Promise<SlideReaders> {
  const library = await ensureOpenSlide(readEnvironment().engineCacheDir, ({ message }) => onMessage(message));
  return openSlideReaders({ libraryFile: library.file, hiddenFolder });
}
