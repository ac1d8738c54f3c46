/** Builds the pages into web/dist, which the server serves at /. Nothing is loaded from anywhere else. */
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const SERVER = 'http://127.0.0.1:4000';

export default defineConfig({
  root: import.meta.dirname,
  plugins: [react()],
  // For work on the pages: `npx vite web` beside a running server.
  server: {
    proxy: {
      '/graphql': { target: SERVER, ws: true },
      '/artifacts': SERVER,
      '/versions': SERVER,
      '^/(checkpoints|datasets)/[^/]+/.+\\.\\w+$': SERVER,
      '^/checkpoints/[^/]+/download': SERVER,
    },
  },
  worker: { format: 'es' },
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2023',
    modulePreload: { polyfill: false },
    // A data: address in a style or script would need room in the content security policy.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 4000,
    rolldownOptions: {
      onLog: (level, log, handler) => {
        // Directives of libraries for compilers that we do not use.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') handler(level, log);
      },
    },
  },
});
