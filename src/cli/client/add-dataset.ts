/** `paraffin datasets add`: adds a dataset to the catalogue. */
import { listOf, namesOf, numberFrom, oneOf, texts } from '../command.ts';
import { clientCommand, connect, granted } from './connection.ts';
import { IMAGE_KINDS, TASKS } from './dataset-choices.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql } from './graphql.ts';
import { paint, show } from './output.ts';

const ADD = graphql(
  `
    mutation AddDataset($input: CreateDatasetInput!) {
      createDataset(input: $input) {
        dataset {
          id
          slug
          name
        }
        userErrors {
          ...UserErrorFields
        }
      }
    }
  `,
  [USER_ERROR_FIELDS],
);

export const addCommand = clientCommand('add', {
  summary: 'add a dataset to the catalogue',
  details: 'Adds a dataset to the catalogue. Facts that are not given are unknown.',
  examples: [
    'datasets add "Our colon biopsies" --organ colon --stain he --kind roi --microns-per-pixel 0.25 --task classification',
  ],
})
  .argument('<name>', 'name of the dataset')
  .option('--slug <slug>', 'default: derived from the name')
  .option('--kind <kind>', namesOf(IMAGE_KINDS).join(', '), oneOf(IMAGE_KINDS), 'PATCH' as const)
  .option('--organ <organs>', 'codes or names', texts)
  .option('--stain <stains>', 'codes or names', texts)
  .option('--task <tasks>', namesOf(TASKS).join(', '), listOf(oneOf(TASKS)))
  .option('--magnification <power>', 'magnification of the objective', numberFrom(0))
  .option('--microns-per-pixel <um>', 'resolution; overrides the magnification', numberFrom(0))
  .option('--description <text>', 'description')
  .option('--licence <name>', 'e.g. CC-BY-4.0')
  .option('--homepage <address>', 'URL of its home page')
  .option('--cut-from <slugs>', 'datasets from whose slides the images were taken', texts)
  .option('--synthetic', 'the images were drawn by a program')
  .action(
    async (
      name,
      {
        slug,
        kind,
        organ,
        stain,
        task,
        magnification,
        micronsPerPixel,
        description,
        licence,
        homepage,
        cutFrom,
        synthetic,
        ...options
      },
    ) => {
      const registry = await connect(options);
      const { createDataset } = await registry.ask(ADD, {
        input: {
          name,
          imageKind: kind,
          synthetic: synthetic === true,
          organs: [...(organ ?? [])],
          stains: [...(stain ?? [])],
          tasks: [...(task ?? [])],
          parentCollections: [...(cutFrom ?? [])],
          resolutions:
            magnification === undefined && micronsPerPixel === undefined
              ? []
              : [{ magnification: magnification ?? null, micronsPerPixel: micronsPerPixel ?? null }],
          ...(slug === undefined ? {} : { slug }),
          ...(description === undefined ? {} : { description }),
          ...(licence === undefined ? {} : { licence }),
          ...(homepage === undefined ? {} : { homepageUrl: homepage }),
        },
      });
      const dataset = granted(createDataset.dataset, createDataset);
      show(options, {
        data: dataset,
        names: [dataset.slug],
        text: `${dataset.name} is in the catalogue as ${paint('bold', dataset.slug)}.\nImport its images: paraffin datasets import ${dataset.slug} FOLDER`,
      });
    },
  );
