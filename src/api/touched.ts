/** Finds the datasets and models that a mutation would change, from its arguments. */
import { isId } from '../input.ts';
import type { ApiContext } from './context.ts';
import type { Touches } from './permissions.ts';

type CallContext = Pick<ApiContext, 'viewer' | 'services'>;

/**
 * @returns `dataset:slug` and `model:slug` of every object that is changed; undefined if an argument is missing, or its
 * id does not exist. A new slug is included: it names the object that will be created.
 */
export async function resourcesTouched(
  call: CallContext,
  touches: Touches,
  args: Readonly<Record<string, unknown>>,
): Promise<string[] | undefined> {
  const resources: string[] = [];
  for (const [kind, paths] of Object.entries(touches)) {
    const reference = referenceAt(args, paths);
    const resource = reference === undefined ? undefined : await RESOURCE_OF[kind]?.(call, reference);
    if (resource === undefined) return undefined;
    resources.push(resource);
  }
  return resources;
}

/** The first of these arguments that is a string. */
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

const datasetResource = async ({ services, viewer }: CallContext, reference: string): Promise<string | undefined> => {
  if (!isId(reference)) return `dataset:${reference}`;
  const dataset = await services.datasets.get(viewer, { id: reference });
  return dataset === undefined ? undefined : `dataset:${dataset.slug}`;
};

const modelResource = async ({ services, viewer }: CallContext, reference: string): Promise<string | undefined> => {
  if (!isId(reference)) return `model:${reference}`;
  const model = await services.models.get(viewer, { id: reference });
  return model === undefined ? undefined : `model:${model.slug}`;
};

const checkpointResource = async (call: CallContext, id: string): Promise<string | undefined> => {
  const checkpoint = await call.services.models.getCheckpoint(call.viewer, id);
  return checkpoint === undefined ? undefined : modelResource(call, checkpoint.modelId);
};

/** An import touches its dataset, any other run the model that it trains, evaluates or exports. */
const runResource = async (call: CallContext, id: string): Promise<string | undefined> => {
  const run = await call.services.runs.get(call.viewer, id);
  if (run === undefined) return undefined;
  const named = (key: string): string | undefined => referenceAt({ config: run.config }, [`config.${key}`]);
  const datasetId = named('datasetId');
  const modelSlug = named('modelSlug');
  const checkpointId = named('checkpointId');
  if (datasetId !== undefined) return datasetResource(call, datasetId);
  if (modelSlug !== undefined) return modelResource(call, modelSlug);
  return checkpointId === undefined ? undefined : checkpointResource(call, checkpointId);
};

const RESOURCE_OF: Readonly<Record<string, (call: CallContext, reference: string) => Promise<string | undefined>>> = {
  dataset: datasetResource,
  model: modelResource,
  checkpoint: checkpointResource,
  run: runResource,
};
