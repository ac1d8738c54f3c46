/** GraphQL queries of the page of a slide. */
import { SLIDE_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const SLIDE = graphql(
  `
    query Slide($versionId: ID!, $position: Int!) {
      node(id: $versionId) {
        ... on DatasetVersion {
          id
          version
          labelNames
          dataset {
            id
            slug
            name
          }
          slide(position: $position) {
            ...SlideFields
            fileDigest
            fileByteSize
            group
            split
            vendor
            width
            height
            micronsPerPixel {
              x
              y
              source
              property
            }
            objective
            tilesUrl
          }
        }
      }
    }
  `,
  [SLIDE_FIELDS],
);
type Version = Extract<NonNullable<ResultOf<typeof SLIDE>['node']>, { slide: unknown }>;
export type SlideVersion = Version;
export type SlideDetail = NonNullable<Version['slide']>;

/** Apart, because it reads the manifest. */
export const SLIDE_PATCHES = graphql(`
  query SlidePatches($versionId: ID!, $position: Int!) {
    node(id: $versionId) {
      ... on DatasetVersion {
        slidePatches(position: $position) {
          firstRow
          width
          height
          x
          y
          labelNames
          labels
        }
      }
    }
  }
`);
type VersionWithPatches = Extract<NonNullable<ResultOf<typeof SLIDE_PATCHES>['node']>, { slidePatches: unknown }>;
export type SlidePatches = NonNullable<VersionWithPatches['slidePatches']>;

/** The evaluations and embeddings by which the patches of a version can be coloured, newest first. */
export const SLIDE_COLOUR_SOURCES = graphql(`
  query SlideColourSources($versionId: ID!) {
    evaluations(first: 100, filter: { datasetVersionId: $versionId }) {
      nodes {
        id
        protocol
        predictionsUrl
        createdAt
        checkpoint {
          version
          model {
            slug
          }
        }
      }
    }
    node(id: $versionId) {
      ... on DatasetVersion {
        embeddings {
          id
          source
          checkpoint {
            version
            model {
              slug
            }
          }
        }
      }
    }
  }
`);
export type ColourSources = ResultOf<typeof SLIDE_COLOUR_SOURCES>;

export const SLIDE_PREDICTIONS = graphql(`
  query SlidePredictions($id: ID!, $position: Int!, $label: String) {
    evaluation(id: $id) {
      slidePredictions(position: $position, label: $label) {
        labelNames
        label
        predicted
        scores
      }
    }
  }
`);

export const SLIDE_SIMILARITY = graphql(`
  query SlideSimilarity($versionId: ID!, $position: Int!, $patch: Int!, $embeddingSetId: ID!) {
    node(id: $versionId) {
      ... on DatasetVersion {
        slideSimilarity(position: $position, patch: $patch, embeddingSetId: $embeddingSetId)
      }
    }
  }
`);
