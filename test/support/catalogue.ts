/** The catalogue's API over a test database: the real schema, services and loaders, without HTTP. */
import assert from 'node:assert/strict';
import { graphql, type ExecutionResult, type GraphQLSchema } from 'graphql';
import { buildSchema } from '../../src/api/schema.ts';
import type { Viewer } from '../../src/modules/access/index.ts';
import { createAuditService } from '../../src/modules/audit/index.ts';
import { createDatasetLoaders, createDatasetService, type DatasetService } from '../../src/modules/datasets/index.ts';
import type { TestDatabase } from './database.ts';
import { keyHolder } from './viewers.ts';

export const READER: Viewer = { kind: 'ANONYMOUS', mayRead: true };
export const CONTRIBUTOR: Viewer = keyHolder('CONTRIBUTOR');

export interface CatalogueApi {
  readonly datasets: DatasetService;
  execute(query: string, variables?: Readonly<Record<string, unknown>>, viewer?: Viewer): Promise<ExecutionResult>;
  /** The data of a request that must succeed. */
  ask(query: string, variables?: Readonly<Record<string, unknown>>, viewer?: Viewer): Promise<unknown>;
}

let schema: GraphQLSchema | undefined;

export function catalogueApi(database: TestDatabase): CatalogueApi {
  schema ??= buildSchema(false);
  const source = schema;
  const audit = createAuditService({ db: database.db, transact: database.transact });
  const datasets = createDatasetService({ db: database.db, transact: audit.transact });
  const execute: CatalogueApi['execute'] = (query, variables = {}, viewer = CONTRIBUTOR) =>
    graphql({
      schema: source,
      source: query,
      variableValues: variables,
      contextValue: {
        viewer,
        requestId: 'test',
        address: null,
        onRefusal: () => Promise.resolve(),
        clientGone: undefined,
        services: { audit, datasets },
        loaders: { datasets: createDatasetLoaders(database.db) },
      },
    });
  return {
    datasets,
    execute,
    ask: async (query, variables, viewer) => {
      const result = await execute(query, variables, viewer);
      assert.deepEqual(result.errors?.map((error) => error.message) ?? [], []);
      return JSON.parse(JSON.stringify(result.data));
    },
  };
}

/** The value at a path of parsed JSON, e.g. `at(data, 'datasets.nodes.0.slug')`. */
export function at(data: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>(
      (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
      data,
    );
}

export function listAt(data: unknown, path: string): unknown[] {
  const value = at(data, path);
  assert.ok(Array.isArray(value), `${path} is a list`);
  return value;
}
