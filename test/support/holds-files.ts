/** A process that holds files of a cache until it is killed. */
import { z } from 'zod';
import { openLocalFiles, openS3Store } from '../../src/platform/artifact-store/index.ts';

const orderSchema = z.object({
  place: z.object({
    bucket: z.string(),
    prefix: z.string(),
    endpoint: z.string(),
    region: z.string(),
    pathStyle: z.boolean(),
  }),
  folder: z.string(),
  maxBytes: z.number(),
  sha256s: z.array(z.string()),
});

/** Without it the process would end by itself when nothing is left to do. */
setInterval(() => undefined, 1_000);

process.once('message', (message) => {
  const { place, folder, maxBytes, sha256s } = orderSchema.parse(message);
  const files = openLocalFiles({ store: openS3Store(place), folder, maxBytes });
  Promise.all(sha256s.map((sha256) => files.hold(sha256))).then(
    (held) => process.send?.(held.map((file) => file.path)),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
