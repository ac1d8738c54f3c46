/** The values of the API's enums that describe a dataset, as options of commands: a missing one is a type error. */
import type { graphql } from './graphql.ts';

type ImageKind = ReturnType<typeof graphql.scalar<'ImageKind'>>;
type Task = ReturnType<typeof graphql.scalar<'TaskKind'>>;

export const IMAGE_KINDS: Readonly<Record<ImageKind, true>> = {
  PATCH: true,
  ROI: true,
  TMA: true,
  WSI: true,
};

export const TASKS: Readonly<Record<Task, true>> = {
  CLASSIFICATION: true,
  SEGMENTATION: true,
  DETECTION: true,
  REGRESSION: true,
  REGISTRATION: true,
  RETRIEVAL: true,
  SURVIVAL: true,
};
