/** Parses references to objects on the command line: an id, or a name with `@`. */
import { CommandFailure } from '../exit-codes.ts';
import type { Registry } from './connection.ts';
import { graphql, type ResultOf } from './graphql.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** A query takes either of them. */
export function idOrSlug(text: string): { readonly id: string } | { readonly slug: string } {
  return UUID.test(text) ? { id: text } : { slug: text };
}

const FIND_VERSION = graphql(`
  query FindDatasetVersion($id: ID, $slug: String) {
    dataset(id: $id, slug: $slug) {
      id
      slug
      latestVersion {
        id
        version
        imageCount
        digest
      }
      versions(first: 200) {
        nodes {
          id
          version
          status
          imageCount
          digest
        }
      }
    }
  }
`);

const FIND_VERSION_BY_ID = graphql(`
  query FindDatasetVersionById($id: ID!) {
    node(id: $id) {
      ... on DatasetVersion {
        id
        version
        imageCount
        digest
        dataset {
          id
          slug
        }
      }
    }
  }
`);

export interface FoundVersion {
  readonly id: string;
  readonly version: number;
  readonly imageCount: number;
  readonly digest: string | null;
  readonly datasetId: string;
  readonly datasetSlug: string;
}

/** @param text `bach` (its latest sealed version), `bach@2`, or the id of a version. */
export async function findVersion(registry: Registry, text: string): Promise<FoundVersion> {
  const [name = '', wanted] = text.split('@');
  const { dataset } = await registry.ask(FIND_VERSION, idOrSlug(name));
  if (dataset === null && UUID.test(name)) {
    const { node } = await registry.ask(FIND_VERSION_BY_ID, { id: name });
    if (node !== null && 'dataset' in node)
      return { ...node, datasetId: node.dataset.id, datasetSlug: node.dataset.slug };
  }
  if (dataset === null) throw noDataset(name);
  const version =
    wanted === undefined
      ? dataset.latestVersion
      : dataset.versions.nodes.find((each) => String(each.version) === wanted);
  if (version == null) {
    throw new CommandFailure({
      message:
        wanted === undefined ? `${dataset.slug} has no images yet.` : `${dataset.slug} has no version ${wanted}.`,
      hint:
        wanted === undefined
          ? `Import images: paraffin datasets import ${dataset.slug} FOLDER`
          : `List its versions: paraffin datasets show ${dataset.slug}`,
    });
  }
  return { ...version, datasetId: dataset.id, datasetSlug: dataset.slug };
}

export function noDataset(reference: string): CommandFailure {
  return new CommandFailure({
    message: `The dataset "${reference}" does not exist.`,
    hint: `Search for it: paraffin datasets ls --search ${reference}`,
  });
}

const FIND_CHECKPOINT = graphql(`
  query FindCheckpoint($id: ID!) {
    checkpoint(id: $id) {
      id
      version
      encoder
      embeddingDim
      sha256
      byteSize
      formats
      publishedSlug
      model {
        slug
      }
      exports {
        format
        status
        sha256
        byteSize
      }
    }
  }
`);

export type FoundCheckpoint = NonNullable<ResultOf<typeof FIND_CHECKPOINT>['checkpoint']>;

const FIND_IN_MODEL = graphql(`
  query FindCheckpointOfModel($slug: String!) {
    model(slug: $slug) {
      aliases {
        name
        checkpoint {
          id
        }
      }
      checkpoints(first: 200) {
        nodes {
          id
          version
        }
      }
    }
  }
`);

/** @param text a checkpoint's id, `model@alias`, `model@3` for a version, or `model` for its newest. */
export async function findCheckpoint(registry: Registry, text: string): Promise<FoundCheckpoint> {
  const { checkpoint } = await registry.ask(FIND_CHECKPOINT, {
    id: UUID.test(text) ? text : await idInModel(registry, text),
  });
  if (checkpoint === null)
    throw new CommandFailure({
      message: `The checkpoint ${text} does not exist.`,
      hint: 'List the models: paraffin models ls',
    });
  return checkpoint;
}

async function idInModel(registry: Registry, text: string): Promise<string> {
  const [slug = '', wanted] = text.split('@');
  const { model } = await registry.ask(FIND_IN_MODEL, { slug });
  if (model === null)
    throw new CommandFailure({
      message: `The model "${slug}" does not exist.`,
      hint: 'List the models: paraffin models ls',
    });
  const { aliases, checkpoints } = model;
  const found =
    wanted === undefined
      ? checkpoints.nodes[0]?.id
      : (aliases.find((alias) => alias.name === wanted)?.checkpoint.id ??
        checkpoints.nodes.find((checkpoint) => String(checkpoint.version) === wanted)?.id);
  if (found !== undefined) return found;
  throw new CommandFailure({
    message:
      wanted === undefined
        ? `${slug} has no checkpoints yet.`
        : `${slug} has neither an alias nor a version "${wanted}".`,
    hint: `List its versions and aliases: paraffin models show ${slug}`,
  });
}
