/** GraphQL fragments that several pages share, so that they show metrics and user errors in the same way. */
import { graphql } from './graphql.ts';

export const USER_ERROR_FIELDS = graphql(`
  fragment UserErrorFields on UserError {
    code
    field
    message
    hint
  }
`);

export const METRIC_FIELDS = graphql(`
  fragment MetricFields on EvaluationMetric {
    name
    value
    ci95Low
    ci95High
  }
`);

export const BASELINE_FIELDS = graphql(
  `
    fragment BaselineFields on EvaluationBaseline {
      kind
      metrics {
        ...MetricFields
      }
      differences {
        ...MetricFields
      }
    }
  `,
  [METRIC_FIELDS],
);

export const CURVE_POINT_FIELDS = graphql(`
  fragment CurvePointFields on LearningCurvePoint {
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
`);

export const LEAKAGE_FIELDS = graphql(`
  fragment LeakageFields on Leakage {
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
`);

export const IMPORT_ISSUE_FIELDS = graphql(`
  fragment ImportIssueFields on ImportIssue {
    kind
    count
    kept
    meaning
    examples
  }
`);

/** What the contact sheet and the page of a slide both show. */
export const SLIDE_FIELDS = graphql(`
  fragment SlideFields on Slide {
    position
    path
    status
    reason
    label
    patchCount
    tissueFraction
    penFraction
    thumbnailUrl
    tissueMaskUrl
  }
`);
