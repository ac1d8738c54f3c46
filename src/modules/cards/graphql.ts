/** API fields with the URLs of the cards of datasets and checkpoints. */
import { extendType } from '../../api/nexus.ts';

export const DatasetCard = extendType({
  type: 'Dataset',
  definition(t) {
    t.nonNull.string('cardUrl', {
      description:
        'Croissant 1.1 JSON-LD, a path on this server; ?version=2 describes that version instead of the latest sealed one.',
      resolve: (dataset) => `/datasets/${dataset.id}/croissant.json`,
    });
  },
});

export const CheckpointCard = extendType({
  type: 'Checkpoint',
  definition(t) {
    t.nonNull.string('cardUrl', {
      description: 'Markdown with YAML front matter, as on Hugging Face; a path on this server.',
      resolve: (checkpoint) => `/checkpoints/${checkpoint.id}/README.md`,
    });
  },
});
