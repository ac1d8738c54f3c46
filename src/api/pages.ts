/** The pages for people: what `npm run build:web` made, and one document for every address that a page has. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import express, { Router, type RequestHandler, type Response } from 'express';

/** The pages load nothing but their own files and talk to nobody but this server. */
const POLICY = {
  'default-src': "'none'",
  'script-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data: blob:",
  'font-src': "'self'",
  'connect-src': "'self'",
  'worker-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
  'frame-ancestors': "'none'",
};
/**
 * The editor of the GraphQL explorer writes its own style elements and brings its icons inside of them: it is a
 * document of its own, with these leaves more.
 */
const EXPLORER_PATH = '/explorer';
const EXPLORER_POLICY = { ...POLICY, 'style-src': "'self' 'unsafe-inline'", 'font-src': "'self' data:" };

/**
 * @param folder of the built pages.
 * @returns undefined where they are not built.
 */
export function createPages(folder: string): Router | undefined {
  const document = path.join(folder, 'index.html');
  if (!existsSync(document)) return undefined;
  const router = Router();
  // A new build has new names.
  router.use(
    '/assets',
    express.static(path.join(folder, 'assets'), { index: false, redirect: false, immutable: true, maxAge: '365d' }),
  );
  router.get('/icon.svg', express.static(folder, { index: false, redirect: false, maxAge: '1d' }));
  router.get('/{*page}', documentFor(document));
  return router;
}

/** The address of a file, not of a page. */
const LAST_HAS_DOT = /\.[^/]*$/;

/** Only for requests that accept HTML: a tool that mistypes an address gets an error instead of a page. */
function documentFor(document: string): RequestHandler {
  return (request, response, next) => {
    if (request.get('accept')?.includes('text/html') !== true || LAST_HAS_DOT.test(request.path)) {
      next();
      return;
    }
    protect(response, request.path === EXPLORER_PATH ? EXPLORER_POLICY : POLICY);
    response.setHeader('Cache-Control', 'no-cache');
    response.sendFile(document, { cacheControl: false });
  };
}

function protect(response: Response, policy: Readonly<Record<string, string>>): void {
  response.setHeader(
    'Content-Security-Policy',
    Object.entries(policy)
      .map(([name, value]) => `${name} ${value}`)
      .join('; '),
  );
}
