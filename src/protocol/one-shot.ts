/** How `paraffin worker --once` ends: its exit codes, which launchers and their administrators rely on. */
export const ONE_SHOT_EXIT = {
  /** The run SUCCEEDED. */
  SUCCEEDED: 0,
  /** The run FAILED or was CANCELED; the run says why. */
  RUN_NOT_SUCCEEDED: 4,
  /** The run is queued again and continues from its last kept state, after a stop or a failure that may pass. */
  REQUEUED: 5,
  /** The worker did not take the run; one sentence on standard error says why. */
  NOT_TAKEN: 6,
} as const;
