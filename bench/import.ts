/**
 * Measures how fast a folder of JPEGs is imported, compared with the decoder alone on the same files. An import
 * additionally reads, hashes, checks and packs the files. MB are compressed JPEG file bytes (10^6); decoded MB are RGB
 * bytes.
 */
import { outputOfImportProcess } from './import-process.ts';

export interface Rate {
  /** Medians over the rounds, with the slowest and the fastest round. */
  readonly megabytesPerSecond: number;
  readonly slowest: number;
  readonly fastest: number;
  readonly decodedMegabytesPerSecond: number;
  readonly imagesPerSecond: number;
  /** Processor time of all threads, per image. */
  readonly cpuMsPerImage: number;
}

export interface ImportBenchCase {
  readonly imageSizePx: number;
  readonly imageCount: number;
  readonly megabytes: number;
  readonly import: Rate;
  readonly decoderAlone: Rate;
  /**
   * Ratio of the import's speed to the decoder's, median of the rounds: by wall-clock time, and by processor time,
   * which depends less on other load.
   */
  readonly ratio: number;
  readonly cpuRatio: number;
  /** Where the processor time of an import goes, in milliseconds for each image. */
  readonly importParts: ImportParts;
}

export interface ImportParts {
  /**
   * Decoding by our own decoder, or by sharp on a machine without it, measured by itself. This and the next four add up
   * to the time of the decoders.
   */
  readonly decoding: number;
  readonly pixelDigest: number;
  readonly perceptualHash: number;
  readonly blankness: number;
  /** The rest of the decoders: their start, thumbnails, messages. */
  readonly restOfDecoders: number;
  /** Reading the files, messages, the shards, the manifest. */
  readonly importProcess: number;
}

export interface ImportBenchResult {
  readonly cores: number;
  readonly rounds: number;
  readonly cases: readonly ImportBenchCase[];
  /** Memory of the import's own process; its decoders use some 100 MB each in addition. */
  readonly peakMemoryMegabytes: number;
}

/** Three rounds of each case. @throws Error if an import or a decoder fails. */
export async function benchImport(): Promise<ImportBenchResult> {
  const result: ImportBenchResult = JSON.parse(await outputOfImportProcess('import-ours.ts', []));
  return result;
}

if (import.meta.main) {
  const result = await benchImport();
  if (process.argv.includes('--json')) console.log(JSON.stringify(result, null, 2));
  else {
    for (const each of result.cases) {
      const text = (rate: Rate): string =>
        `${rate.megabytesPerSecond} MB/s (${rate.slowest}..${rate.fastest}; ${rate.decodedMegabytesPerSecond} decoded, ${rate.cpuMsPerImage} ms of processor time per image)`;
      console.log(`${each.imageSizePx} px, ${each.imageCount} JPEGs, ${each.megabytes} MB`);
      console.log(`  import        ${text(each.import)}`);
      console.log(`  decoder alone ${text(each.decoderAlone)}`);
      console.log(`  ratio ${each.ratio}, ${each.cpuRatio} by processor time`);
      const parts = Object.entries(each.importParts).map(([part, milliseconds]) => `${part} ${milliseconds}`);
      console.log(`  processor ms of an import per image: ${parts.join(', ')}`);
    }
    console.log(`Peak memory ${result.peakMemoryMegabytes} MB on ${result.cores} cores.`);
  }
}
