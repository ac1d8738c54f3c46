/** `paraffin workers`: who executes runs, and what each carries. */
import type { Command } from '@commander-js/extra-typings';
import { group } from '../command.ts';
import { table } from '../terminal.ts';
import { clientCommand, connect, granted } from './connection.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql } from './graphql.ts';
import { paint, show } from './output.ts';

const LIST = graphql(`
  query ListWorkers {
    workers {
      name
      version
      kinds
      devices
      places {
        kinds
        capabilities {
          sentence
          device
          bfloat16
          memoryMiB
          gpuMemoryMiB
          longestSeconds
          labels
        }
      }
      isAlive
      isDraining
      firstSeenAt
      lastHeardAt
      runs {
        id
        title
        progress
      }
    }
  }
`);
const DRAIN = graphql(
  `
    mutation DrainWorker($name: String!, $isDraining: Boolean!) {
      drainWorker(name: $name, isDraining: $isDraining) {
        worker {
          name
          isDraining
          runs {
            id
          }
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

const listCommand = clientCommand('ls', {
  summary: 'list workers: version, devices, what each has and carries, when it was last heard',
  examples: ['workers ls', 'workers ls --json'],
}).action(async (options) => {
  const { workers } = await (await connect(options)).ask(LIST, {});
  const rows = workers.map((worker) => [
    worker.name,
    worker.isAlive ? (worker.isDraining ? paint('yellow', 'draining') : 'alive') : paint('red', 'silent'),
    worker.version,
    worker.kinds.join(' ').toLowerCase(),
    worker.devices.join(' '),
    [...new Set(worker.places.map(({ capabilities }) => capabilities.sentence))].join('; '),
    worker.runs.map(({ title, progress }) => `${title} (${Math.floor(100 * progress)} %)`).join('; '),
    worker.lastHeardAt,
  ]);
  show(options, {
    data: workers,
    names: workers.map(({ name }) => name),
    text:
      rows.length === 0
        ? 'No worker was heard in the last week. "paraffin worker --help" says how to start one.'
        : table(['worker', 'state', 'version', 'takes', 'devices', 'has', 'carries', 'last heard'], rows),
  });
});

const drainCommand = clientCommand('drain', {
  summary: 'let a worker end its runs and take no more',
  examples: ['workers drain gpu-3', 'workers drain gpu-3 --undo'],
})
  .argument('<name>', 'of the worker')
  .option('--undo', 'let it take runs again')
  .action(async (name, { undo, ...options }) => {
    const { drainWorker } = await (await connect(options)).ask(DRAIN, { name, isDraining: undo !== true });
    const worker = granted(drainWorker.worker, drainWorker);
    const count = worker.runs.length;
    show(options, {
      data: worker,
      names: [worker.name],
      text: worker.isDraining
        ? `${worker.name} takes no more runs; it carries ${count === 1 ? '1 run' : `${count} runs`}.`
        : `${worker.name} takes runs again.`,
    });
  });

export function workerCommands(): Command {
  return group('workers', 'see who executes runs').addCommand(listCommand).addCommand(drainCommand);
}
