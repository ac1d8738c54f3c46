/**
 * Measures what an import of many files takes before it reads the first of them: listing the folder, finding masks by
 * their names, and interpreting folders. The files are empty, with names of several scripts.
 *
 *   npm run bench:listing -- 1000000
 *
 * Prints JSON: the number of files, seconds (wall-clock and of the processor), and the process's peak memory in bytes,
 * as Linux counts it.
 */
import { outputOfImportProcess } from './import-process.ts';

process.stdout.write(await outputOfImportProcess('listing-ours.ts', process.argv.slice(2)));
