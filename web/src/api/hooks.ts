/** Data for components: cached, shared, and fetched again after a sign-in or sign-out. */
import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
  type UseQueryResult,
} from '@tanstack/react-query';
import { useCallback, useSyncExternalStore } from 'react';
import { ApiError, request } from './client.ts';
import type { TadaDocumentNode } from './graphql.ts';
import { onSessionChange, sessionNumber } from './session.ts';

/** A part of the cache key of all data that depends on the signed-in user. */
export function useSessionNumber(): number {
  return useSyncExternalStore(onSessionChange, sessionNumber);
}

export interface GraphQLQueryOptions {
  /** False sends no request. */
  readonly enabled?: boolean;
  /** Interval of repeated requests while the page is visible. */
  readonly refetchMs?: number | false;
}

/** The answer to a query. While variables change, the previous answer stays visible. */
export function useGraphQLQuery<Data, Variables>(
  document: TadaDocumentNode<Data, Variables>,
  variables: Variables,
  { enabled = true, refetchMs = false }: GraphQLQueryOptions = {},
): UseQueryResult<Data> {
  const session = useSessionNumber();
  return useQuery({
    queryKey: [nameOf(document), variables, session],
    queryFn: ({ signal }) => request(document, variables, { signal }),
    enabled,
    refetchInterval: refetchMs,
    placeholderData: keepPreviousData,
  });
}

/** A paginated list. The hook sets `after` of the variables. */
export function usePaginatedQuery<Data, Variables extends { readonly after?: string | null | undefined }>(
  document: TadaDocumentNode<Data, Variables>,
  variables: Variables,
  pageInfoOf: (data: Data) => { readonly hasNextPage: boolean; readonly endCursor: string | null },
  { refetchMs = false }: Pick<GraphQLQueryOptions, 'refetchMs'> = {},
) {
  const session = useSessionNumber();
  const first: string | null = null;
  return useInfiniteQuery({
    queryKey: [nameOf(document), variables, session],
    queryFn: ({ pageParam, signal }) => request(document, { ...variables, after: pageParam }, { signal }),
    initialPageParam: first,
    getNextPageParam: (last: Data): string | null => {
      const { hasNextPage, endCursor } = pageInfoOf(last);
      return hasNextPage ? endCursor : null;
    },
    refetchInterval: refetchMs,
    placeholderData: keepPreviousData,
  });
}

/** A mutation; afterwards all cached data is fetched again. */
export function useGraphQLMutation<Data, Variables>(document: TadaDocumentNode<Data, Variables>) {
  const client = useQueryClient();
  return useMutation<Data, Error, Variables>({
    mutationFn: (variables) => request(document, variables),
    onSettled: () => client.invalidateQueries(),
  });
}

/** Invalidates all cached data: visible data is fetched again now, the rest when it is shown. */
export function useInvalidateQueries(): () => void {
  const client = useQueryClient();
  return useCallback(() => void client.invalidateQueries(), [client]);
}

/** Whether a repeated request may succeed. */
export function shouldRetryRequest(failureCount: number, error: Error): boolean {
  return failureCount < 2 && error instanceof ApiError && error.code === 'UNREACHABLE';
}

function nameOf(document: TadaDocumentNode<unknown, never>): string {
  return document.definitions
    .map((definition) => ('name' in definition ? (definition.name?.value ?? '') : ''))
    .join(' ');
}
