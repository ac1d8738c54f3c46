/** Who is signed in. */
import { graphql, type ResultOf } from './graphql.ts';
import { useGraphQLQuery } from './hooks.ts';

const VIEWER = graphql(`
  query Viewer {
    viewer {
      name
      role
    }
  }
`);

export type Viewer = ResultOf<typeof VIEWER>['viewer'];

/** Null: no user is signed in, or the session has ended. Undefined: not known yet. */
export function useViewer(): Viewer | null | undefined {
  const answer = useGraphQLQuery(VIEWER, {});
  if (answer.isError) return null;
  const viewer = answer.data?.viewer;
  return viewer?.role === 'ANONYMOUS' ? null : viewer;
}
