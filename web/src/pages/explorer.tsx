/** GraphiQL, bundled: a view of the schema, and an editor that sends queries with the session of the signed-in user. */
import 'graphiql/setup-workers/vite';
import 'graphiql/style.css';
import { createGraphiQLFetcher } from '@graphiql/toolkit';
import { GraphiQL } from 'graphiql';
import { createClient } from 'graphql-ws';
import { useMemo } from 'react';
import { useSessionNumber } from '../api/hooks.ts';
import { readTheme } from '../app/theme.ts';
import { useTitle } from '../ui/parts.tsx';

const FIRST_QUERY = `# Which breast datasets are stained with H&E at 0.25 um/px or finer?
{
  datasets(filter: { organs: ["BREAST"], stains: ["HE"], micronsPerPixel: { max: 0.25 } }) {
    totalCount
    nodes { slug name provenance resolutions { magnification micronsPerPixel } }
  }
}
`;

export function ExplorerPage() {
  useTitle('GraphQL explorer');
  const session = useSessionNumber();
  const fetcher = useMemo(
    () =>
      createGraphiQLFetcher({
        url: '/graphql',
        wsClient: createClient({
          url: `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/graphql`,
        }),
      }),
    [session],
  );
  return (
    <div className="explorer">
      <h1 className="hidden">GraphQL explorer</h1>
      <GraphiQL fetcher={fetcher} defaultQuery={FIRST_QUERY} forcedTheme={readTheme()} />
    </div>
  );
}
