/**
 * Every route of the server beside GraphQL, and the least that opens it; KEY: any key; RUN_TOKEN: the token of a
 * claimed run alone. A new one belongs here.
 */
import type { NeededRole } from '../../src/api/permissions.ts';

export const ROUTES: Readonly<Record<string, NeededRole | 'KEY' | 'RUN_TOKEN'>> = {
  '/healthz': 'ANYONE',
  '/readyz': 'ANYONE',
  '/': 'ANYONE',
  '/metrics': 'READER',
  '/session': 'KEY',
  '/uploads': 'CONTRIBUTOR',
  '/uploads/:id': 'CONTRIBUTOR',
  '/datasets/:id/croissant.json': 'READER',
  '/checkpoints/:id/README.md': 'READER',
  '/checkpoints/:id/download': 'READER',
  '/artifacts/:sha256': 'READER',
  '/embeddings/:id.npy': 'READER',
  '/embeddings/:id.csv': 'READER',
  '/datasets/:id/thumbnails/:position.webp': 'READER',
  '/versions/:id/slides/:position/tiles/:level/:tile.jpg': 'READER',
  '/worker/claim': 'OPERATOR',
  '/worker/run': 'OPERATOR',
  '/worker/held': 'OPERATOR',
  '/worker/runs/:id/:call': 'RUN_TOKEN',
  '/worker/runs/:id/artifacts/:sha256': 'RUN_TOKEN',
  '/worker/runs/:id/artifacts/:sha256/direct/:step': 'RUN_TOKEN',
  '/worker/runs/:id/parts/:part/:call': 'RUN_TOKEN',
};

/** The kind of action that a limited key needs for a route that is not public. */
export function actionOf(route: string): 'IMPORT' | 'READ' | 'WORK' {
  if (route.startsWith('/worker/')) return 'WORK';
  return route.startsWith('/uploads') ? 'IMPORT' : 'READ';
}

/** The method that a well-behaved client would use. */
export function methodOf(route: string): 'GET' | 'HEAD' | 'POST' {
  if (route.startsWith('/worker/')) return route.endsWith('/artifacts/:sha256') ? 'GET' : 'POST';
  return route === '/uploads' || route === '/session' ? 'POST' : route === '/uploads/:id' ? 'HEAD' : 'GET';
}

/** The route's address for these ids; omitted ids match nothing. */
export function addressOf(
  route: string,
  { id = '00000000-0000-7000-8000-000000000000', sha256 = '0'.repeat(64) }: { id?: string; sha256?: string } = {},
): string {
  return route
    .replace(':id', route.startsWith('/uploads') ? '0'.repeat(32) : id)
    .replace(':sha256', sha256)
    .replace(':call', 'renew')
    .replace(':part', '0')
    .replace(':step', 'begin')
    .replace(':position', '0')
    .replace(':level/:tile', '0/0_0');
}
