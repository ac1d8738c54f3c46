/**
 * The process in which OpenSlide reads one slide, so that a file that crashes the library crashes only this process. It
 * sees the imported folder, to read, and neither the network nor the data directory. Its arguments are the folder as it
 * is seen here, the library, and our addon or nothing.
 */
import { dropPrivilegesIfRequested } from '../../../src/platform/drop-privileges.ts';
import { loadNativeDecoder } from '../decoder/native-decoder.ts';
import { withJpegTiles } from './jpeg-tiles.ts';
import { loadOpenSlide } from './openslide.ts';
import { pixelLoops } from './pixel-loops.ts';
import { serveSlide } from './slide-service.ts';

const [shownFolder = '', libraryFile = '', addon = ''] = process.argv.slice(2);
const native = loadNativeDecoder(addon === '' ? null : addon);
const loops = pixelLoops(native);
const library = loadOpenSlide(libraryFile, loops);
const openSlide = native === null ? library : withJpegTiles(library, native.decodeJpegTile);
dropPrivilegesIfRequested();
await serveSlide(process.stdin, process.stdout, { openSlide, shownFolder, loops });
