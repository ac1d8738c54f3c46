/** Checkpoints for tests, registered as the pretraining task registers them. */
import { createHash } from 'node:crypto';
import type { NewCheckpoint } from '../../src/modules/models/index.ts';
import type { TestDatabase } from './database.ts';
import type { InputContract } from '../../src/protocol/checkpoint.ts';

export const INPUT_CONTRACT: InputContract = {
  imageSizePx: 224,
  resizeRule: 'SHORT_SIDE_THEN_CENTRE_CROP',
  channelOrder: 'RGB',
  valueRange: [0, 1],
  channelMean: [0.5, 0.5, 0.5],
  channelStd: [0.5, 0.5, 0.5],
  embeddingLayer: 'avgpool',
  pooling: 'AVGPOOL',
  interpolation: 'BILINEAR',
  weightsDtype: 'FLOAT32',
  micronsPerPixelMin: 0.25,
  micronsPerPixelMax: null,
};

/** The id of a new pretraining run. */
export async function makeRun({ db }: TestDatabase): Promise<string> {
  return (await db.run.create({ data: { title: 'made by a test', kind: 'PRETRAINING', config: {} } })).id;
}

export function newCheckpoint(
  facts: Pick<NewCheckpoint, 'modelSlug' | 'sourceRunId'> & Partial<NewCheckpoint>,
): NewCheckpoint {
  return {
    encoder: 'RESNET18',
    embeddingDim: 512,
    inputContract: INPUT_CONTRACT,
    step: 100,
    epoch: 1.5,
    probe: null,
    sha256: 'ab'.repeat(32),
    byteSize: 45_000_000,
    // Distinct for every run and step, as in trainings.
    tensorDigest: createHash('sha256')
      .update(`${facts.sourceRunId} ${facts.step ?? 100}`)
      .digest('hex'),
    golden: null,
    trainedOnVersionIds: [],
    initialCheckpointId: null,
    ...facts,
  };
}
