/** Queries and changes of the catalogue for users and tools; drafting and sealing of versions for the import task. */
import { DomainError } from '../../errors.ts';
import { isId } from '../../input.ts';
import type { Database, Transact, Transaction } from '../../platform/db.ts';
import type { Page, PageArguments } from '../../platform/page.ts';
import { authorise, type Viewer } from '../access/index.ts';
import {
  createDatasetSchema,
  datasetFilterSchema,
  orderOf,
  parseInput,
  resolveCoded,
  slugOf,
  updateDatasetSchema,
  type DatasetFilter,
  type DatasetOrderField,
  type DatasetOrder,
} from './datasets.rules.ts';
import type {
  DatasetFacetsRecord,
  DatasetFacts,
  DatasetLineageRecord,
  DatasetRecord,
  DatasetVersionRecord,
  OrganRecord,
  SealedVersionRecord,
  SlideRecord,
  StainRecord,
  ThumbnailRecord,
} from './datasets.records.ts';
import { createDatasetStore } from './datasets.store.ts';
import { changedFactFields, mergeFacts } from './facts.rules.ts';
import { slideFilterSchema } from './slides.rules.ts';
import { createSlideStore } from './slides.store.ts';
import { createVersionStore } from './versions.store.ts';
import { faultsOfContent, type SealedContent } from './versions.rules.ts';

export interface DatasetOrderInput {
  readonly field: DatasetOrderField;
  readonly direction?: DatasetOrder['direction'] | null | undefined;
}

export interface DatasetService {
  /**
   * The dataset with this id or slug; undefined when it does not exist. Throws BAD_INPUT when neither or both are
   * given.
   */
  get(
    viewer: Viewer,
    by: { readonly id?: string | null | undefined; readonly slug?: string | null | undefined },
  ): Promise<DatasetRecord | undefined>;
  /** Throws BAD_INPUT, also for unknown organs and stains, and CURSOR_INVALID. */
  list(
    viewer: Viewer,
    page: PageArguments,
    filter?: unknown,
    order?: DatasetOrderInput | null,
  ): Promise<Page<DatasetRecord>>;
  /** Counts under the filter; each facet ignores its own part of the filter. */
  facets(viewer: Viewer, filter?: unknown): Promise<DatasetFacetsRecord>;
  organs(viewer: Viewer): Promise<OrganRecord[]>;
  stains(viewer: Viewer): Promise<StainRecord[]>;
  /** Throws BAD_INPUT and SLUG_TAKEN. */
  create(viewer: Viewer, input: unknown): Promise<DatasetRecord>;
  /** Afterwards seeding no longer changes the row. Throws BAD_INPUT and DATASET_NOT_FOUND. */
  update(viewer: Viewer, input: unknown): Promise<DatasetRecord>;
  getVersion(viewer: Viewer, id: string): Promise<DatasetVersionRecord | undefined>;
  /** Newest first, drafts included. */
  versions(viewer: Viewer, datasetId: string, page: PageArguments): Promise<Page<DatasetVersionRecord>>;
  /** The slides of a version in the order of their paths. Throws BAD_INPUT and CURSOR_INVALID. */
  slides(viewer: Viewer, versionId: string, page: PageArguments, filter?: unknown): Promise<Page<SlideRecord>>;
  /** The slide at this position of a version, from 0. */
  slide(viewer: Viewer, versionId: string, position: number): Promise<SlideRecord | undefined>;
  /** Thumbnail `position`, from 0, of the latest sealed version. */
  thumbnailOf(viewer: Viewer, datasetId: string, position: number): Promise<ThumbnailRecord | undefined>;

  // Internal interface without a viewer, for launches and workers.

  /**
   * The versions with their shards, in the order of `ids`.
   * @param fieldOf the input field of the id at an index, for the error.
   * @throws DomainError DATASET_VERSION_NOT_FOUND or DATASET_VERSION_NOT_SEALED.
   */
  requireSealedVersions(ids: readonly string[], fieldOf?: (index: number) => string): Promise<SealedVersionRecord[]>;
  /** The latest sealed version of a dataset; undefined without one. */
  latestVersionOf(datasetId: string): Promise<DatasetVersionRecord | undefined>;
  /** For each dataset the latest sealed version with at least two labels, where it has one, in the order of `ids`. */
  labelledVersionsOf(datasetIds: readonly string[]): Promise<SealedVersionRecord[]>;
  /** The name of each version as shown to users: `slug@version`. */
  namesOf(versions: readonly DatasetVersionRecord[]): Promise<string[]>;
  /** The collections that each dataset was cut from, by dataset id. */
  lineagesOf(ids: readonly string[]): Promise<ReadonlyMap<string, DatasetLineageRecord>>;
  /** The next version of a dataset, as a DRAFT. Throws DATASET_NOT_FOUND. */
  createDraftVersion(
    tx: Transaction,
    draft: { readonly datasetId: string; readonly importRunId?: string | null; readonly patchSizePx?: number | null },
  ): Promise<DatasetVersionRecord>;
  /**
   * Seals a draft together with its artifacts, shards, thumbnails and slides. Throws DATASET_VERSION_NOT_FOUND,
   * CONFLICT for a sealed version, and an Error for inconsistent content.
   */
  sealVersion(tx: Transaction, content: SealedContent & { readonly versionId: string }): Promise<DatasetVersionRecord>;
  /** Deletes a draft; false when there is none. A sealed version is never deleted. */
  dropDraftVersion(tx: Transaction, versionId: string): Promise<boolean>;
}

export function createDatasetService({
  db,
  transact,
}: {
  readonly db: Database;
  readonly transact: Transact;
}): DatasetService {
  const store = createDatasetStore(db);
  const versions = createVersionStore(db);
  const slides = createSlideStore(db);

  /** The validated filter, with organs and stains as codes. */
  const filterOf = async (raw: unknown): Promise<DatasetFilter> => {
    const filter = parseInput(datasetFilterSchema, raw ?? {}, 'filter');
    return {
      ...filter,
      organs: await codesOf(filter.organs, store.organs, 'organ', 'filter.organs'),
      stains: await codesOf(filter.stains, store.stains, 'stain', 'filter.stains'),
    };
  };
  const organsOf = async (written: readonly string[] | undefined) =>
    written === undefined ? undefined : resolveCoded(written, await store.organs(), 'organ', 'input.organs');
  const stainsOf = async (written: readonly string[] | undefined) =>
    written === undefined ? undefined : resolveCoded(written, await store.stains(), 'stain', 'input.stains');

  const checkParents = async (parents: readonly string[] | undefined, ownSlug: string): Promise<void> => {
    if (parents === undefined || parents.length === 0) return;
    const known = await store.knownSlugs(parents);
    const wrong = parents.findIndex((slug) => !known.has(slug) || slug === ownSlug);
    if (wrong === -1) return;
    throw new DomainError({
      code: 'BAD_INPUT',
      message: `input.parentCollections.${wrong} "${parents[wrong]}" is not the slug of another dataset.`,
      field: `input.parentCollections.${wrong}`,
      hint: 'Name datasets of this registry by their slugs; the query datasets lists them.',
    });
  };

  return {
    get: async (viewer, { id, slug }) => {
      authorise(viewer, 'READER');
      const hasId = typeof id === 'string';
      if (hasId === (typeof slug === 'string')) {
        throw new DomainError({
          code: 'BAD_INPUT',
          message: 'Give either the id or the slug of the dataset.',
          field: hasId ? 'slug' : 'id',
          hint: 'dataset(slug: "bach"), for example.',
        });
      }
      if (hasId) return isId(id) ? store.find({ id }) : undefined;
      // PostgreSQL rejects a NUL character, and no slug contains one.
      return slug?.includes('\0') === false ? store.find({ slug }) : undefined;
    },
    list: async (viewer, page, rawFilter, rawOrder) => {
      authorise(viewer, 'READER');
      const filter = await filterOf(rawFilter);
      return store.list(page, filter, orderOf(rawOrder, filter));
    },
    facets: async (viewer, rawFilter) => {
      authorise(viewer, 'READER');
      return store.facets(await filterOf(rawFilter));
    },
    organs: async (viewer) => {
      authorise(viewer, 'READER');
      return store.organs();
    },
    stains: async (viewer) => {
      authorise(viewer, 'READER');
      return store.stains();
    },
    create: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const { slug: givenSlug, name, imageKind, synthetic, ...input } = parseInput(createDatasetSchema, raw, 'input');
      const slug = givenSlug ?? slugOf(name);
      await checkParents(input.parentCollections, slug);
      const facts: DatasetFacts = mergeFacts(undefined, {
        ...input,
        name,
        imageKind,
        synthetic,
        organs: await organsOf(input.organs),
        stains: await stainsOf(input.stains),
      });
      const created = await transact((tx) => store.create(tx, slug, facts));
      if (created !== undefined) return created;
      throw new DomainError({
        code: 'SLUG_TAKEN',
        message: `A dataset with the slug "${slug}" exists already.`,
        field: typeof givenSlug === 'string' ? 'input.slug' : 'input.name',
        hint: 'Give another slug, or change the existing dataset with updateDataset.',
      });
    },
    update: async (viewer, raw) => {
      authorise(viewer, 'CONTRIBUTOR');
      const { id, ...input } = parseInput(updateDatasetSchema, raw, 'input');
      const patch = { ...input, organs: await organsOf(input.organs), stains: await stainsOf(input.stains) };
      return transact(async (tx) => {
        const current = isId(id) ? await store.lock(tx, id) : undefined;
        if (current === undefined) throw datasetNotFound('input.id');
        await checkParents(input.parentCollections, current.slug);
        const facts = mergeFacts(current, patch);
        const updated = await store.update(tx, id, facts, changedFactFields(current, facts));
        if (updated === undefined) throw datasetNotFound('input.id');
        return updated;
      });
    },
    getVersion: async (viewer, id) => {
      authorise(viewer, 'READER');
      return isId(id) ? (await versions.findMany([id])).at(0) : undefined;
    },
    versions: async (viewer, datasetId, page) => {
      authorise(viewer, 'READER');
      return versions.list(datasetId, page);
    },
    slides: async (viewer, versionId, page, filter) => {
      authorise(viewer, 'READER');
      return slides.list(versionId, page, parseInput(slideFilterSchema, filter ?? {}, 'filter'));
    },
    slide: async (viewer, versionId, position) => {
      authorise(viewer, 'READER');
      return Number.isInteger(position) && position >= 0 ? slides.find(versionId, position) : undefined;
    },
    thumbnailOf: async (viewer, datasetId, position) => {
      authorise(viewer, 'READER');
      const isPossible = isId(datasetId) && Number.isInteger(position) && position >= 0 && position < 2 ** 31;
      return isPossible ? versions.findThumbnail(datasetId, position) : undefined;
    },
    requireSealedVersions: async (ids, fieldOf) => {
      const sealed = new Map((await versions.findSealed(ids.filter(isId))).map((version) => [version.id, version]));
      const missing = ids.findIndex((id) => !sealed.has(id.toLowerCase()));
      if (missing !== -1) {
        const field = fieldOf === undefined ? {} : { field: fieldOf(missing) };
        const id = ids[missing] ?? '';
        const isDraft = isId(id) && (await versions.findMany([id])).length === 1;
        throw isDraft
          ? new DomainError({
              code: 'DATASET_VERSION_NOT_SEALED',
              message: `Dataset version ${id} is not sealed yet.`,
              ...field,
              hint: 'Wait until its import run has succeeded.',
              retryable: true,
            })
          : new DomainError({
              code: 'DATASET_VERSION_NOT_FOUND',
              message: 'No dataset version has this id.',
              ...field,
              hint: 'Use an id from Dataset.versions, or create a version with importDatasetVersion.',
            });
      }
      return ids.flatMap((id) => sealed.get(id.toLowerCase()) ?? []);
    },
    latestVersionOf: async (datasetId) =>
      isId(datasetId) ? (await versions.findLatest([datasetId])).at(0) : undefined,
    labelledVersionsOf: async (datasetIds) => {
      const latest = await versions.latestLabelled(datasetIds);
      const sealed = new Map(
        (await versions.findSealed(latest.map(({ id }) => id))).map((each) => [each.datasetId, each]),
      );
      return [...new Set(datasetIds)].flatMap((id) => sealed.get(id) ?? []);
    },
    namesOf: async (named) => {
      const slugs = new Map(
        (await store.findMany(named.map(({ datasetId }) => datasetId))).map(({ id, slug }) => [id, slug]),
      );
      return named.map(({ datasetId, version }) => `${slugs.get(datasetId) ?? datasetId}@${version}`);
    },
    lineagesOf: (ids) => store.lineagesOf(ids),
    createDraftVersion: async (tx, { datasetId, importRunId = null, patchSizePx = null }) => {
      const draft = isId(datasetId)
        ? await versions.createDraft(tx, { datasetId, importRunId, patchSizePx })
        : undefined;
      if (draft === undefined) throw datasetNotFound('datasetId');
      return draft;
    },
    sealVersion: async (tx, { versionId, ...content }) => {
      const version = isId(versionId) ? await versions.lock(tx, versionId) : undefined;
      if (version === undefined)
        throw new DomainError({
          code: 'DATASET_VERSION_NOT_FOUND',
          message: 'No dataset version has this id.',
          field: 'versionId',
          hint: 'Make a draft first.',
        });
      if (version.status !== 'DRAFT')
        throw new DomainError({
          code: 'CONFLICT',
          message: `Dataset version ${versionId} is sealed and cannot be changed.`,
          field: 'versionId',
          hint: 'Import into a new version.',
        });
      const faults = faultsOfContent(content);
      if (faults.length > 0) throw new Error(`Dataset version ${versionId} cannot be sealed. ${faults.join(' ')}`);
      return versions.seal(tx, versionId, content);
    },
    dropDraftVersion: async (tx, versionId) => isId(versionId) && (await versions.dropDraft(tx, versionId)),
  };
}

async function codesOf(
  written: readonly string[] | null | undefined,
  known: () => Promise<OrganRecord[]>,
  noun: string,
  field: string,
): Promise<string[]> {
  if (written === null || written === undefined || written.length === 0) return [];
  return resolveCoded(written, await known(), noun, field).map((each) => each.code);
}

function datasetNotFound(field: string): DomainError {
  return new DomainError({
    code: 'DATASET_NOT_FOUND',
    message: 'No dataset has this id.',
    field,
    hint: 'Find the id with the query `datasets`, or create a dataset with createDataset.',
  });
}
