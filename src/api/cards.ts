/** `GET /datasets/{id}/croissant.json` and `GET /checkpoints/{id}/README.md`. */
import { Router, type Request, type RequestHandler } from 'express';
import { DomainError } from '../errors.ts';
import { authorise, type Viewer } from '../modules/access/index.ts';
import { CROISSANT_MEDIA_TYPE, MODEL_CARD_MEDIA_TYPE, type CardService } from '../modules/cards/index.ts';
import type { RunAdmitted } from './gate.ts';

export interface CardOptions {
  readonly cards: CardService;
  readonly runAdmitted: RunAdmitted;
  /** The base of the URLs in a card. Never taken from a request, whose sender could point them at another host. */
  readonly publicUrl: () => string;
}

export function createCards({ cards, runAdmitted, publicUrl }: CardOptions): Router {
  const router = Router();
  const serve = (
    path: string,
    mediaType: string,
    make: (request: Request, viewer: Viewer) => Promise<string>,
  ): void => {
    const answer: RequestHandler = async (request, response) => {
      const text = await runAdmitted(request, ({ viewer }) => {
        authorise(viewer, 'READER', 'READ');
        return make(request, viewer);
      });
      response.setHeader('Content-Type', mediaType);
      // The card changes with the next evaluation, so caches must revalidate it.
      response.setHeader('Cache-Control', 'private, no-cache');
      response.send(Buffer.from(text, 'utf8'));
    };
    router.get(path, answer);
    router.all(path, (_request, response) => {
      response.setHeader('Allow', 'GET, HEAD');
      response.sendStatus(405);
    });
  };
  serve(
    '/datasets/:id/croissant.json',
    CROISSANT_MEDIA_TYPE,
    async (request, viewer) =>
      `${JSON.stringify(await cards.dataset(viewer, parameter(request, 'id'), versionOf(request.query['version']), publicUrl()), null, 2)}\n`,
  );
  serve('/checkpoints/:id/README.md', MODEL_CARD_MEDIA_TYPE, (request, viewer) =>
    cards.checkpoint(viewer, parameter(request, 'id'), publicUrl()),
  );
  return router;
}

function parameter(request: Request, name: string): string {
  const value = request.params[name];
  return typeof value === 'string' ? value : '';
}

function versionOf(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string' && /^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new DomainError({ code: 'BAD_INPUT', message: 'version must be a whole number from 1.', field: 'version' });
}
