/** One part on a manifest in a process of its own, so that its peak memory is its own. Its parent sends the options. */
import { once } from 'node:events';
import { z } from 'zod';
import { MANIFEST_PART_WORK, MANIFEST_PARTS } from './manifest-parts.ts';
import { peakBytesOf } from './usage.ts';

const PROGRESS_EVERY_MS = 500;

const requestSchema = z.object({
  part: z.enum(MANIFEST_PARTS),
  folder: z.string(),
  imageCount: z.int(),
  testImageCount: z.int(),
  seed: z.int(),
});
export type ManifestRequest = z.infer<typeof requestSchema>;

export const replySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('PROGRESS'), fraction: z.number() }),
  z.object({
    kind: z.literal('DONE'),
    durationMs: z.number(),
    processorMs: z.number(),
    peakBytes: z.number(),
    storedBytes: z.number(),
  }),
]);

if (import.meta.main) {
  process.on('disconnect', () => process.exit(1));
  const [message]: unknown[] = await once(process, 'message');
  const { part, ...options } = requestSchema.parse(message);
  const send = (reply: z.infer<typeof replySchema>): void => void process.send?.(reply);
  let reportedAtMs = 0;
  const onProgress = (fraction: number): void => {
    if (performance.now() - reportedAtMs < PROGRESS_EVERY_MS) return;
    reportedAtMs = performance.now();
    send({ kind: 'PROGRESS', fraction });
  };
  const startMs = performance.now();
  const startUsage = process.cpuUsage();
  const storedBytes = await MANIFEST_PART_WORK[part]({ ...options, onProgress });
  const { user, system } = process.cpuUsage(startUsage);
  send({
    kind: 'DONE',
    durationMs: performance.now() - startMs,
    processorMs: (user + system) / 1000,
    peakBytes: await peakBytesOf(process.pid),
    storedBytes,
  });
  process.disconnect();
}
