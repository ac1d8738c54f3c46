/** Serves the web pages that `npm run build:web` built: one HTML document for the address of every page. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import express, { Router, type RequestHandler, type Response } from 'express';

/** The pages load only their own files, and send requests only to this server. */
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
 * The editor of the GraphQL explorer adds style elements with embedded icons, which the stricter policy forbids. The
 * explorer is therefore served with a policy of its own.
 */
const EXPLORER_PATH = '/explorer';
const EXPLORER_POLICY = { ...POLICY, 'style-src': "'self' 'unsafe-inline'", 'font-src': "'self' data:" };

/**
 * @param folder the folder of the built pages.
 * @returns undefined if they are not built.
 */
export function createPages(folder: string): Router | undefined {
  const document = path.join(folder, 'index.html');
  if (!existsSync(document)) return undefined;
  const router = Router();
  // Asset names contain a hash of their content, so they can be cached forever.
  router.use(
    '/assets',
    express.static(path.join(folder, 'assets'), { index: false, redirect: false, immutable: true, maxAge: '365d' }),
  );
  router.get('/icon.svg', express.static(folder, { index: false, redirect: false, maxAge: '1d' }));
  router.get('/{*page}', documentFor(document));
  // Otherwise the router would answer OPTIONS with 200 for every path, those of other routes among them.
  router.options('/{*page}', (_request, response) => {
    response.setHeader('Allow', 'GET, HEAD');
    response.sendStatus(405);
  });
  return router;
}

/** A path whose last segment contains a dot names a file, not a page. */
const FILE_PATH = /\.[^/]*$/;

/** Only for requests that accept HTML: a tool that mistypes an address gets an error instead of a page. */
function documentFor(document: string): RequestHandler {
  return (request, response, next) => {
    if (request.get('accept')?.includes('text/html') !== true || FILE_PATH.test(request.path)) {
      next();
      return;
    }
    setContentSecurityPolicy(response, request.path === EXPLORER_PATH ? EXPLORER_POLICY : POLICY);
    response.setHeader('Cache-Control', 'no-cache');
    response.sendFile(document, { cacheControl: false });
  };
}

function setContentSecurityPolicy(response: Response, policy: Readonly<Record<string, string>>): void {
  response.setHeader(
    'Content-Security-Policy',
    Object.entries(policy)
      .map(([name, value]) => `${name} ${value}`)
      .join('; '),
  );
}
