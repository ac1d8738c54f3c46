/** GraphQL queries of the pages of runs. */
import { IMPORT_ISSUE_FIELDS, METRIC_FIELDS, USER_ERROR_FIELDS } from '../../api/fragments.ts';
import { graphql, type ResultOf } from '../../api/graphql.ts';

const RUN_ROW_FIELDS = graphql(`
  fragment RunRowFields on Run {
    id
    kind
    status
    progress
    queuePosition
    title
    queuedAt
    startedAt
    finishedAt
    failure {
      message
    }
  }
`);

export const RUNS = graphql(
  `
    query Runs($filter: RunFilter, $first: Int, $after: String) {
      runs(filter: $filter, first: $first, after: $after) {
        pageInfo {
          hasNextPage
          endCursor
        }
        nodes {
          ...RunRowFields
        }
      }
    }
  `,
  [RUN_ROW_FIELDS],
);
export type RunRow = ResultOf<typeof RUNS>['runs']['nodes'][number];

export const ACTIVE_RUNS = graphql(
  `
    query ActiveRuns($first: Int) {
      running: runs(filter: { statuses: [RUNNING, CANCELING] }, first: $first) {
        nodes {
          ...RunRowFields
        }
      }
      waiting: runs(filter: { statuses: [QUEUED] }, first: $first) {
        totalCount
        nodes {
          ...RunRowFields
        }
      }
    }
  `,
  [RUN_ROW_FIELDS],
);

export const RUN = graphql(
  `
    query Run($id: ID!) {
      run(id: $id) {
        id
        kind
        status
        progress
        attempt
        eventCount
        queuePosition
        obstacle
        requirements {
          sentence
        }
        title
        config
        explanation
        environment
        watchedSeries {
          name
          title
          meaning
          level {
            value
            label
          }
        }
        placements {
          id
          attempt
          launcher
          externalId
          state
          sentence
          submittedAt
          startedAt
          endedAt
        }
        queuedAt
        startedAt
        finishedAt
        failure {
          class
          code
          message
          hint
        }
        datasetVersion {
          id
          version
          imageCount
          dataset {
            slug
            name
          }
        }
        importReport {
          isDryRun
          imagesChecked
          fileCount
          imageCount
          groupCount
          ungroupedImageCount
          labelCounts {
            label
            count
          }
          splitCounts {
            split
            count
          }
          assignments {
            folder
            label
            split
            fileCount
          }
          assignmentCount
          passedOver {
            reason
            count
            examples
          }
          notes
          groupSuggestions {
            groupLevel
            csvColumn
            groupCount
            examples
          }
          issueListUrl
          issues {
            ...ImportIssueFields
          }
          questions
        }
        checkpoints {
          id
          version
          step
          probe {
            sentence
            overlap
            advice
            overRandomEncoder {
              verdict
            }
          }
          model {
            slug
            name
          }
        }
        trainingStates {
          step
          keptAt
          isBest
          probe {
            ridgeMacroF1
          }
          checkpoint {
            version
            model {
              slug
              name
            }
          }
        }
        evaluation {
          id
          protocol
          metrics {
            ...MetricFields
          }
        }
        metrics {
          name
          unit
          points {
            step
            value
          }
        }
      }
    }
  `,
  [IMPORT_ISSUE_FIELDS, METRIC_FIELDS],
);
export type RunDetail = NonNullable<ResultOf<typeof RUN>['run']>;

export const CANCEL_RUN = graphql(
  `
    mutation CancelRun($id: ID!) {
      cancelRun(id: $id) {
        run {
          id
          status
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

export const REGISTER_STATE = graphql(
  `
    mutation RegisterTrainingState($input: RegisterTrainingStateInput!) {
      registerTrainingState(input: $input) {
        checkpoint {
          id
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

export const RESUME_RUN = graphql(
  `
    mutation ResumeRun($id: ID!) {
      resumeRun(id: $id) {
        run {
          id
          status
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);
