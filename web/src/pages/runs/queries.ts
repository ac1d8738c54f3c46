/** GraphQL queries of the pages of runs. */
import { graphql, type ResultOf } from '../../api/graphql.ts';

export const RUNS = graphql(`
  query Runs($filter: RunFilter, $first: Int, $after: String) {
    runs(filter: $filter, first: $first, after: $after) {
      pageInfo {
        hasNextPage
        endCursor
      }
      nodes {
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
    }
  }
`);
export type RunRow = ResultOf<typeof RUNS>['runs']['nodes'][number];

export const ACTIVE_RUNS = graphql(`
  query ActiveRuns($first: Int) {
    running: runs(filter: { statuses: [RUNNING, CANCELING] }, first: $first) {
      nodes {
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
    }
    waiting: runs(filter: { statuses: [QUEUED] }, first: $first) {
      totalCount
      nodes {
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
    }
  }
`);

export const RUN = graphql(`
  query Run($id: ID!) {
    run(id: $id) {
      id
      kind
      status
      progress
      attempt
      eventCount
      queuePosition
      title
      config
      explanation
      environment
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
        issueListUrl
        issues {
          kind
          count
          kept
          meaning
          examples
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
          name
          value
          ci95Low
          ci95High
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
`);
export type RunDetail = NonNullable<ResultOf<typeof RUN>['run']>;

export const CANCEL_RUN = graphql(`
  mutation CancelRun($id: ID!) {
    cancelRun(id: $id) {
      run {
        id
        status
      }
      userErrors {
        code
        field
        message
        hint
      }
    }
  }
`);

export const REGISTER_STATE = graphql(`
  mutation RegisterTrainingState($input: RegisterTrainingStateInput!) {
    registerTrainingState(input: $input) {
      checkpoint {
        id
      }
      userErrors {
        code
        field
        message
        hint
      }
    }
  }
`);

export const RESUME_RUN = graphql(`
  mutation ResumeRun($id: ID!) {
    resumeRun(id: $id) {
      run {
        id
        status
      }
      userErrors {
        code
        field
        message
        hint
      }
    }
  }
`);
