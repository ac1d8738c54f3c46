/** `paraffin models`: encoders, their checkpoints and aliases. */
import type { Command } from '@commander-js/extra-typings';
import { group, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { formatByteSize, table } from '../terminal.ts';
import { clientCommand, connect, granted } from './connection.ts';
import { METRIC_FIELDS, USER_ERROR_FIELDS } from './fragments.ts';
import { graphql } from './graphql.ts';
import { importModelCommand } from './import-model.ts';
import { facts, interval, intervalNotes, paint, printNote, show } from './output.ts';
import { findCheckpoint, idOrSlug } from './references.ts';

const LIST = graphql(`
  query ListModels($filter: ModelFilter, $first: Int) {
    models(filter: $filter, first: $first) {
      totalCount
      nodes {
        id
        slug
        name
        licence
        aliases {
          name
          checkpoint {
            version
          }
        }
        checkpoints(first: 1) {
          totalCount
          nodes {
            id
            version
            encoder
            architecture {
              name
            }
            createdAt
            sha256
          }
        }
      }
    }
  }
`);

const SHOW = graphql(
  `
    query ShowModel($id: ID, $slug: String) {
      model(id: $id, slug: $slug) {
        id
        slug
        name
        description
        licence
        aliases {
          name
          checkpoint {
            id
            version
          }
        }
        checkpoints(first: 50) {
          totalCount
          nodes {
            id
            version
            encoder
            architecture {
              name
            }
            embeddingDim
            step
            createdAt
            sha256
            byteSize
            formats
            publishedSlug
            inputContract {
              imageSizePx
              channelMean
              channelStd
              valueRange
              channelOrder
              resizeRule
              interpolation
              pooling
              micronsPerPixelMin
              micronsPerPixelMax
            }
            precision {
              sentence
            }
            isTrainingKnown
            sameWeights {
              version
              model {
                slug
              }
            }
            trainedOn {
              id
              version
              dataset {
                slug
              }
            }
            importedFrom {
              url
              fileName
              licence
              accessUrl
            }
            sourceRun {
              id
            }
            evaluations(first: 20) {
              nodes {
                id
                protocol
                datasetVersion {
                  version
                  dataset {
                    slug
                  }
                }
                groupsKnown
                intervalCaveat
                metrics {
                  ...MetricFields
                }
              }
            }
          }
        }
      }
    }
  `,
  [METRIC_FIELDS],
);

const SET_ALIAS = graphql(
  `
    mutation SetAlias($input: SetModelAliasInput!) {
      setModelAlias(input: $input) {
        model {
          slug
          aliases {
            name
            checkpoint {
              id
              version
            }
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
  summary: 'newest first',
  examples: ['models ls', 'models ls --search resnet'],
})
  .option('-s, --search <text>', 'part of a slug or name')
  .option('-n, --limit <count>', 'show at most this number, up to 200', wholeNumberFrom(1), 50)
  .action(async ({ search, limit, ...options }) => {
    const { models } = await (
      await connect(options)
    ).ask(LIST, { filter: search === undefined ? {} : { search }, first: Math.min(limit, 200) });
    const rows = models.nodes.map(({ slug, licence, aliases, checkpoints }) => {
      const [newest] = checkpoints.nodes;
      return [
        slug,
        newest === undefined ? '' : newest.architecture.name.toLowerCase(),
        String(checkpoints.totalCount),
        newest === undefined ? '' : newest.sha256 === null ? 'not imported' : newest.createdAt,
        aliases.map(({ name, checkpoint }) => `${name}=${checkpoint.version}`).join(' '),
        licence ?? '',
      ];
    });
    show(options, {
      data: models.nodes,
      names: models.nodes.map((model) => model.slug),
      text:
        rows.length === 0
          ? 'No model matches.'
          : table(['model', 'encoder', 'checkpoints', 'newest', 'aliases', 'licence'], rows),
    });
    if (models.totalCount > models.nodes.length)
      printNote(options, `${models.nodes.length} of ${models.totalCount}; --limit shows more.`);
  });

const showCommand = clientCommand('show', {
  summary: 'show one model: checkpoints, preprocessing, evaluations',
  examples: ['models show colon', 'models show colon --json'],
})
  .argument('<model>', 'slug or id')
  .action(async (reference, options) => {
    const { model } = await (await connect(options)).ask(SHOW, idOrSlug(reference));
    if (model === null)
      throw new CommandFailure({
        message: `The model "${reference}" does not exist.`,
        hint: 'List the models: paraffin models ls',
      });
    const text = [
      paint('bold', model.name),
      ...(model.description === null ? [] : [model.description]),
      facts([
        ['slug', model.slug],
        ['licence', model.licence],
        ['aliases', model.aliases.map(({ name, checkpoint }) => `${name} = version ${checkpoint.version}`).join(', ')],
      ]),
      ...model.checkpoints.nodes.flatMap((checkpoint) => {
        const { inputContract: contract, importedFrom } = checkpoint;
        return [
          `${paint('bold', `version ${checkpoint.version}`)}  ${checkpoint.architecture.name.toLowerCase()}, embeddings of ${checkpoint.embeddingDim}${checkpoint.byteSize === null ? '' : `, ${formatByteSize(checkpoint.byteSize)}`}  ${paint('dim', checkpoint.id)}`,
          `  prepare: ${contract.imageSizePx} px ${contract.channelOrder}, ${contract.resizeRule.toLowerCase().replaceAll('_', ' ')}, ${contract.interpolation.toLowerCase()}, values to [${contract.valueRange.join(', ')}], mean [${contract.channelMean.join(', ')}], std [${contract.channelStd.join(', ')}]${contract.pooling === 'AVGPOOL' ? '' : `; pooling ${contract.pooling}`}`,
          ...(checkpoint.sha256 === null ? [] : [`  ${checkpoint.precision.sentence}`]),
          ...(checkpoint.trainedOn.length === 0
            ? [`  trained on ${checkpoint.isTrainingKnown ? 'nothing' : 'unknown images'}`]
            : [
                `  trained on ${checkpoint.trainedOn.map(({ version, dataset }) => `${dataset.slug}@${version}`).join(', ')}${checkpoint.sourceRun === null ? '' : ` by run ${checkpoint.sourceRun.id}`}`,
              ]),
          ...(checkpoint.sameWeights.length === 0
            ? []
            : [
                `  the same weights as ${checkpoint.sameWeights.map(({ version, model: other }) => `${other.slug}@${version}`).join(', ')}`,
              ]),
          ...(importedFrom === null
            ? []
            : [
                `  ${checkpoint.sha256 !== null ? 'imported from' : importedFrom.url === null ? 'published as' : 'published at'} ${importedFrom.url ?? importedFrom.fileName ?? 'an unknown file'}`,
                ...(importedFrom.accessUrl === null
                  ? []
                  : [`  the publisher gives access at ${importedFrom.accessUrl}`]),
              ]),
          checkpoint.sha256 === null
            ? `  its weights have not been imported${checkpoint.publishedSlug === null ? '' : `: paraffin models import --published ${checkpoint.publishedSlug}`}`
            : `  ${checkpoint.formats.join(', ').toLowerCase()}; sha256 ${checkpoint.sha256}`,
          ...checkpoint.evaluations.nodes.map(
            ({ protocol, datasetVersion, metrics, ...groups }) =>
              `  ${protocol} on ${datasetVersion.dataset.slug}@${datasetVersion.version}: ${metrics.map((metric) => `${metric.name} ${interval(metric, groups)}`).join(', ')}`,
          ),
          ...intervalNotes(checkpoint.evaluations.nodes).map((note) => `  ${note}`),
        ];
      }),
    ].join('\n');
    show(options, { data: model, names: model.checkpoints.nodes.map((checkpoint) => checkpoint.id), text });
  });

const aliasCommand = clientCommand('alias', {
  summary: 'set an alias such as champion to a checkpoint',
  examples: [
    'models alias colon champion colon@3',
    'models alias colon champion 0198a7c2-…',
    'models alias colon champion --remove',
  ],
})
  .argument('<model>', 'slug')
  .argument('<name>', 'e.g. champion')
  .argument('[checkpoint]', 'id, model@alias, model@version')
  .option('--remove', 'remove the alias')
  .action(async (slug, name, reference, { remove, ...options }) => {
    if ((reference === undefined) !== (remove === true))
      throw new CommandFailure({ exitCode: EXIT.INVALID_ARGUMENTS, message: 'Give a checkpoint, or --remove.' });
    const registry = await connect(options);
    const checkpointId = reference === undefined ? null : (await findCheckpoint(registry, reference)).id;
    const { setModelAlias } = await registry.ask(SET_ALIAS, { input: { modelSlug: slug, name, checkpointId } });
    const model = granted(setModelAlias.model, setModelAlias);
    show(options, {
      data: model,
      names: model.aliases.map((alias) => alias.name),
      text:
        checkpointId === null
          ? `Removed ${slug}@${name}.`
          : `${paint('bold', `${slug}@${name}`)} is checkpoint ${checkpointId}.`,
    });
  });

export function modelCommands(): Command {
  return group('models', 'list, show, import and name encoders')
    .addCommand(listCommand)
    .addCommand(showCommand)
    .addCommand(importModelCommand)
    .addCommand(aliasCommand);
}
