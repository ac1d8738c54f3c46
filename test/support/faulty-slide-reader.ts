/**
 * In place of the slide reader: opens anything, but never answers for a slide named `hanging.svs`, and dies at the
 * first patch as a fault of memory would.
 */
import { createFrameReader, writeFrame } from '../../workers/imaging/decoder/frames.ts';
import type { SlideRequest } from '../../workers/imaging/slides/slide-protocol.ts';
import type { SlideReply } from '../../workers/imaging/slides/slide-reply.ts';

const requests = createFrameReader(process.stdin, (text): SlideRequest => JSON.parse(text));
const reply = (message: SlideReply): Promise<void> => writeFrame(process.stdout, message);
await reply({ kind: 'READY', bodyByteSize: 0 });
for (;;) {
  const { head } = await requests.next(0);
  if (head.kind !== 'OPEN') process.abort();
  if (head.file === 'hanging.svs') continue;
  await reply({
    ...{ kind: 'OPENED', bodyByteSize: 0 },
    slide: {
      ...{ reader: 'test', vendor: 'test', objective: null },
      levels: [{ width: 1000, height: 1000, downsample: 1 }],
      micronsPerPixel: {
        ...{ outcome: 'FOUND', x: 0.5, y: 0.5, source: 'GIVEN', property: null, disagreesWithObjective: false },
      },
    },
  });
}
