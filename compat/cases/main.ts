/**
 * `npm run cases -- FOLDER --truth FILE.npz`: checks whether every image of a folder is imported correctly or refused
 * with a reason. Imports the folder into a separate registry, decodes what was stored with a reader that the import
 * does not use, and prints a table: equal, within the codec's error, refused with which issue, or wrong. Exits with 1
 * if anything is wrong.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { importFolder } from './imported.ts';
import { readTruth, type Truth } from './truth.ts';
import { compareWithTruth, type ComparedFile, type Verdict } from './verdict.ts';

const HELP = `Usage: npm run cases -- FOLDER [--truth FILE.npz] [--json]

Imports a folder of image files into a separate registry, which is removed at the end, and prints for each file
whether the stored image is equal to the truth, within the codec's error, refused (with the issue), or wrong.

  --truth FILE.npz   the correct pixels: uint8 [height, width, 3] by file name, as numpy.savez writes them. An array
                     named CONV:NAME is the value after the file's colour profile; it counts where there is one
  --json             the rows as JSON instead of a table
  --help

Exits with 1 if anything is wrong, with 2 if it cannot start.

Examples:
  npm run cases -- ./images --truth ./truth.npz
  npm run cases -- ./images --json
`;
const VERDICTS: readonly Verdict[] = ['equal', "within the codec's error", 'refused', 'no truth', 'wrong'];

interface Row extends ComparedFile {
  readonly file: string;
}

process.exitCode = await main();

async function main(): Promise<number> {
  const given = argumentsOf();
  if (given === 'HELP') {
    process.stdout.write(HELP);
    return 0;
  }
  if (typeof given === 'string') {
    process.stderr.write(`${given}\n\n${HELP}`);
    return 2;
  }
  const isFolder = await stat(given.folder).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isFolder) {
    process.stderr.write(`${given.folder} is not a folder.\n`);
    return 2;
  }
  const truth = await truthOf(given.truthPath);
  if (typeof truth === 'string') {
    process.stderr.write(`${truth}\n`);
    return 2;
  }
  const rows = await rowsOf(given.folder, truth);
  process.stdout.write(given.asJson ? `${JSON.stringify(rows, null, 2)}\n` : tableOf(rows));
  for (const name of truth.unreadable)
    process.stderr.write(`The truth of ${name} is not RGB uint8 and was not used.\n`);
  return rows.some(({ verdict }) => verdict === 'wrong') ? 1 : 0;
}

function argumentsOf(): { folder: string; truthPath: string | undefined; asJson: boolean } | string {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        truth: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return 'HELP';
    const [folder, ...more] = positionals;
    if (folder === undefined || more.length > 0) return 'Name one folder of images.';
    return { folder: path.resolve(folder), truthPath: values.truth, asJson: values.json };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function truthOf(truthPath: string | undefined): Promise<Truth | string> {
  if (truthPath === undefined) return { images: new Map(), unreadable: [] };
  try {
    return await readTruth(truthPath);
  } catch (error) {
    return `${truthPath} cannot be read as .npz: ${error instanceof Error ? error.message : String(error)}`;
  }
}

async function rowsOf(folder: string, truth: Truth): Promise<Row[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
  const imported = await importFolder(folder);
  const rows: Row[] = [];
  for (const file of files) {
    // Reported at the first image, but concerns all of them.
    const issues = (imported.issues.get(file) ?? []).filter(({ kind }) => kind !== 'NO_GROUPS');
    if (issues.length === 0 && !imported.stored.has(file) && imported.passedOver.length > 0) {
      const detail = `not taken for an image by its name (${imported.passedOver.join(', ')})`;
      rows.push({ file, verdict: 'refused', detail });
      continue;
    }
    const duplicateOf = issues.find(({ kind }) => kind === 'DUPLICATE')?.relatedPath;
    // A duplicate is in the version under its first name, so that image is its result.
    const stored = imported.stored.get(duplicateOf ?? file);
    const compared = compareWithTruth(
      {
        image: stored?.image ?? null,
        matchesDigest: stored?.matchesDigest ?? true,
        issues,
        isLossy: isLossy(await readFile(path.join(folder, file))),
      },
      truth.images.get(file) ?? truth.images.get(path.basename(file)),
    );
    rows.push({ file, ...compared });
  }
  return rows;
}

/** JPEG (also within a TIFF) and lossy WebP. */
function isLossy(bytes: Buffer): boolean {
  const start = bytes.toString('latin1', 0, 16);
  if (start.startsWith('RIFF')) return bytes.includes('VP8 ', 0, 'latin1');
  const isTiff = start.startsWith('II') || start.startsWith('MM');
  return start.startsWith('\xff\xd8') || (isTiff && bytes.includes(Buffer.from([0xff, 0xd8, 0xff])));
}

function tableOf(rows: readonly Row[]): string {
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const counts = VERDICTS.map((verdict) => `${rows.filter((row) => row.verdict === verdict).length} ${verdict}`);
  return [
    '| file | outcome | details |',
    '| --- | --- | --- |',
    ...rows.map(({ file, verdict, detail }) => `| \`${cell(file)}\` | ${verdict} | ${cell(detail)} |`),
    '',
    `${rows.length} files: ${counts.join(', ')}.`,
    '',
  ].join('\n');
}
