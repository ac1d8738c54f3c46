/** The datasets and models that a mutation would change, according to its arguments. */
import { isId } from '../input.ts';
import type { ApiContext } from './context.ts';
import type { Touches } from './permissions.ts';

type Asker = Pick<ApiContext, 'viewer' | 'services'>;

/**
 * `dataset:slug` and `model:slug` of everything that is touched; undefined where an argument is missing or names
 * nothing in this registry. A new slug counts: it names what will be created.
 */
export async function resourcesTouched(
  asker: Asker,
  touches: Touches,
  args: Readonly<Record<string, unknown>>,
): Promise<string[] | undefined> {
  const resources: string[] = [];
  for (const [kind, paths] of Object.entries(touches)) {
    const reference = referenceAt(args, paths);
    const resource = reference === undefined ? undefined : await RESOURCE_OF[kind]?.(asker, reference);
    if (resource === undefined) return undefined;
    resources.push(resource);
  }
  return resources;
}

/** The first argument of these that is given. */
export function referenceAt(args: Readonly<Record<string, unknown>>, paths: readonly string[]): string | undefined {
  return paths
    .map((path) =>
      path
        .split('.')
        .reduce<unknown>(
          (value, key) => (typeof value === 'object' && value !== null ? Reflect.get(value, key) : undefined),
          args,
        ),
    )
    .find((value) => typeof value === 'string');
}

const datasetResource = async ({ services, viewer }: Asker, reference: string): Promise<string | undefined> => {
  if (!isId(reference)) return `dataset:${reference}`;
  const dataset = await services.datasets.get(viewer, { id: reference });
  return dataset === undefined ? undefined : `dataset:${dataset.slug}`;
};

const modelResource = async ({ services, viewer }: Asker, reference: string): Promise<string | undefined> => {
  if (!isId(reference)) return `model:${reference}`;
  const model = await services.models.get(viewer, { id: reference });
  return model === undefined ? undefined : `model:${model.slug}`;
};

const checkpointResource = async (asker: Asker, id: string): Promise<string | undefined> => {
  const checkpoint = await asker.services.models.getCheckpoint(asker.viewer, id);
  return checkpoint === undefined ? undefined : modelResource(asker, checkpoint.modelId);
};

/** An import touches its dataset, any other run the model that it trains, evaluates or exports. */
const runResource = async (asker: Asker, id: string): Promise<string | undefined> => {
  const run = await asker.services.runs.get(asker.viewer, id);
  if (run === undefined) return undefined;
  const named = (key: string): string | undefined => referenceAt({ config: run.config }, [`config.${key}`]);
  const datasetId = named('datasetId');
  const modelSlug = named('modelSlug');
  const checkpointId = named('checkpointId');
  if (datasetId !== undefined) return datasetResource(asker, datasetId);
  if (modelSlug !== undefined) return modelResource(asker, modelSlug);
  return checkpointId === undefined ? undefined : checkpointResource(asker, checkpointId);
};

const RESOURCE_OF: Readonly<Record<string, (asker: Asker, reference: string) => Promise<string | undefined>>> = {
  dataset: datasetResource,
  model: modelResource,
  checkpoint: checkpointResource,
  run: runResource,
};
