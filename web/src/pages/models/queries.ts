/** GraphQL queries of the pages of models. */
import { BASELINE_FIELDS, CURVE_POINT_FIELDS, LEAKAGE_FIELDS, METRIC_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const MODELS = graphql(`
  query Models($filter: ModelFilter, $first: Int, $after: String) {
    models(filter: $filter, first: $first, after: $after) {
      totalCount
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
        id
        slug
        name
        description
        licence
        createdAt
        aliases {
          name
          checkpoint {
            version
          }
        }
        checkpoints(first: 1) {
          totalCount
          nodes {
            id
            version
            encoder
            architecture {
              name
            }
            sha256
            publishedSlug
            isTrainingKnown
            trainedOn {
              dataset {
                name
                synthetic
              }
            }
          }
        }
      }
    }
  }
`);
export type ModelRow = ResultOf<typeof MODELS>['models']['nodes'][number];

export const MODEL = graphql(`
  query Model($slug: String!) {
    model(slug: $slug) {
      id
      slug
      name
      description
      licence
      createdAt
      aliases {
        name
        checkpoint {
          id
          version
        }
      }
      checkpoints(first: 50) {
        totalCount
        nodes {
          id
          version
          trainedOn {
            dataset {
              synthetic
            }
          }
        }
      }
    }
  }
`);
export type ModelDetail = NonNullable<ResultOf<typeof MODEL>['model']>;

/** Queried for one version only: fifty versions with their evaluations would exceed the limit of one request. */
export const CHECKPOINT = graphql(
  `
    query Checkpoint($id: ID!) {
      checkpoint(id: $id) {
        id
        version
        encoder
        architecture {
          name
        }
        embeddingDim
        step
        epoch
        probe {
          sentence
          overlap
          advice
          overRandomEncoder {
            verdict
          }
        }
        sha256
        byteSize
        precision {
          sentence
        }
        formats
        publishedSlug
        createdAt
        cardUrl
        inputContract {
          imageSizePx
          resizeRule
          interpolation
          pooling
          channelOrder
          valueRange
          channelMean
          channelStd
          embeddingLayer
          micronsPerPixelMin
          micronsPerPixelMax
        }
        importedFrom {
          url
          fileName
          byteSize
          sha256
          licence
          accessUrl
          contents {
            format
            keyPrefix
            inertGlobals
            ignoredParts
          }
        }
        exports {
          format
          status
          maxRelativeDifference
          reason
        }
        trainingFacts {
          name
          value
          evidence
          sources
        }
        isTrainingKnown
        sameWeights {
          id
          version
          model {
            slug
            name
          }
        }
        trainedOn {
          id
          version
          imageCount
          dataset {
            slug
            name
            synthetic
          }
        }
        sourceRun {
          id
          config
          finishedAt
        }
        evaluations(first: 50) {
          nodes {
            id
            protocol
            metrics {
              ...MetricFields
            }
            groupsKnown
            intervalCaveat
            unbeatenBaselines
            learningCurve {
              ...CurvePointFields
            }
            leakage {
              ...LeakageFields
            }
            baselines {
              ...BaselineFields
            }
            datasetVersion {
              id
              version
              dataset {
                slug
                name
                synthetic
              }
            }
          }
        }
      }
    }
  `,
  [METRIC_FIELDS, CURVE_POINT_FIELDS, LEAKAGE_FIELDS, BASELINE_FIELDS],
);
export type CheckpointDetail = NonNullable<ResultOf<typeof CHECKPOINT>['checkpoint']>;

/** Queried separately, because an image is large. */
export const GOLDEN = graphql(`
  query Golden($id: ID!) {
    checkpoint(id: $id) {
      golden
      inputContract {
        imageSizePx
      }
    }
  }
`);
