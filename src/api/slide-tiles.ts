/** `GET /versions/{id}/slides/{position}/tiles/{level}/{column}_{row}.jpg`: a tile of a slide's Deep Zoom pyramid. */
import { Router, type RequestHandler } from 'express';
import { DomainError } from '../errors.ts';
import { authorise } from '../modules/access/index.ts';
import type { SlideTileService } from '../modules/datasets/index.ts';
import type { RunAdmitted } from './gate.ts';

export interface SlideTileOptions {
  readonly slideTiles: Pick<SlideTileService, 'find'>;
  readonly runAdmitted: RunAdmitted;
}

const PATH = '/versions/:id/slides/:position/tiles/:level/:tile.jpg';

export function createSlideTiles({ slideTiles, runAdmitted }: SlideTileOptions): Router {
  const router = Router();
  const answer: RequestHandler = async (request, response) => {
    const { id, position, level, tile } = request.params;
    const numbers = /^(\d{1,6}) (\d{1,2}) (\d{1,6})_(\d{1,6})$/.exec(`${position} ${level} ${tile}`)?.slice(1);
    if (numbers === undefined || typeof id !== 'string')
      throw new DomainError({
        code: 'NOT_FOUND',
        message: 'The address of a tile is /versions/{id}/slides/{position}/tiles/{level}/{column}_{row}.jpg.',
        hint: 'Positions, columns and rows begin at 0.',
      });
    const [slide = 0, zoom = 0, column = 0, row = 0] = numbers.map(Number);
    // The turn ends before the tile is cut, because that waits for the process that reads the slide.
    const cut = await runAdmitted(request, ({ viewer }) => {
      authorise(viewer, 'READER', 'READ');
      return slideTiles.find(viewer, id, slide, { level: zoom, column, row });
    });
    const bytes = await cut();
    response.setHeader('Content-Type', 'image/jpeg');
    // After a sign-out the browser must not show cached tiles to the next user.
    response.setHeader('Vary', 'Authorization, Cookie');
    // A sealed version never changes; an hour later the browser asks whether the file is still there.
    response.setHeader('Cache-Control', 'private, max-age=3600');
    response.send(bytes);
  };
  router.get(PATH, answer);
  router.all(PATH, (_request, response) => {
    response.setHeader('Allow', 'GET, HEAD');
    response.sendStatus(405);
  });
  return router;
}
