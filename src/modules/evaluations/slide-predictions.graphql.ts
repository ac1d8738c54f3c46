/** What evaluations predicted for the patches of a slide, in the API. */
import path from 'node:path';
import { extendType, intArg, list, nonNull, objectType, stringArg } from '../../api/nexus.ts';

const records = path.join(import.meta.dirname, 'evaluations.records.ts');

export const SlidePredictions = objectType({
  name: 'SlidePredictions',
  sourceType: { module: records, export: 'SlidePredictionsRecord' },
  description:
    'What an evaluation predicted for the patches of a slide: both lists have an entry for each, in the order of DatasetVersion.slidePatches, and null for a patch that the evaluation did not test.',
  definition(t) {
    t.field('labelNames', {
      type: nonNull(list(nonNull('String'))),
      description: 'The labels of a classification; empty for REGRESSION.',
    });
    t.string('label', { description: 'The label whose probability is in scores; null for REGRESSION.' });
    t.field('predicted', {
      type: nonNull(list('Int')),
      description: 'The place of the predicted label in labelNames, from 0; null for each patch of a REGRESSION.',
      resolve: ({ predicted }) => [...predicted],
    });
    t.field('scores', {
      type: nonNull(list('Float')),
      description:
        'The probability of the label, rounded to four places; of a REGRESSION the predicted number, to four digits.',
      resolve: ({ scores }) => [...scores],
    });
  },
});

export const EvaluationSlidePredictions = extendType({
  type: 'Evaluation',
  definition(t) {
    t.field('slidePredictions', {
      type: 'SlidePredictions',
      description: 'Null if the version has no such slide, or if no predictions were stored, as in old evaluations.',
      args: {
        position: nonNull(intArg({ description: 'Of the slide in the version, from 0.' })),
        label: stringArg({ description: 'Whose probability is wanted. Default: the last of labelNames.' }),
      },
      resolve: async ({ id }, { position, label }, ctx) =>
        (await ctx.services.evaluations.slidePredictions(ctx.viewer, id, position, label ?? null)) ?? null,
    });
  },
});
