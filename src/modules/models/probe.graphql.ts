/** API types for the result of a pretraining's own probe. */
import path from 'node:path';
import { enumType, objectType } from '../../api/nexus.ts';
import { areGroupsKnown, intervalCaveat } from '../../statistics/interval-caveat.rules.ts';
import {
  PROBE_SPLITS,
  PROBE_VERDICTS,
  probeAdvice,
  probeOverlapSentence,
  probeSentence,
  verdictOf,
} from '../../protocol/checkpoint-probe.ts';

const probeRules = path.join(import.meta.dirname, '../../protocol/checkpoint-probe.ts');

export const ProbeSplit = enumType({
  name: 'ProbeSplit',
  description:
    'How the images of a probe are divided: by the split of the version, by folds over groups, or by folds over images if neither is possible.',
  members: [...PROBE_SPLITS],
});

export const ProbeVerdict = enumType({
  name: 'ProbeVerdict',
  description: 'BETTER or WORSE if the paired 95 % interval does not contain 0.',
  members: [...PROBE_VERDICTS],
});

export const ProbeScores = objectType({
  name: 'ProbeScores',
  definition(t) {
    t.nonNull.float('ridgeMacroF1');
    t.nonNull.float('knnMacroF1');
  },
});

export const ProbeDifference = objectType({
  name: 'ProbeDifference',
  sourceType: { module: probeRules, export: 'PairedDifference' },
  description:
    'Difference of the macro F1 of the ridge regression, with the paired 95 % interval by a bootstrap over groups.',
  definition(t) {
    t.nonNull.float('value');
    t.nonNull.float('ci95Low');
    t.nonNull.float('ci95High');
    t.nonNull.field('verdict', { type: 'ProbeVerdict', resolve: verdictOf });
  },
});

export const CheckpointProbe = objectType({
  name: 'CheckpointProbe',
  sourceType: { module: probeRules, export: 'CheckpointProbeRecord' },
  description:
    'Evaluation of an encoder during its pretraining: kNN and ridge regression on a fixed subset of labelled images, compared with a random encoder and colour statistics.',
  definition(t) {
    t.nonNull.id('datasetVersionId');
    t.nonNull.string('datasetVersionName', { description: 'slug@version at the time of the launch.' });
    t.nonNull.int('imageCount');
    t.nonNull.int('groupCount', {
      description: 'Number of known groups; in older probes, each image without a group counts as one.',
    });
    t.boolean('groupsKnown', {
      description:
        'True if the patient or slide of every image of the probe is known. False: the intervals are too narrow. Null for an older probe, which did not record it.',
      resolve: ({ ungroupedImageCount }) => areGroupsKnown(ungroupedImageCount),
    });
    t.string('intervalCaveat', {
      description: 'What to say beside the intervals of the probe; null if groupsKnown is true.',
      resolve: ({ ungroupedImageCount }) => intervalCaveat(ungroupedImageCount),
    });
    t.nonNull.field('split', { type: 'ProbeSplit' });
    t.nonNull.int('step');
    t.nonNull.float('ridgeMacroF1', { description: '0..1' });
    t.nonNull.float('knnMacroF1', { description: '0..1' });
    t.nonNull.field('randomEncoder', { type: 'ProbeScores' });
    t.nonNull.field('colourStatistics', { type: 'ProbeScores' });
    t.nonNull.field('overRandomEncoder', { type: 'ProbeDifference' });
    t.nonNull.field('overColourStatistics', { type: 'ProbeDifference' });
    t.int('sharedImageCount', {
      description:
        'Images that are also in the training, without their labels; null if a version was sealed before images were hashed.',
    });
    t.nonNull.int('sharedGroupCount');
    t.nonNull.string('sentence', {
      description: 'e.g. worse than a random encoder on kather@1 by 0.063 (95 % interval 0.040 to 0.086), ...',
      resolve: probeSentence,
    });
    t.string('overlap', {
      description: 'Overlap of the probe with the training; null if there is none.',
      resolve: probeOverlapSentence,
    });
    t.string('advice', {
      description: 'Advice; null if the encoder is better than a random one.',
      resolve: probeAdvice,
    });
  },
});
