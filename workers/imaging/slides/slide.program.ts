/**
 * The process in which OpenSlide reads one slide, so that a file that crashes the library crashes only this process. It
 * sees the imported folder, to read, and neither the network nor the data directory. Its arguments are the folder as it
 * is seen here, and the library.
 */
import { dropPrivilegesIfRequested } from '../../../src/platform/drop-privileges.ts';
import { loadOpenSlide } from './openslide.ts';
import { serveSlide } from './slide-service.ts';

const [shownFolder = '', libraryFile = ''] = process.argv.slice(2);
const openSlide = loadOpenSlide(libraryFile);
dropPrivilegesIfRequested();
await serveSlide(process.stdin, process.stdout, openSlide, shownFolder);
