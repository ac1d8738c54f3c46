/** Prometheus metrics of one server: its process, its requests, and runs by status. */
import type { RequestHandler } from 'express';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { RunStatus } from '../generated/prisma/enums.ts';

export interface Metrics {
  readonly contentType: string;
  readonly text: () => Promise<string>;
  /** Times every request until its answer is sent or aborted. */
  readonly measure: RequestHandler;
}

/** Known first segments of paths. Any other path is counted as "other", because a label per path would fill memory. */
const ROUTES: ReadonlySet<string> = new Set([
  'graphql',
  'checkpoints',
  'uploads',
  'session',
  'embeddings',
  'artifacts',
  'datasets',
  'healthz',
  'readyz',
  'metrics',
]);

export function createMetrics(runCounts: () => Promise<Readonly<Record<string, number>>>): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: 'paraffin_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the end of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 5, 30, 300],
    registers: [registry],
  });
  new Gauge({
    name: 'paraffin_runs',
    help: 'Runs by status.',
    labelNames: ['status'],
    registers: [registry],
    async collect() {
      const counts = await runCounts();
      for (const status of Object.values(RunStatus)) this.set({ status }, counts[status] ?? 0);
    },
  });
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    measure: (request, response, next) => {
      const startMs = performance.now();
      const [, segment = ''] = request.path.split('/', 2);
      const route = request.path === '/' ? '/' : ROUTES.has(segment) ? `/${segment}` : 'other';
      response.once('close', () => {
        durations.observe(
          { method: request.method, route, status: response.statusCode },
          (performance.now() - startMs) / 1000,
        );
      });
      next();
    },
  };
}
