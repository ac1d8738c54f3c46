/** `paraffin models import`: weights that were made elsewhere. */
import { jsonObject, namesOf, numberFrom, numbers, oneOf, wholeNumberFrom } from '../command.ts';
import { CommandFailure, EXIT } from '../exit-codes.ts';
import { upload } from './bytes.ts';
import { weightsToUpload } from './weights-files.ts';
import { clientCommand, connect, granted, rejectErrors } from './connection.ts';
import { USER_ERROR_FIELDS } from './fragments.ts';
import { graphql, type VariablesOf } from './graphql.ts';
import { paint, show } from './output.ts';

const IMPORT = graphql(
  `
    mutation ImportModel($input: ImportCheckpointInput!) {
      importCheckpoint(input: $input) {
        checkpoint {
          id
          version
          encoder
          architecture {
            name
          }
          embeddingDim
          sha256
          byteSize
          model {
            slug
          }
          importedFrom {
            fileName
            contents {
              format
              keyPrefix
              inertGlobals
              ignoredParts
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
type ImportInput = VariablesOf<typeof IMPORT>['input'];
type Contract = NonNullable<ImportInput['inputContract']>;

const ENCODERS: Readonly<Record<Exclude<NonNullable<ImportInput['encoder']>, 'OTHER'>, true>> = {
  RESNET18: true,
  RESNET34: true,
  RESNET50: true,
  RESNET101: true,
  VIT_TI16: true,
  VIT_S16: true,
  VIT_B16: true,
};
const RESIZE_RULES: Readonly<Record<NonNullable<Contract['resizeRule']>, true>> = {
  SHORT_SIDE_THEN_CENTRE_CROP: true,
  STRETCH: true,
};
const POOLINGS: Readonly<Record<NonNullable<Contract['pooling']>, true>> = {
  AVGPOOL: true,
  CLS: true,
  MEAN: true,
  CLS_AND_MEAN: true,
};
const INTERPOLATIONS: Readonly<Record<NonNullable<Contract['interpolation']>, true>> = {
  BILINEAR: true,
  BICUBIC: true,
};

export const importModelCommand = clientCommand('import', {
  summary: 'import external weights',
  details:
    'Imports external weights: safetensors or a PyTorch checkpoint (read without executing it), from this machine or from an http(s) URL that the server fetches. The preprocessing of images must be given, because the weights do not contain it; that of a published checkpoint is known, and a file alone is compared with those.',
  examples: [
    'models import encoder.ckpt --model mine --image-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225',
    'models import https://example.org/encoder.pt --model theirs --image-size 224 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --sha256 9f86d0…',
    'models import vit.safetensors --model vit --image-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --pooling CLS',
    'models import --published ciga-resnet18',
    'models import pytorch_model.bin --published uni',
    'models import resnet50-0676ba61.pth',
    'models import model.safetensors.index.json --published virchow2',
  ],
})
  .argument('[source]', 'on this machine: a file, or the index of shards or their folder; or a URL')
  .option('--published <name>', 'a published checkpoint of the catalogue, whose facts are known')
  .option('-m, --model <slug>', 'the model that gets a new version; created if it does not exist')
  .option('--image-size <px>', 'side of the square input', wholeNumberFrom(1))
  .option('--mean <values>', 'mean of each channel, e.g. 0.485,0.456,0.406', numbers)
  .option('--std <values>', 'standard deviation of each channel', numbers)
  .option('--resize-rule <rule>', namesOf(RESIZE_RULES).join(', '), oneOf(RESIZE_RULES))
  .option('--interpolation <name>', namesOf(INTERPOLATIONS).join(', '), oneOf(INTERPOLATIONS))
  .option('--pooling <name>', `${namesOf(POOLINGS).join(', ')}; for a vision transformer`, oneOf(POOLINGS))
  .option(
    '--specification <json>',
    'what the tensors do not tell about the network, e.g. {"headCount": 12}',
    jsonObject,
  )
  .option('--microns-per-pixel-min <um>', 'finest resolution of the training images', numberFrom(0))
  .option('--microns-per-pixel-max <um>', 'coarsest resolution of the training images', numberFrom(0))
  .option(
    '--encoder <name>',
    `architecture that the file must contain: ${namesOf(ENCODERS).join(', ')}`,
    oneOf(ENCODERS),
  )
  .option('--key-prefix <text>', 'prefix of the tensor names of the encoder; common prefixes are detected')
  .option('--sha256 <digest>', 'sha256 that the file must have')
  .option('--licence <name>', 'of the file')
  .action(
    async (
      source,
      {
        published,
        model,
        imageSize,
        mean,
        std,
        resizeRule,
        interpolation,
        pooling,
        micronsPerPixelMin,
        micronsPerPixelMax,
        encoder,
        keyPrefix,
        specification,
        sha256,
        licence,
        ...options
      },
    ) => {
      const registry = await connect(options);
      const identity = (): ImportInput => {
        if (published !== undefined) return { publishedCheckpoint: published };
        const isOnlyFile = [model, imageSize, mean, std, licence].every((each) => each === undefined);
        if (isOnlyFile && source !== undefined) return {};
        if (
          source === undefined ||
          model === undefined ||
          imageSize === undefined ||
          mean === undefined ||
          std === undefined
        ) {
          throw new CommandFailure({
            exitCode: EXIT.INVALID_ARGUMENTS,
            message:
              'Give a file or URL with --model, --image-size, --mean and --std, or --published, or only a file of a published checkpoint.',
            hint: 'See: paraffin models import --help',
          });
        }
        return {
          modelSlug: model,
          inputContract: {
            imageSizePx: imageSize,
            channelMean: [...mean],
            channelStd: [...std],
            ...(resizeRule === undefined ? {} : { resizeRule }),
            ...(interpolation === undefined ? {} : { interpolation }),
            ...(pooling === undefined ? {} : { pooling }),
            ...(micronsPerPixelMin === undefined ? {} : { micronsPerPixelMin }),
            ...(micronsPerPixelMax === undefined ? {} : { micronsPerPixelMax }),
          },
        };
      };
      const about: ImportInput = {
        ...identity(),
        ...(encoder === undefined ? {} : { encoder }),
        ...(keyPrefix === undefined ? {} : { keyPrefix }),
        ...(specification === undefined ? {} : { specification }),
        ...(sha256 === undefined ? {} : { sha256 }),
        ...(licence === undefined ? {} : { licence }),
      };
      const from = async (): Promise<{ readonly input: ImportInput; readonly forget?: () => Promise<void> }> => {
        if (source === undefined) return { input: {} };
        if (/^https?:\/\//.test(source)) return { input: { url: source } };
        // The options are validated before gigabytes are uploaded.
        rejectErrors((await registry.ask(IMPORT, { input: { ...about, validateOnly: true } })).importCheckpoint);
        const { uploadId, forget } = await upload(registry, options, await weightsToUpload(source));
        return { input: { uploadId }, forget };
      };
      const { input, forget } = await from();
      const { importCheckpoint } = await registry.ask(IMPORT, {
        input: { ...about, ...input },
      });
      const checkpoint = granted(importCheckpoint.checkpoint, importCheckpoint);
      await forget?.();
      const contents = checkpoint.importedFrom?.contents ?? null;
      show(options, {
        data: checkpoint,
        names: [checkpoint.id],
        text: [
          `${paint('bold', `${checkpoint.model.slug}@${checkpoint.version}`)}  checkpoint ${checkpoint.id}, ${checkpoint.architecture.name.toLowerCase()}, sha256 ${checkpoint.sha256 ?? 'not known'}`,
          ...(contents === null || contents.inertGlobals.length === 0
            ? []
            : [
                paint(
                  'yellow',
                  `Functions that Python would have called, but Paraffin did not: ${contents.inertGlobals.join(', ')}`,
                ),
              ]),
          ...(contents === null || contents.keyPrefix === ''
            ? []
            : [`The encoder has the prefix "${contents.keyPrefix}" in the file.`]),
          ...(contents === null || contents.ignoredParts.length === 0
            ? []
            : [`Left out: ${contents.ignoredParts.join('; ')}`]),
        ].join('\n'),
      });
    },
  );
