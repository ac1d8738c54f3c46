/** Looks at a slide as OpenSeadragon does, with what is not tissue darkened and the patches of the version drawn. */
import OpenSeadragon from 'openseadragon';
import { useEffect, useRef, useState } from 'react';
import { formatPatches } from '../../ui/format.ts';
import { drawPatches, patchAt } from './draw-patches.ts';
import type { PatchColours } from './patch-colours.ts';
import type { SlideDetail, SlidePatches } from './queries.ts';

/** As the server cuts them. */
const TILE_SIZE_PX = 512;
/** Below this level of a Deep Zoom pyramid the whole slide is less than a tile. */
const LEVEL_MIN = 9;
const MASK_OPACITY = 0.45;

interface Unavailable {
  readonly message: string;
  readonly hint: string | null;
}

export function SlideViewer({
  slide,
  patches,
  colours,
  chosen,
  onChoose,
}: {
  readonly slide: SlideDetail;
  /** Null while they are being read. */
  readonly patches: SlidePatches | null;
  /** Null while they are not known: no patch is drawn. */
  readonly colours: PatchColours | null;
  /** The patch with a frame, from 0. */
  readonly chosen: number | null;
  /** Called with the patch on which someone clicks. */
  readonly onChoose: (patch: number) => void;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [viewer, setViewer] = useState<OpenSeadragon.Viewer | null>(null);
  const [unavailable, setUnavailable] = useState<Unavailable | null>(null);
  const [showsMask, setShowsMask] = useState(true);
  const [showsPatches, setShowsPatches] = useState(true);
  const [micronsOnScreen, setMicronsOnScreen] = useState<number | null>(null);
  const { width, height, tilesUrl, thumbnailUrl, tissueMaskUrl, micronsPerPixel } = slide;
  const micronsX = micronsPerPixel?.x ?? null;

  useEffect(() => {
    const element = frame.current;
    if (element === null || width === null || height === null) return undefined;
    let isGone = false;
    const created = OpenSeadragon({
      element,
      drawer: 'canvas',
      showNavigationControl: false,
      showNavigator: true,
      navigatorAutoFade: false,
      animationTime: 0.4,
      maxZoomPixelRatio: 2,
      // A click chooses a patch.
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      tileSources: [tileSourceOf(width, height, tilesUrl)],
    });
    created.addHandler('tile-load-failed', ({ tile }) => {
      void reasonOf(`${tilesUrl}/${tile.level}/${tile.x}_${tile.y}.jpg`).then((reason) => {
        if (!isGone) setUnavailable(reason);
      });
    });
    created.addHandler('update-viewport', () => {
      const imageZoom =
        created.world.getItemCount() === 0
          ? null
          : created.world.getItemAt(0).viewportToImageZoom(created.viewport.getZoom(true));
      setMicronsOnScreen(
        micronsX === null || imageZoom === null ? null : Number((micronsX / imageZoom).toPrecision(3)),
      );
    });
    setViewer(created);
    return () => {
      isGone = true;
      setViewer(null);
      created.destroy();
    };
  }, [width, height, tilesUrl, micronsX]);

  useEffect(() => {
    if (viewer === null || thumbnailUrl === null) return undefined;
    // Over the slide and below the mask, until the tiles of the first view are there: their reader starts slowly.
    const thumbnail = overlay(viewer, { url: thumbnailUrl, index: 1 });
    const onOpen = (): void => {
      viewer.world.getItemAt(0).addOnceHandler('fully-loaded-change', () => thumbnail.remove());
    };
    if (viewer.isOpen()) onOpen();
    else viewer.addOnceHandler('open', onOpen);
    return () => {
      viewer.removeHandler('open', onOpen);
      thumbnail.remove();
    };
  }, [viewer, thumbnailUrl]);

  useEffect(() => {
    if (viewer === null || tissueMaskUrl === null || !showsMask) return undefined;
    // White, which is tissue, leaves the slide as it is.
    const mask = overlay(viewer, { url: tissueMaskUrl, opacity: MASK_OPACITY, compositeOperation: 'multiply' });
    return () => mask.remove();
  }, [viewer, tissueMaskUrl, showsMask]);

  useEffect(() => {
    const target = canvas.current;
    if (viewer === null || target === null) return undefined;
    const drawn = showsPatches && patches !== null && colours !== null ? { patches, colours, chosen } : null;
    const draw = (): void => drawPatches(target, viewer, drawn);
    draw();
    viewer.addHandler('update-viewport', draw);
    viewer.addHandler('resize', draw);
    viewer.addHandler('open', draw);
    return () => {
      viewer.removeHandler('update-viewport', draw);
      viewer.removeHandler('resize', draw);
      viewer.removeHandler('open', draw);
    };
  }, [viewer, patches, colours, chosen, showsPatches]);

  useEffect(() => {
    if (viewer === null || patches === null || !showsPatches) return undefined;
    const choose = ({ quick, position }: OpenSeadragon.CanvasClickEvent): void => {
      if (!quick || viewer.world.getItemCount() === 0) return;
      const { x, y } = viewer.world.getItemAt(0).viewerElementToImageCoordinates(position);
      const patch = patchAt(patches, x, y);
      if (patch !== undefined) onChoose(patch);
    };
    viewer.addHandler('canvas-click', choose);
    return () => {
      viewer.removeHandler('canvas-click', choose);
    };
  }, [viewer, patches, onChoose, showsPatches]);

  useEffect(() => {
    if (viewer === null || patches === null || chosen === null || viewer.world.getItemCount() === 0) return;
    const [x, y] = [patches.x[chosen], patches.y[chosen]];
    if (x === undefined || y === undefined) return;
    const { width: patchWidth, height: patchHeight } = patches;
    const place = viewer.world.getItemAt(0).imageToViewportRectangle(x, y, patchWidth, patchHeight);
    const centre = place.getCenter();
    if (!viewer.viewport.getBounds().containsPoint(centre)) viewer.viewport.panTo(centre);
  }, [viewer, patches, chosen]);

  if (width === null || height === null)
    return <div className="notice warn">The slide cannot be shown, because it could not be opened.</div>;
  const zoomBy = (factor: number): void => {
    viewer?.viewport.zoomBy(factor);
    viewer?.viewport.applyConstraints();
  };
  return (
    <>
      <div className="row">
        <button type="button" onClick={() => zoomBy(2)}>
          Zoom in
        </button>
        <button type="button" onClick={() => zoomBy(0.5)}>
          Zoom out
        </button>
        <button type="button" onClick={() => viewer?.viewport.goHome()}>
          Whole slide
        </button>
        {tissueMaskUrl !== null && (
          <label className="row">
            <input type="checkbox" checked={showsMask} onChange={(event) => setShowsMask(event.target.checked)} />
            <span>darken what is not tissue</span>
          </label>
        )}
        {slide.patchCount > 0 && (
          <label className="row">
            <input type="checkbox" checked={showsPatches} onChange={(event) => setShowsPatches(event.target.checked)} />
            <span>{patches === null ? 'patches …' : formatPatches(patches.x.length)}</span>
          </label>
        )}
        <span className="soft small">
          {micronsOnScreen === null ? '' : `${micronsOnScreen} um for a pixel of the screen`}
        </span>
      </div>
      {unavailable !== null && (
        <div className="notice warn" role="alert">
          <strong>{unavailable.message}</strong> {unavailable.hint}
        </div>
      )}
      <div className="slide-view">
        <div ref={frame} className="slide-frame" />
        <canvas ref={canvas} className="slide-patches" aria-hidden="true" />
      </div>
    </>
  );
}

/** Lays a picture of the whole slide over it, as soon as the slide is open. `remove` may be called at any time. */
function overlay(
  viewer: OpenSeadragon.Viewer,
  options: OpenSeadragon.SimpleImageOptions,
): { readonly remove: () => void } {
  let added: OpenSeadragon.TiledImage | undefined;
  let isRemoved = false;
  const removeAdded = (): void => {
    if (added !== undefined && viewer.world.getIndexOfItem(added) >= 0) viewer.world.removeItem(added);
  };
  const add = (): void =>
    viewer.addSimpleImage({
      ...options,
      success: (event) => {
        if (!('item' in event) || !(event.item instanceof OpenSeadragon.TiledImage)) return;
        added = event.item;
        if (isRemoved) removeAdded();
      },
    });
  if (viewer.isOpen()) add();
  else viewer.addOnceHandler('open', add);
  return {
    remove: () => {
      isRemoved = true;
      viewer.removeHandler('open', add);
      removeAdded();
    },
  };
}

function tileSourceOf(width: number, height: number, tilesUrl: string): OpenSeadragon.TileSource {
  const source = new OpenSeadragon.TileSource({
    ...{ width, height, tileSize: TILE_SIZE_PX, tileOverlap: 0 },
    minLevel: Math.min(LEVEL_MIN, Math.ceil(Math.log2(Math.max(width, height)))),
  });
  source.getTileUrl = (level, x, y) => `${tilesUrl}/${level}/${x}_${y}.jpg`;
  return source;
}

/** What the server says about a tile that the viewer could not load. */
async function reasonOf(url: string): Promise<Unavailable | null> {
  const response = await fetch(url);
  if (response.ok) return null;
  const body: unknown = await response.json().catch(() => null);
  const textOf = (name: string): string | null => {
    const value: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : null;
    return typeof value === 'string' ? value : null;
  };
  return { message: textOf('message') ?? 'The slide cannot be shown.', hint: textOf('hint') };
}
