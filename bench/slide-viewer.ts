/**
 * How fast a slide of gigapixels opens and pans: tiles of the real server over loopback, and the page in a browser.
 * Each round looks at another slide, so that its reader starts anew and no tile was cut before.
 */
import { link, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import sharp from 'sharp';
import { z } from 'zod';
import { createRandom } from '../src/statistics/random.ts';
import { TILE_SIZE_PX } from '../src/protocol/slide-tiles.ts';
import { openBrowser } from '../test/support/browser.ts';
import type { BenchedServer } from './server.ts';
import { rounded, summarise, type Summary } from './summary.ts';

export interface SlideViewerBenchResult {
  readonly slide: { readonly widthPx: number; readonly heightPx: number; readonly megabytes: number };
  /** From the request for the first tile of a slide, which starts its reader, to its last byte. */
  readonly firstTileMs: Summary;
  /** Of distinct tiles after the first, asked for as a browser does, with six connections. */
  readonly tilesPerSecond: Summary;
  /** Of one tile among them: the median, and that of 19 in 20, in the median round. */
  readonly tileMs: { readonly median: Summary; readonly p95: Summary };
  /** From the start of the navigation until a picture of the slide is seen, and until its tiles are. */
  readonly page: { readonly pictureMs: Summary; readonly tilesMs: Summary };
}

const [WIDTH, HEIGHT] = [64_000, 48_000];
/** At the pyramid's third level and at level 0, where a person pans. */
const TILES_TIMED = 120;
const CONNECTIONS = 6;
const IMPORT_DEADLINE_MS = 900_000;
const PAGE_DEADLINE_MS = 60_000;

/** @throws Error if the import fails or a tile does not come. */
export async function benchSlideViewer(
  server: BenchedServer,
  rounds: number,
  onProgress: (message: string) => void,
): Promise<SlideViewerBenchResult> {
  const folder = path.join(server.dataDir, 'imports', 'gigapixels');
  await mkdir(folder, { recursive: true });
  onProgress(`drawing a slide of ${WIDTH} x ${HEIGHT} px`);
  const byteSize = await drawPyramid(path.join(folder, '0.tiff'));
  // One slide for each round over HTTP, and one for each in the browser.
  for (let number = 1; number < 2 * rounds; number += 1)
    await link(path.join(folder, '0.tiff'), path.join(folder, `${number}.tiff`));
  const key = (await readFile(path.join(server.dataDir, 'admin-key'), 'utf8')).trim();
  onProgress('importing it');
  const versionId = await importFolder(server.url, key, folder);

  const found = { firstTileMs: [], tilesPerSecond: [], median: [], p95: [] } satisfies Record<string, number[]>;
  const seen: Record<keyof typeof found, number[]> = found;
  for (let round = 0; round < rounds; round += 1) {
    onProgress(`tiles, round ${round + 1}`);
    const measured = await timeTiles(`${server.url}/versions/${versionId}/slides/${round}/tiles`, key);
    for (const name of ['firstTileMs', 'tilesPerSecond', 'median', 'p95'] as const) seen[name].push(measured[name]);
  }
  onProgress('the page in Chromium');
  const pages = await timePages(server.url, key, versionId, rounds);
  return {
    slide: { widthPx: WIDTH, heightPx: HEIGHT, megabytes: rounded(byteSize / 1e6) },
    firstTileMs: summarise(seen.firstTileMs),
    tilesPerSecond: summarise(seen.tilesPerSecond),
    tileMs: { median: summarise(seen.median), p95: summarise(seen.p95) },
    page: {
      pictureMs: summarise(pages.map(({ pictureMs }) => pictureMs)),
      tilesMs: summarise(pages.map(({ tilesMs }) => tilesMs)),
    },
  };
}

/**
 * A tiled pyramidal TIFF of JPEG by libvips, at 0.25 um/px: an island of tissue on glass, enlarged from a picture of
 * which a pixel is 8 um, so that it is as large as a scan and compresses well.
 */
async function drawPyramid(file: string): Promise<number> {
  const [width, height] = [WIDTH / 32, HEIGHT / 32];
  const random = createRandom(1);
  const pixels = Buffer.alloc(width * height * 3, 242);
  for (let y = 0, at = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1, at += 3) {
      if (((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2 > 0.16) continue;
      const shade = random.uniform();
      pixels.set(shade < 0.3 ? [110 + 40 * shade, 70, 140] : [215 + 20 * shade, 150 + 15 * shade, 190], at);
    }
  const { size } = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(WIDTH, HEIGHT, { kernel: 'cubic' })
    .tiff({
      ...{ tile: true, tileWidth: 256, tileHeight: 256, pyramid: true, bigtiff: true },
      ...{ compression: 'jpeg', quality: 80, xres: 4000, yres: 4000, resolutionUnit: 'cm' },
    })
    .toFile(file);
  return size;
}

async function importFolder(url: string, key: string, folder: string): Promise<string> {
  const ask = async (query: string, variables: object): Promise<unknown> => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ query, variables }),
    });
    return response.json();
  };
  const created = z
    .object({ data: z.object({ createDataset: z.object({ dataset: z.object({ id: z.string() }) }) }) })
    .parse(
      await ask(
        'mutation { createDataset(input: { name: "Gigapixels", imageKind: WSI, synthetic: true }) { dataset { id } } }',
        {},
      ),
    );
  const launched = z
    .object({ data: z.object({ importDatasetVersion: z.object({ run: z.object({ id: z.string() }) }) }) })
    .parse(
      await ask(
        'mutation ($input: ImportDatasetVersionInput!) { importDatasetVersion(input: $input) { run { id } userErrors { message } } }',
        {
          input: {
            ...{ datasetId: created.data.createDataset.dataset.id, path: folder, layout: 'SLIDES', patchSizePx: 256 },
            slides: { micronsPerPixel: 0.5, patchesPerSlideMax: 100, sharpnessMin: 0 },
            // The slides are one file under several names.
            keepConflicts: true,
          },
        },
      ),
    );
  const runSchema = z.object({
    data: z.object({
      run: z.object({ status: z.string(), datasetVersion: z.object({ id: z.string() }).nullable() }),
    }),
  });
  for (const endMs = performance.now() + IMPORT_DEADLINE_MS; performance.now() < endMs; await pause(500)) {
    const answer = await ask('query ($id: ID!) { run(id: $id) { status datasetVersion { id } } }', {
      id: launched.data.importDatasetVersion.run.id,
    });
    const { status, datasetVersion } = runSchema.parse(answer).data.run;
    if (status === 'SUCCEEDED' && datasetVersion !== null) return datasetVersion.id;
    if (status === 'FAILED') throw new Error('The import of the slide failed.');
  }
  throw new Error('The import of the slide took too long.');
}

async function timeTiles(tilesUrl: string, key: string) {
  const fetchTile = async (place: string): Promise<number> => {
    const startedMs = performance.now();
    const response = await fetch(`${tilesUrl}/${place}.jpg`, { headers: { authorization: `Bearer ${key}` } });
    const bytes = await response.arrayBuffer();
    if (!response.ok) throw new Error(`Tile ${place}: ${Buffer.from(bytes).toString('utf8')}`);
    return performance.now() - startedMs;
  };
  const deepest = Math.ceil(Math.log2(Math.max(WIDTH, HEIGHT)));
  const firstTileMs = await fetchTile(`${deepest - 7}/0_0`);
  const places = Array.from({ length: TILES_TIMED }, (_, index) => {
    const level = index % 2 === 0 ? deepest : deepest - 2;
    const downsample = 2 ** (deepest - level);
    const columns = Math.floor(WIDTH / downsample / TILE_SIZE_PX);
    const rows = Math.floor(HEIGHT / downsample / TILE_SIZE_PX);
    // A walk over the middle of the slide, where the tissue is.
    const step = Math.floor(index / 2);
    return `${level}/${Math.floor(columns / 3) + (step % 10)}_${Math.floor(rows / 3) + Math.floor(step / 10)}`;
  });
  const durationsMs: number[] = [];
  const startedMs = performance.now();
  let next = 0;
  const connection = async (): Promise<void> => {
    for (let place = places[next++]; place !== undefined; place = places[next++])
      durationsMs.push(await fetchTile(place));
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  const seconds = (performance.now() - startedMs) / 1000;
  const sorted = durationsMs.toSorted((a, b) => a - b);
  const quantile = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? NaN;
  return { firstTileMs, tilesPerSecond: places.length / seconds, median: quantile(0.5), p95: quantile(0.95) };
}

/** Milliseconds since the start of the navigation at which the middle of the slide has the colours of tissue. */
const PICTURE_SEEN = `new Promise((resolve) => {
  const look = () => {
    const canvas = document.querySelector('.slide-frame canvas');
    if (canvas !== null && canvas.width > 0 && canvas.height > 0) {
      const { data } = canvas.getContext('2d').getImageData(canvas.width / 2 - 20, canvas.height / 2 - 20, 40, 40);
      let pink = 0;
      for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 0 && data[at] - data[at + 1] > 25) pink += 1;
      if (pink > 100) { resolve(performance.now()); return; }
    }
    requestAnimationFrame(look);
  };
  look();
})`;

async function timePages(url: string, key: string, versionId: string, rounds: number) {
  const browser = await openBrowser();
  try {
    const page = await browser.context.newPage();
    page.setDefaultTimeout(PAGE_DEADLINE_MS);
    await page.goto(`${url}/sign-in`);
    await page.getByLabel('Key').fill(key);
    await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('button', { name: 'Sign out' }).waitFor();
    const pages: { readonly pictureMs: number; readonly tilesMs: number }[] = [];
    for (let round = 0; round < rounds; round += 1) {
      // The first tile that has arrived; its response ends before it is drawn in the next frame.
      const tile = page.waitForResponse((response) => response.url().includes('/tiles/') && response.ok());
      await page.goto(`${url}/slides/${versionId}/${rounds + round}`, { waitUntil: 'commit' });
      const pictureMs = z.number().parse(await page.evaluate(PICTURE_SEEN));
      const response = await tile;
      await response.finished();
      const tilesMs = z
        .number()
        .parse(
          await page.evaluate(
            `Math.min(...performance.getEntriesByType('resource').filter(({ name }) => name.includes('/tiles/')).map(({ responseEnd }) => responseEnd))`,
          ),
        );
      pages.push({ pictureMs, tilesMs });
    }
    return pages;
  } finally {
    await browser.close();
  }
}
