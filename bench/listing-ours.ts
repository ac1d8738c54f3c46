/** Our side of bench/listing.ts: makes the files, plans their import, and prints the figures. */
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openFolder } from '../src/platform/open-folder.ts';
import { planImport } from '../workers/imaging/plan-import.ts';

const FILES_PER_FOLDER = 10_000;

async function makeFiles(folder: string, fileCount: number): Promise<void> {
  for (let first = 0; first < fileCount; first += FILES_PER_FOLDER) {
    const label = path.join(folder, `étiquette ${first / FILES_PER_FOLDER}`);
    await mkdir(label);
    const last = Math.min(fileCount, first + FILES_PER_FOLDER);
    for (let file = first; file < last; file += 1)
      await (await open(path.join(label, `coupe_été_${file}_組織.png`), 'wx')).close();
  }
}

const fileCount = Number(process.argv[2] ?? 100_000);
if (!Number.isSafeInteger(fileCount) || fileCount < 2 * FILES_PER_FOLDER)
  throw new RangeError(`Give a number of files of at least ${2 * FILES_PER_FOLDER}.`);
const base = await mkdtemp(path.join(tmpdir(), 'paraffin-listing-'));
try {
  await makeFiles(base, fileCount);
  const startedMs = performance.now();
  const cpuBefore = process.cpuUsage();
  const residentBefore = process.memoryUsage.rss();
  await using folder = await openFolder(base);
  // No mask is found by its pixels: an empty file does not decode.
  const examine = (): Promise<null> => Promise.resolve(null);
  const plan = await planImport({ folder, layout: 'FOLDER_PER_LABEL', labelsCsv: null }, examine, null);
  const { user, system } = process.cpuUsage(cpuBefore);
  const { maxRSS } = process.resourceUsage();
  console.log(
    JSON.stringify({
      fileCount: plan.sources.length,
      durationMs: Math.round(performance.now() - startedMs),
      cpuMs: Math.round((user + system) / 1000),
      residentBytesBefore: residentBefore,
      peakResidentBytes: maxRSS * 1024,
    }),
  );
} finally {
  await rm(base, { recursive: true, force: true });
}
