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
  summary: 'catalogue a dataset of your own',
  details: 'Catalogues a dataset of your own. What is not given stays unknown.',
  examples: [
    'datasets add "Our colon biopsies" --organ colon --stain he --kind roi --microns-per-pixel 0.25 --task classification',
  ],
})
  .argument('<name>', 'as people call it')
  .option('--slug <slug>', 'made from the name when left out')
  .option('--kind <kind>', namesOf(IMAGE_KINDS).join(', '), oneOf(IMAGE_KINDS), 'PATCH' as const)
  .option('--organ <organs>', 'codes or names', texts)
  .option('--stain <stains>', 'codes or names', texts)
  .option('--task <tasks>', namesOf(TASKS).join(', '), listOf(oneOf(TASKS)))
  .option('--magnification <power>', 'of the objective', numberFrom(0))
  .option('--microns-per-pixel <um>', 'the authority where it is known', numberFrom(0))
  .option('--description <text>', 'what it is')
  .option('--licence <name>', 'e.g. CC-BY-4.0')
  .option('--homepage <address>', 'where it comes from')
  .option('--cut-from <slugs>', 'datasets whose slides this one is cut from', texts)
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
        text: `${dataset.name} is catalogued as ${paint('bold', dataset.slug)}.\nImport its images: paraffin datasets import ${dataset.slug} FOLDER`,
      });
    },
  );
