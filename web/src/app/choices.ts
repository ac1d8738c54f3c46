/**
 * Values that a URL may select. They are in a separate file because pages and router both need them, and a page never
 * imports the router.
 */

export const DATASET_ORDERS = ['NAME', 'IMAGE_COUNT', 'PUBLISHED_YEAR', 'CREATED_AT', 'RELEVANCE'] as const;
export const PROTOCOLS = ['LINEAR_PROBE', 'KNN', 'FINE_TUNE', 'REGRESSION'] as const;
export const LAUNCHES = [
  'launchPretraining',
  'launchEvaluation',
  'launchEmbedding',
  'importDatasetVersion',
  'createDataset',
  'importCheckpoint',
] as const;
/** By what the patches on the page of a slide are coloured. */
export const COLOURINGS = ['label', 'prediction', 'score', 'similarity'] as const;
export const AUDIT_OUTCOMES = ['DONE', 'REJECTED', 'DENIED', 'FAILED'] as const;
