/** `paraffin runs`: running and queued runs, and results. */
import { styleText } from 'node:util';
import type { Command } from '@commander-js/extra-typings';
import { group, listOf, namesOf, oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure } from '../exit-codes.ts';
import { table } from '../terminal.ts';
import { clientCommand, connect, granted, type RunEvent } from './connection.ts';
import { awaitRun, numbersOf, requireSuccess } from './follow.ts';
import { METRIC_FIELDS, USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { detachOnInterrupt } from './interruption.ts';
import { formatDuration, facts, interval, intervalNotes, paint, paintStatus, printNote, show } from './output.ts';

const LIST = graphql(`
  query ListRuns($filter: RunFilter, $first: Int) {
    runs(filter: $filter, first: $first) {
      pageInfo {
        hasNextPage
      }
      nodes {
        id
        kind
        title
        status
        progress
        queuePosition
        obstacle
        launchedBy
        queuedAt
        startedAt
        finishedAt
        failure {
          class
          code
        }
      }
    }
  }
`);
type RunFilter = NonNullable<VariablesOf<typeof LIST>['filter']>;

const SHOW = graphql(
  `
    query ShowRun($id: ID!) {
      run(id: $id) {
        id
        kind
        title
        status
        progress
        attempt
        queuePosition
        obstacle
        requirements {
          sentence
          device
          bfloat16
          memoryMiB
          gpuMemoryMiB
          labels
        }
        launchedBy
        deviceId
        config
        environment
        queuedAt
        startedAt
        finishedAt
        eventCount
        placements {
          attempt
          launcher
          name
          externalId
          state
          schedulerState
          reason
          position
          sentence
          submittedAt
          startedAt
          endedAt
        }
        failure {
          class
          code
          message
          hint
        }
        metrics(maxPoints: 10) {
          name
          unit
          points {
            step
            value
          }
        }
        datasetVersion {
          id
          version
          imageCount
          dataset {
            slug
          }
        }
        checkpoints {
          id
          version
          model {
            slug
          }
        }
        evaluation {
          id
          protocol
          groupsKnown
          intervalCaveat
          metrics {
            ...MetricFields
          }
        }
      }
    }
  `,
  [METRIC_FIELDS],
);

const CANCEL = graphql(
  `
    mutation CancelRunByHand($id: ID!) {
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
const RESUME = graphql(
  `
    mutation ResumeRunByHand($id: ID!) {
      resumeRun(id: $id) {
        run {
          id
          status
          queuePosition
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

const KINDS: Readonly<Record<NonNullable<RunFilter['kinds']>[number], true>> = {
  IMPORT: true,
  PRETRAINING: true,
  EVALUATION: true,
  EXPORT: true,
  EMBEDDING: true,
};
const STATUSES: Readonly<Record<NonNullable<RunFilter['statuses']>[number], true>> = {
  QUEUED: true,
  RUNNING: true,
  CANCELING: true,
  SUCCEEDED: true,
  FAILED: true,
  CANCELED: true,
};

const listCommand = clientCommand('ls', {
  summary: 'newest first',
  examples: ['runs ls', 'runs ls --status queued,running', 'runs ls --kind pretraining -n 5 --json'],
})
  .option('--kind <kinds>', namesOf(KINDS).join(', '), listOf(oneOf(KINDS)))
  .option('--status <statuses>', namesOf(STATUSES).join(', '), listOf(oneOf(STATUSES)))
  .option('-n, --limit <count>', 'show at most this number, up to 200', wholeNumberFrom(1), 20)
  .action(async ({ kind, status, limit, ...options }) => {
    const registry = await connect(options);
    const { runs } = await registry.ask(LIST, {
      filter: {
        ...(kind === undefined ? {} : { kinds: [...kind] }),
        ...(status === undefined ? {} : { statuses: [...status] }),
      },
      first: Math.min(limit, 200),
    });
    const rows = runs.nodes.map((run) => [
      run.id,
      run.kind.toLowerCase(),
      paintStatus(run.status),
      run.status === 'QUEUED' ? `waits, ${run.queuePosition ?? '?'}.` : `${Math.round(run.progress * 100)} %`,
      run.startedAt === null
        ? ''
        : formatDuration((Date.parse(run.finishedAt ?? new Date().toISOString()) - Date.parse(run.startedAt)) / 1000),
      run.title,
      run.launchedBy ?? '',
      run.failure?.code ?? run.obstacle ?? '',
    ]);
    show(options, {
      data: runs.nodes,
      names: runs.nodes.map((run) => run.id),
      text:
        rows.length > 0
          ? table(['run', 'kind', 'status', 'progress', 'time', 'what', 'by', 'failure, or why it cannot begin'], rows)
          : kind === undefined && status === undefined
            ? 'There are no runs yet.'
            : 'No run matches.',
    });
    if (runs.pageInfo.hasNextPage) printNote(options, 'There are more runs; --limit shows them.');
  });

const showCommand = clientCommand('show', {
  summary: 'show one run: status, failure, metrics and results',
  examples: ['runs show 0198a7c2-…', 'runs show 0198a7c2-… --json'],
})
  .argument('<run>', 'id')
  .action(async (id, options) => {
    const registry = await connect(options);
    const { run } = await registry.ask(SHOW, { id });
    if (run === null) throw noRun(id);
    const { failure, evaluation } = run;
    const text = [
      `${paint('bold', `${run.kind.toLowerCase()} ${run.title}`)} ${paintStatus(run.status)} ${Math.round(run.progress * 100)} %`,
      facts([
        ['id', run.id],
        ['attempt', run.attempt],
        ['place in the queue', run.queuePosition],
        ['needs', run.requirements.sentence],
        ['no worker can take it', run.obstacle],
        ['on the cluster', run.placements[0]?.sentence],
        ['earlier jobs', run.placements.slice(1).map(earlierJob).join('; ') || null],
        ['launched by', run.launchedBy],
        ['device', run.deviceId],
        ['queued', run.queuedAt],
        ['started', run.startedAt],
        ['finished', run.finishedAt],
        ['config', JSON.stringify(run.config)],
      ]),
      ...(failure === null
        ? []
        : [
            paint('red', `${failure.code} (${failure.class}): ${failure.message}`),
            ...(failure.hint === null ? [] : [failure.hint]),
          ]),
      ...run.metrics.map(
        ({ name, unit, points }) =>
          `${name}: ${points.map((point) => point.value.toPrecision(4)).join(' ')}${unit === null ? '' : ` ${unit}`}`,
      ),
      ...(run.datasetVersion === null
        ? []
        : [
            `made ${run.datasetVersion.dataset.slug}@${run.datasetVersion.version}, ${run.datasetVersion.imageCount} images (${run.datasetVersion.id})`,
          ]),
      ...run.checkpoints.map(
        ({ id: checkpointId, version, model }) => `made checkpoint ${model.slug}@${version} (${checkpointId})`,
      ),
      ...(evaluation === null
        ? []
        : [
            `evaluation ${evaluation.id}: ${evaluation.metrics.map((metric) => `${metric.name} ${interval(metric, evaluation)}`).join(', ')}`,
            ...intervalNotes([evaluation]),
          ]),
    ].join('\n');
    show(options, { data: run, names: [run.id], text });
  });

function earlierJob({ sentence, endedAt }: { readonly sentence: string; readonly endedAt: string | null }): string {
  return endedAt === null ? sentence : `${sentence} at ${endedAt}`;
}

const logsCommand = clientCommand('logs', {
  summary: 'show the events of a run',
  details:
    'Prints the events of a run; with -f it continues until the run has ended. The run continues after Ctrl-C. The exit code does not depend on the status of the run; use "runs wait" for that.',
  examples: ['runs logs 0198a7c2-…', 'runs logs -f 0198a7c2-…', 'runs logs -f 0198a7c2-… --json | jq .metrics.loss'],
})
  .argument('<run>', 'id')
  .option('-f, --follow', 'follow the run until it has ended')
  .action(async (id, { follow, ...options }) => {
    const registry = await connect(options);
    const { run } = await registry.ask(SHOW, { id });
    if (run === null) throw noRun(id);
    if (follow !== true && run.eventCount === 0) return;
    using _left = detachOnInterrupt(id);
    for await (const event of registry.follow(id, 0)) {
      process.stdout.write(`${options.json === true ? JSON.stringify(event) : wordsOf(event)}\n`);
      if (follow !== true && event.sequence >= run.eventCount) break;
    }
  });

function wordsOf({ at, kind, progress, message, metrics }: RunEvent): string {
  const numbers = [...numbersOf(metrics)].map(
    ([name, value]) => `${name} ${Number.isInteger(value) ? value : value.toPrecision(4)}`,
  );
  return [
    styleText('dim', at, { stream: process.stdout }),
    kind.padEnd(10),
    ...(progress === null ? [] : [`${Math.round(progress * 100)} %`]),
    ...(message === null ? [] : [message]),
    ...numbers,
  ].join('  ');
}

const waitCommand = clientCommand('wait', {
  summary: 'wait until a run has ended',
  details:
    'Waits until a run has ended, and shows its progress. Exit code 0 if it succeeded, 4 if it failed or was canceled.',
  examples: ['runs wait 0198a7c2-…', 'runs wait 0198a7c2-… --quiet && echo done'],
})
  .argument('<run>', 'id')
  .action(async (id, options) => {
    const run = await awaitRun(await connect(options), options, id);
    show(options, { data: run, names: [run.id], text: `Run ${run.id} ${paintStatus(run.status)}.` });
  });

const cancelCommand = clientCommand('cancel', {
  summary: 'cancel a queued or running run',
  examples: ['runs cancel 0198a7c2-…'],
})
  .argument('<run>', 'id')
  .action(async (id, options) => {
    const { cancelRun } = await (await connect(options)).ask(CANCEL, { id });
    const run = granted(cancelRun.run, cancelRun);
    show(options, { data: run, names: [run.id], text: `Run ${run.id} is ${paintStatus(run.status)}.` });
  });

const resumeCommand = clientCommand('resume', {
  summary: 'continue a failed or canceled pretraining from its last kept state',
  examples: ['runs resume 0198a7c2-…', 'runs resume 0198a7c2-… --wait'],
})
  .argument('<run>', 'id')
  .option('--wait', 'wait until the run has ended')
  .action(async (id, { wait, ...options }) => {
    const registry = await connect(options);
    const { resumeRun } = await registry.ask(RESUME, { id });
    const run = granted(resumeRun.run, resumeRun);
    if (wait === true) requireSuccess(await awaitRun(registry, options, id));
    show(options, { data: run, names: [run.id], text: `Run ${run.id} continues.` });
  });

function noRun(id: string): CommandFailure {
  return new CommandFailure({ message: `The run ${id} does not exist.`, hint: 'List the runs: paraffin runs ls' });
}

export function runCommands(): Command {
  const runs = group('runs', 'list, show, follow, cancel and resume runs');
  for (const each of [listCommand, showCommand, logsCommand, waitCommand, cancelCommand, resumeCommand])
    runs.addCommand(each);
  return runs;
}
