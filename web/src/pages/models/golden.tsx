/** The golden image and embedding, with which users verify their own preprocessing. */
import { useEffect, useRef } from 'react';
import { useGraphQLQuery } from '../../api/hooks.ts';
import { short } from '../../ui/format.ts';
import { Loaded } from '../../ui/parts.tsx';
import { GOLDEN } from './queries.ts';

const SHOWN_COMPONENTS = 8;

export function Golden({ checkpointId }: { readonly checkpointId: string }) {
  return (
    <Loaded of={useGraphQLQuery(GOLDEN, { id: checkpointId })}>
      {({ checkpoint }) => {
        const golden = goldenOf(checkpoint?.golden);
        const [embedding] = golden?.embeddings ?? [];
        if (checkpoint === null || golden === undefined || embedding === undefined) return null;
        return (
          <section className="sheet" aria-labelledby="golden">
            <h2 id="golden">Golden image</h2>
            <div className="row">
              <Pixels base64={golden.images} sidePx={checkpoint.inputContract.imageSizePx} />
              <div className="stack">
                <p>
                  Prepared and embedded as it should be, this image gives an embedding of {embedding.length} numbers
                  that begins with
                </p>
                <code>{embedding.slice(0, SHOWN_COMPONENTS).map(short).join(', ')} …</code>
                <p className="soft">Checkpoint.golden contains the whole embedding and the pixels.</p>
              </div>
            </div>
          </section>
        );
      }}
    </Loaded>
  );
}

interface GoldenFacts {
  readonly images: string;
  readonly embeddings: readonly (readonly number[])[];
}

/** JSON from the API, validated before it is drawn. */
function goldenOf(value: unknown): GoldenFacts | undefined {
  if (typeof value !== 'object' || value === null || !('images' in value) || !('embeddings' in value)) return undefined;
  const { images, embeddings } = value;
  if (typeof images !== 'string' || !Array.isArray(embeddings)) return undefined;
  return { images, embeddings };
}

/** The first image, uint8 RGB. */
function Pixels({ base64, sidePx }: { readonly base64: string; readonly sidePx: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext('2d');
    if (context == null) return;
    const rgb = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const image = context.createImageData(sidePx, sidePx);
    for (let pixel = 0; pixel < sidePx * sidePx; pixel += 1) {
      image.data.set(rgb.subarray(pixel * 3, pixel * 3 + 3), pixel * 4);
      image.data[pixel * 4 + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }, [base64, sidePx]);
  return (
    <canvas
      ref={canvas}
      width={sidePx}
      height={sidePx}
      role="img"
      aria-label="The golden image"
      style={{ width: '8rem', height: '8rem', imageRendering: 'pixelated' }}
    />
  );
}
