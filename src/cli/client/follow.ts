/** Watches a run to its end, with a progress line. */
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { createStatusLine, progressBar } from '../terminal.ts';
import type { ClientOptions, Registry, RunEvent } from './connection.ts';
import {
  BASELINE_FIELDS,
  CURVE_POINT_FIELDS,
  IMPORT_ISSUE_FIELDS,
  LEAKAGE_FIELDS,
  METRIC_FIELDS,
} from './fragments.ts';
import { graphql, type ResultOf } from './graphql.ts';
import { detachOnInterrupt } from './interruption.ts';
import { formatDuration } from './output.ts';

const RUN_OUTCOME = graphql(
  `
    query RunOutcome($id: ID!) {
      run(id: $id) {
        id
        kind
        status
        startedAt
        finishedAt
        config
        explanation
        failure {
          class
          code
          message
          hint
        }
        datasetVersion {
          id
          version
          digest
          imageCount
          groupCount
          ungroupedImageCount
          labelCounts {
            label
            count
          }
          issues {
            kind
            count
            kept
          }
          dataset {
            slug
          }
        }
        importReport {
          isDryRun
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
            ridgeMacroF1
            sentence
            overlap
            advice
          }
          sha256
          byteSize
          model {
            slug
          }
        }
        evaluation {
          id
          caveats {
            kind
            count
            meaning
          }
          protocol
          groupsKnown
          intervalCaveat
          metrics {
            ...MetricFields
          }
          baselines {
            ...BaselineFields
          }
          unbeatenBaselines
          leakage {
            ...LeakageFields
          }
          learningCurve {
            ...CurvePointFields
          }
        }
        metrics(names: ["loss", "imagesPerSecond"], maxPoints: 10) {
          name
          points {
            step
            value
          }
        }
      }
    }
  `,
  [IMPORT_ISSUE_FIELDS, METRIC_FIELDS, BASELINE_FIELDS, LEAKAGE_FIELDS, CURVE_POINT_FIELDS],
);

export type RunOutcome = NonNullable<ResultOf<typeof RUN_OUTCOME>['run']>;

/**
 * Follows a run to its end. Ctrl-C does not stop the run, and prints how to follow it again.
 * @throws CommandFailure RUN_NOT_SUCCEEDED with the message of the run's failure.
 */
export async function awaitRun(registry: Registry, options: ClientOptions, runId: string): Promise<RunOutcome> {
  const line = createStatusLine(process.stderr);
  using _left = detachOnInterrupt(runId, line);
  const progress = describeProgress();
  for await (const event of registry.follow(runId, 0)) {
    const words = progress(event);
    if (options.quiet !== true) line.show(words);
  }
  line.end();
  const { run } = await registry.ask(RUN_OUTCOME, { id: runId });
  if (run === null) throw new CommandFailure({ message: `Run ${runId} no longer exists.` });
  requireSuccess(run);
  return run;
}

/** What to say of a run that no living worker can take. */
export function waitingNote({ obstacle }: { readonly obstacle: string | null }): readonly string[] {
  return obstacle === null ? [] : [`No living worker can take this run: ${obstacle}.`];
}

/** @throws CommandFailure RUN_NOT_SUCCEEDED. */
export function requireSuccess({ id, status, failure }: Pick<RunOutcome, 'id' | 'status' | 'failure'>): void {
  if (status === 'SUCCEEDED') return;
  throw new CommandFailure({
    exitCode: EXIT.RUN_NOT_SUCCEEDED,
    message:
      failure === null
        ? `Run ${id} ended as ${status}.`
        : `Run ${id} ended as ${status}: ${failure.code} (${failure.class}): ${failure.message}`,
    hint: failure?.hint,
  });
}

/** Text for each event of one run: progress, loss, speed and remaining time. */
export function describeProgress(): (event: RunEvent) => string {
  let progress = 0;
  let message = '';
  let metrics: ReadonlyMap<string, number> = new Map();
  let begun: { readonly atMs: number; readonly progress: number } | undefined;
  return (event) => {
    progress = event.progress ?? progress;
    message = event.message ?? message;
    if (event.metrics !== null) metrics = numbersOf(event.metrics);
    const atMs = Date.parse(event.at);
    // An attempt that resumes from a kept state starts at the step of that state.
    if (event.kind === 'STARTED' || begun === undefined) begun = { atMs, progress };
    const done = progress - begun.progress;
    const secondsLeft = done > 0 && progress < 1 ? ((atMs - begun.atMs) / 1000 / done) * (1 - progress) : undefined;
    const loss = metrics.get('loss');
    const rate = metrics.get('imagesPerSecond');
    return [
      `${progressBar(progress)} ${String(Math.round(progress * 100)).padStart(3)} %`,
      ...(loss === undefined ? [message] : [`step ${metrics.get('step') ?? 0}`, `loss ${loss.toFixed(3)}`]),
      ...(rate === undefined ? [] : [`${rate.toFixed(1)} images/s`]),
      ...(secondsLeft === undefined ? [] : [`${formatDuration(secondsLeft)} left`]),
    ]
      .join('  ')
      .trimEnd();
  };
}

export function numbersOf(metrics: unknown): ReadonlyMap<string, number> {
  const entries: readonly (readonly [string, unknown])[] =
    typeof metrics === 'object' && metrics !== null ? Object.entries(metrics) : [];
  return new Map(entries.flatMap(([name, value]) => (typeof value === 'number' ? [[name, value] as const] : [])));
}
