/** GraphQL queries of the pages of evaluations and the leaderboard. */
import { BASELINE_FIELDS, CURVE_POINT_FIELDS, LEAKAGE_FIELDS, METRIC_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const EVALUATION = graphql(
  `
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
          architecture {
            name
          }
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
          ungroupedImageCount
          dataset {
            slug
            name
            synthetic
          }
        }
        metrics {
          ...MetricFields
        }
        baselines {
          ...BaselineFields
          learningCurve {
            ...CurvePointFields
          }
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
  `,
  [METRIC_FIELDS, BASELINE_FIELDS, CURVE_POINT_FIELDS, LEAKAGE_FIELDS],
);
export type EvaluationDetail = NonNullable<ResultOf<typeof EVALUATION>['evaluation']>;
export type Metric = EvaluationDetail['metrics'][number];
/** The fields that a table of metrics shows. */
export type Baseline = Pick<EvaluationDetail['baselines'][number], 'kind' | 'metrics'> & {
  readonly differences?: readonly Metric[];
};

export const LEADERBOARD = graphql(
  `
    query Leaderboard($datasetVersionId: ID!, $protocol: EvaluationProtocol!) {
      leaderboard(datasetVersionId: $datasetVersionId, protocol: $protocol) {
        rank
        overlapsPretraining
        metric {
          ...MetricFields
        }
        checkpoint {
          id
          version
          encoder
          architecture {
            name
          }
          model {
            slug
            name
          }
        }
        evaluation {
          id
          groupsKnown
          intervalCaveat
          unbeatenBaselines
          caveats {
            kind
            count
            meaning
          }
          metrics {
            ...MetricFields
          }
          baselines {
            kind
            metrics {
              ...MetricFields
            }
          }
        }
      }
    }
  `,
  [METRIC_FIELDS],
);
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
