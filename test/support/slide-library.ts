/** OpenSlide for tests, from the cache beside the engine. */
import { readEnvironment } from '../../src/env.ts';
import { ensureOpenSlide } from '../../src/platform/openslide/library.ts';

export async function slideLibrary(): Promise<string> {
  return (await ensureOpenSlide(readEnvironment().engineCacheDir, () => undefined)).file;
}
