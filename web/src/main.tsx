/** Entry point of the pages: a single-page application. */
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { shouldRetryRequest } from './api/hooks.ts';
import { router } from './app/router.tsx';
import { applyTheme, readTheme } from './app/theme.ts';
import './styles.css';

applyTheme(readTheme());

const queryClient = new QueryClient({
  defaultOptions: { queries: { retry: shouldRetryRequest, staleTime: 5_000, refetchOnWindowFocus: true } },
});
const root = document.getElementById('root');
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queryClient}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
