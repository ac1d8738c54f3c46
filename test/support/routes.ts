/** Every route of the server beside GraphQL, and the least that opens it; KEY: any key. A new one belongs here. */
import type { NeededRole } from '../../src/api/permissions.ts';

export const ROUTES: Readonly<Record<string, NeededRole | 'KEY'>> = {
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
};

/** The kind of action that a limited key needs for a route that is not public. */
export function actionOf(route: string): 'IMPORT' | 'READ' {
  return route.startsWith('/uploads') ? 'IMPORT' : 'READ';
}

/** The method that a well-behaved client would use. */
export function methodOf(route: string): 'GET' | 'HEAD' | 'POST' {
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
    .replace(':position', '0');
}
