/** GraphQL queries of the pages of models, evaluations and the leaderboard. */
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
export const CHECKPOINT = graphql(`
  query Checkpoint($id: ID!) {
    checkpoint(id: $id) {
      id
      version
      encoder
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
      formats
      publishedSlug
      createdAt
      cardUrl
      inputContract {
        imageSizePx
        resizeRule
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
            name
            value
            ci95Low
            ci95High
          }
          unbeatenBaselines
          learningCurve {
            labelFraction
            shotsPerClass
            trainImageCount
            metrics {
              name
              value
              ci95Low
              ci95High
            }
          }
          leakage {
            isComplete
            isUpperBound
            testImageCount
            exactImageCount
            nearDuplicateImageCount
            testGroupCount
            sharedGroupCount
            sharedDatasets
            sharedCollections
          }
          baselines {
            kind
            metrics {
              name
              value
              ci95Low
              ci95High
            }
            differences {
              name
              value
              ci95Low
              ci95High
            }
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
`);
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

export const EVALUATION = graphql(`
  query Evaluation($id: ID!) {
    evaluation(id: $id) {
      id
      protocol
      seed
      split
      createdAt
      run {
        id
      }
      checkpoint {
        id
        version
        encoder
        model {
          slug
          name
        }
      }
      datasetVersion {
        id
        version
        imageCount
        groupCount
        dataset {
          slug
          name
          synthetic
        }
      }
      metrics {
        name
        value
        ci95Low
        ci95High
      }
      baselines {
        kind
        metrics {
          name
          value
          ci95Low
          ci95High
        }
        differences {
          name
          value
          ci95Low
          ci95High
        }
        learningCurve {
          labelFraction
          shotsPerClass
          trainImageCount
          metrics {
            name
            value
            ci95Low
            ci95High
          }
        }
      }
      unbeatenBaselines
      learningCurve {
        labelFraction
        shotsPerClass
        trainImageCount
        metrics {
          name
          value
          ci95Low
          ci95High
        }
      }
      leakage {
        isComplete
        isUpperBound
        testImageCount
        exactImageCount
        nearDuplicateImageCount
        testGroupCount
        sharedGroupCount
        sharedDatasets
        sharedCollections
      }
      caveats {
        kind
        count
        meaning
      }
      confusionMatrix {
        labelNames
        counts
      }
      perClass {
        label
        precision
        recall
        f1Score
        support
      }
    }
  }
`);
export type EvaluationDetail = NonNullable<ResultOf<typeof EVALUATION>['evaluation']>;
export type Metric = EvaluationDetail['metrics'][number];
/** The fields that a table of metrics shows. */
export type Baseline = Pick<EvaluationDetail['baselines'][number], 'kind' | 'metrics'> & {
  readonly differences?: readonly Metric[];
};

export const LEADERBOARD = graphql(`
  query Leaderboard($datasetVersionId: ID!, $protocol: EvaluationProtocol!) {
    leaderboard(datasetVersionId: $datasetVersionId, protocol: $protocol) {
      rank
      overlapsPretraining
      metric {
        name
        value
        ci95Low
        ci95High
      }
      checkpoint {
        id
        version
        encoder
        model {
          slug
          name
        }
      }
      evaluation {
        id
        unbeatenBaselines
        caveats {
          kind
          count
          meaning
        }
        metrics {
          name
          value
          ci95Low
          ci95High
        }
        baselines {
          kind
          metrics {
            name
            value
            ci95Low
            ci95High
          }
        }
      }
    }
  }
`);
export type LeaderboardRow = ResultOf<typeof LEADERBOARD>['leaderboard'][number];

/** The latest sealed version of each dataset, for the selection, and the newest evaluation. */
export const LABELLED_VERSIONS = graphql(`
  query LabelledVersions {
    datasets(filter: { hasVersions: true }, first: 200) {
      nodes {
        slug
        name
        synthetic
        latestVersion {
          id
          labelNames
        }
      }
    }
    evaluations(first: 1) {
      nodes {
        protocol
        datasetVersion {
          id
        }
      }
    }
  }
`);

/** The version that a leaderboard is of, with its dataset's other versions, and how it was evaluated last. */
export const LEADERBOARD_VERSION = graphql(`
  query LeaderboardVersion($id: ID!) {
    node(id: $id) {
      __typename
      ... on DatasetVersion {
        id
        version
        dataset {
          id
          slug
          name
          synthetic
          versions(first: 200) {
            nodes {
              id
              version
              status
              imageCount
            }
          }
        }
      }
    }
    evaluations(filter: { datasetVersionId: $id }, first: 1) {
      nodes {
        protocol
        datasetVersion {
          id
        }
      }
    }
  }
`);
export type LeaderboardVersion = Extract<
  NonNullable<ResultOf<typeof LEADERBOARD_VERSION>['node']>,
  { __typename: 'DatasetVersion' }
>;

/** Other evaluations of a dataset. */
export const DATASET_EVALUATIONS = graphql(`
  query DatasetEvaluations($datasetId: ID!) {
    evaluations(filter: { datasetId: $datasetId }, first: 50) {
      nodes {
        id
        protocol
        datasetVersion {
          id
          version
        }
      }
    }
  }
`);
