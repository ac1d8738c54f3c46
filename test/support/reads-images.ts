/** Reads the images of a shard endlessly, and says so after the first batch: reads-images.ts SHARD FOLDER */
import { openTrainingBatches } from '../../workers/engine/data/batches.ts';
import { storedDecoders } from '../../workers/imaging/decoder/stored-decoder.ts';
import { sourceOf } from './shards.ts';

const [shardPath = '', folder = ''] = process.argv.slice(2);
const batches = openTrainingBatches({
  datasets: [{ shards: [await sourceOf(shardPath)] }],
  ...{ sampling: 'EVEN', windowShards: 64, batchSize: 4, sourceSizePx: 16, seed: 1, cacheByteLimit: 0 },
  openDecoder: storedDecoders({ hiddenFolder: folder, scratchFolder: folder }),
});
await batches.next();
process.stdout.write('reading');
for (;;) await batches.next();
